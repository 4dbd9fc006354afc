"""How fast are the environments? Our whole stack beside the bare library, on the same settings.

python benchmarks/env_rate.py [--json] [CASE ...]        # limit: 0.9 times the bare library

Steps per CPU-second of one process, 64x64 colour images; each case in a process of its own, where
bare and ours take turns (A B A B ...), five blocks each, of which the median counts. A block is a
fresh environment and ends before its episode does; building and resetting it is not timed. Ours is
what a worker steps: the suite's environment, checked and turned into rows. Memory is what a process
with that one environment holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import save

LIMIT = 0.9
BLOCKS = 5
WARM_UP = 3
SEED = 1
Step = Callable[[Any], object]


def bare_atari(**_: Any) -> Step:
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    raw = gymnasium.make(
        "ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0, full_action_space=False
    )
    env = AtariPreprocessing(raw, screen_size=64, grayscale_obs=False)
    env.reset(seed=SEED)
    return env.step


def bare_dmc(quality: str) -> Step:
    from reverie_envs.dmc import suite  # names the OpenGL backend first
    from reverie_envs.mujoco_camera import set_quality

    env = suite.load("walker", "walk", task_kwargs={"random": SEED})
    if quality != "native":
        set_quality(env.physics.model, quality, 64)
    env.reset()

    def step(action: Any) -> object:
        env.step(action)
        env.step(action)
        return env.physics.render(64, 64, camera_id=0)

    return step


def bare_metaworld(quality: str) -> Step:
    from reverie_envs.metaworld import ALL
    from reverie_envs.mujoco_camera import set_quality

    env = ALL["door-lock"](seed=SEED, render_mode="rgb_array")
    renderer = env.mujoco_renderer
    renderer.width = renderer.height = 64
    renderer.camera_id = env.model.camera("corner").id
    if quality != "native":
        set_quality(env.model, quality, 64)
    env.reset()

    def step(action: Any) -> object:
        env.step(action)
        return env.render()

    return step


def bare_crafter(**_: Any) -> Step:
    import crafter

    env = crafter.Env(seed=SEED)
    env.reset()
    return env.step


WALKER, LOCK = "dmc/walker_walk", "metaworld/door-lock"
CASES: dict[str, tuple[str, dict[str, str], Callable[..., Step], int]] = {
    "atari100k/pong": ("atari100k/pong", {}, bare_atari, 600),
    f"{WALKER} native": (WALKER, {"quality": "native"}, bare_dmc, 40),
    f"{WALKER} light": (WALKER, {"quality": "light"}, bare_dmc, 60),
    f"{WALKER} fast": (WALKER, {"quality": "fast"}, bare_dmc, 120),
    f"{LOCK} native": (LOCK, {"quality": "native"}, bare_metaworld, 12),
    f"{LOCK} light": (LOCK, {"quality": "light"}, bare_metaworld, 20),
    "crafter/reward": ("crafter/reward", {}, bare_crafter, 100),
}
"""Case -> environment, options, bare library, timed steps per block."""


def ours(name: str, options: dict[str, str]) -> tuple[Step, Callable[[], None]]:
    """Return a step of the whole stack, and what closes it."""
    from reverie.config import resolve_env
    from reverie.env_factory import make_vector_env

    suite, _, task = name.partition("/")
    config = resolve_env({"suite": suite, "task": task, **options})
    vector = make_vector_env(config, 1, lambda env, episode: SEED)
    mask = np.ones(1, bool)
    vector.step(vector.spaces.action.zeros(1), mask)
    return lambda action: vector.step(np.asarray(action)[None], mask), vector.close


def actions(name: str, options: dict[str, str], count: int) -> list[Any]:
    """Random actions; all these environments have actions from -1 to 1, or discrete ones."""
    import reverie

    env = reverie.make_env(name, **options)
    env.action_space.seed(SEED)
    drawn = [env.action_space.sample() for _ in range(count)]
    env.close()
    return drawn


def rate(step: Step, drawn: list[Any]) -> float:
    """Steps per CPU-second."""
    for action in drawn[:WARM_UP]:
        step(action)
    begin = time.process_time()
    for action in drawn[WARM_UP:]:
        step(action)
    return (len(drawn) - WARM_UP) / (time.process_time() - begin)


def compare(case: str) -> dict[str, Any]:
    """Alternate bare and ours in this process."""
    name, options, bare, steps = CASES[case]
    drawn = actions(name, options, steps + WARM_UP)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(BLOCKS):
        rates["bare"].append(rate(bare(**options), drawn))
        step, close = ours(name, options)
        rates["ours"].append(rate(step, drawn))
        close()
    medians = {who: statistics.median(found) for who, found in rates.items()}
    return {
        **{f"{who}_steps_per_cpu_s": round(value, 1) for who, value in medians.items()},
        "ratio": round(medians["ours"] / medians["bare"], 3),
        "blocks": {who: [round(value, 1) for value in found] for who, found in rates.items()},
    }


def memory(case: str, who: str) -> dict[str, float]:
    """Resident megabytes of this process after a few steps of one environment."""
    name, options, bare, _ = CASES[case]
    step = bare(**options) if who == "bare" else ours(name, options)[0]
    rate(step, actions(name, options, WARM_UP + 5))
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return {f"{who}_mb": round(int(line.split()[1]) / 1024)}
    return {}


def in_process(*arguments: str) -> dict[str, Any]:
    """Run this file with these arguments in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {list(CASES)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--compare", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compare:
        print(json.dumps(compare(options.compare)))
        return
    if options.memory:
        print(json.dumps(memory(*options.memory)))
        return
    figures: dict[str, Any] = {"limit": LIMIT}
    for case in options.cases or CASES:
        found = in_process("--compare", case)
        for who in ("bare", "ours"):
            found |= in_process("--memory", case, who)
        figures[case] = found
        if not options.json:
            print(case, {key: value for key, value in found.items() if key != "blocks"}, flush=True)
    if options.json:
        print(json.dumps(figures))
    print(save("env_rate", figures))


if __name__ == "__main__":
    main()
