"""How fast are the environments? Our whole stack beside the bare library, on the same settings.

python benchmarks/env_rate.py [--json] [CASE ...]        # limit: 0.9 times the bare library

Steps per CPU-second, 64x64 colour images; each case in a process of its own, where bare and ours
take turns (A B A B ...), five blocks each, of which the median counts. A block is a fresh
environment and ends before its episode does; building and resetting it is not timed. Ours is what a
worker steps: the suite's environment, checked and turned into rows. CPU time and memory are those
of the process and of what it started, so that an isolated environment's own Python counts. "x 8"
steps eight environments at once. A case whose packages are not there is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import save, saved

LIMIT = 0.9
BLOCKS = 5
WARM_UP = 3
SEED = 1


class Stepper(NamedTuple):
    """Environments that were reset: how to step them with actions [N, ...], and to close them."""

    step: Callable[[Any], object]
    close: Callable[[], object] = lambda: None


def bare_atari(**_: Any) -> Stepper:
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    raw = gymnasium.make(
        "ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0, full_action_space=False
    )
    env = AtariPreprocessing(raw, screen_size=64, grayscale_obs=False)
    env.reset(seed=SEED)
    return Stepper(lambda actions: env.step(actions[0]), env.close)


def bare_atari_vector(**_: Any) -> Stepper:
    from ale_py.vector_env import AtariVectorEnv

    env = AtariVectorEnv(
        "pong",
        8,
        num_threads=1,
        img_height=64,
        img_width=64,
        grayscale=False,
        stack_num=1,
        reward_clipping=False,
        use_fire_reset=False,
    )
    env.reset(seed=SEED)
    return Stepper(env.step, env.close)


def bare_dmc(quality: str) -> Stepper:
    from reverie_envs.dmc import control_suite
    from reverie_envs.mujoco_camera import set_quality

    env = control_suite().load("walker", "walk", task_kwargs={"random": SEED})
    if quality != "native":
        set_quality(env.physics.model, quality, 64)
    env.reset()

    def step(actions: Any) -> object:
        env.step(actions[0])
        env.step(actions[0])
        return env.physics.render(64, 64, camera_id=0)

    return Stepper(step)


def bare_metaworld(quality: str) -> Stepper:
    from reverie_envs.metaworld import environments
    from reverie_envs.mujoco_camera import set_quality

    env = environments()["door-lock"](seed=SEED, render_mode="rgb_array")
    renderer = env.mujoco_renderer
    renderer.width = renderer.height = 64
    renderer.camera_id = env.model.camera("corner").id
    if quality != "native":
        set_quality(env.model, quality, 64)
    env.reset()

    def step(actions: Any) -> object:
        env.step(actions[0])
        return env.render()

    return Stepper(step)


def bare_crafter(**_: Any) -> Stepper:
    import crafter

    env = crafter.Env(seed=SEED)
    env.reset()
    return Stepper(lambda actions: env.step(actions[0]))


ROBODESK = """
import json, sys
from robodesk import RoboDesk
env = RoboDesk("open_slide", "dense", 50, episode_length=0, image_size=64)
env.reset()
print("ready", flush=True)
for line in sys.stdin:
    env.step(json.loads(line))
    print("stepped", flush=True)
"""
"""What its own Python runs; the two lines that travel per step take 0.01 % of its time."""


def bare_robodesk(**_: Any) -> Stepper:
    from reverie_envs.venvs import python_of

    child = subprocess.Popen(
        [python_of("robodesk"), "-c", ROBODESK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"MUJOCO_GL": "egl", **os.environ},
    )
    assert child.stdin is not None, child
    assert child.stdout is not None, child
    tell, hear = child.stdin, child.stdout
    hear.readline()

    def step(actions: Any) -> object:
        print(json.dumps(actions[0].tolist()), file=tell, flush=True)
        return hear.readline()

    def close() -> None:
        tell.close()
        hear.close()
        child.wait()

    return Stepper(step, close)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the result."""

    env: str
    bare: Callable[..., Stepper]
    steps: int
    """Timed steps per block."""
    options: dict[str, str] = field(default_factory=dict[str, str])
    count: int = 1
    """Environments stepped at once."""


def rendered(env: str, bare: Callable[..., Stepper], quality: str, steps: int) -> Case:
    return Case(env=env, bare=bare, steps=steps, options={"quality": quality})


WALKER, LOCK = "dmc/walker_walk", "metaworld/door-lock"
CASES = {
    "atari100k/pong": Case(env="atari100k/pong", bare=bare_atari, steps=600),
    "atari100k/pong x 8": Case(env="atari100k/pong", bare=bare_atari_vector, steps=150, count=8),
    f"{WALKER} native": rendered(WALKER, bare_dmc, "native", 40),
    f"{WALKER} light": rendered(WALKER, bare_dmc, "light", 60),
    f"{WALKER} fast": rendered(WALKER, bare_dmc, "fast", 120),
    f"{LOCK} native": rendered(LOCK, bare_metaworld, "native", 12),
    f"{LOCK} light": rendered(LOCK, bare_metaworld, "light", 20),
    "crafter/reward": Case(env="crafter/reward", bare=bare_crafter, steps=100),
    "robodesk/open_slide": Case(env="robodesk/open_slide", bare=bare_robodesk, steps=10),
}


def ours(case: Case) -> Stepper:
    """The whole stack."""
    from reverie.config import resolve_env
    from reverie.env_factory import make_vector_env

    suite, _, task = case.env.partition("/")
    config = resolve_env({"suite": suite, "task": task, **case.options})
    vector = make_vector_env(config, case.count, lambda env, episode: SEED + env)
    mask = np.ones(case.count, bool)
    vector.step(vector.spaces.action.zeros(case.count), mask)
    return Stepper(lambda actions: vector.step(actions, mask), vector.close)


def random_actions(case: Case, steps: int) -> list[Any]:
    """Actions [N, ...]; all these environments have actions from -1 to 1, or discrete ones."""
    import reverie

    env = reverie.make_env(case.env, **case.options)
    env.action_space.seed(SEED)
    drawn = [np.stack([env.action_space.sample() for _ in range(case.count)]) for _ in range(steps)]
    env.close()
    return drawn


def children() -> Iterator[int]:
    """Yield the living child processes (Linux)."""
    for path in Path("/proc/self/task").glob("*/children"):
        yield from map(int, path.read_text().split())


def cpu_s() -> float:
    """CPU seconds of this process and of its children, with all their threads."""
    clocks = [~pid << 3 | 2 for pid in children()]  # what clock_getcpuclockid(3) gives for them
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def rate(stepper: Stepper, drawn: list[Any]) -> float:
    """Steps per CPU-second, those of all environments together."""
    for actions in drawn[:WARM_UP]:
        stepper.step(actions)
    begin = cpu_s()
    for actions in drawn[WARM_UP:]:
        stepper.step(actions)
    steps = (len(drawn) - WARM_UP) * len(drawn[0])
    return steps / (cpu_s() - begin)


def compare(case: Case) -> dict[str, Any]:
    """Alternate bare and ours in this process."""
    drawn = random_actions(case, case.steps + WARM_UP)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(BLOCKS):
        for who in rates:
            stepper = build(case, who)
            rates[who].append(rate(stepper, drawn))
            stepper.close()
    medians = {who: statistics.median(found) for who, found in rates.items()}
    return {
        **{f"{who}_steps_per_cpu_s": round(value, 2) for who, value in medians.items()},
        "ratio": round(medians["ours"] / medians["bare"], 3),
        "blocks": {who: [round(value, 2) for value in found] for who, found in rates.items()},
    }


def build(case: Case, who: str) -> Stepper:
    return case.bare(**case.options) if who == "bare" else ours(case)


def memory(case: Case, who: str) -> dict[str, float]:
    """Resident megabytes of this process and its children after a few steps."""
    drawn = random_actions(case, WARM_UP + 5)
    stepper = build(case, who)
    rate(stepper, drawn)
    kilobytes = sum(resident_kb(pid) for pid in ("self", *children()))
    stepper.close()
    return {f"{who}_mb": round(kilobytes / 1024)}


def resident_kb(pid: int | str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def in_process(*arguments: str) -> dict[str, Any]:
    """Run this file with these arguments in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def lack_of(case: Case) -> str | None:
    """What has to be done before `case` can be measured."""
    from reverie import registry

    return getattr(registry.suite(case.env.partition("/")[0]), "missing", lambda: None)()


def measured(name: str) -> dict[str, Any]:
    if lack := lack_of(CASES[name]):
        return {"skipped": lack}
    found = in_process("--compare", name)
    for who in ("bare", "ours"):
        found |= in_process("--memory", name, who)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {list(CASES)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--compare", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compare:
        print(json.dumps(compare(CASES[options.compare])))
        return
    if options.memory:
        print(json.dumps(memory(CASES[options.memory[0]], options.memory[1])))
        return
    figures: dict[str, Any] = (saved("env_rate") or {}) | {"limit": LIMIT}
    for name in options.cases or CASES:
        figures[name] = found = measured(name)
        if not options.json:
            print(name, {key: value for key, value in found.items() if key != "blocks"}, flush=True)
    if options.json:
        print(json.dumps(figures))
    print(save("env_rate", figures))


if __name__ == "__main__":
    main()
