"""How fast is one update (or one acting step)? Alone, or in turns with a peer's own code.

    python benchmarks/learner_step.py --algorithm dreamerv3 --dialect 2023 --size small
    python benchmarks/learner_step.py --algorithm dreamerv3 --dialect 2025 --size 12m --act 16
    PEERS=~/peers PEER_PY=~/peers/venv/bin/python \
        python benchmarks/learner_step.py --algorithm dreamerv3 --dialect 2023 --size small \
        --peer dreamerv3-torch --allocator no-mmap

Random images, continuous actions. Settings of the algorithm may follow, as `horizon=10`. With
`--peer`, both stay in memory and are called in turns (A B A B); the figure that counts is the ratio
of median CPU times with one thread, on a GPU that of the times between two events. The peer is
built in the size that ours has, or refuses. `--plain` times the definitions, without their fast
twins.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import save
from measure import (
    MARK,
    Sample,
    Work,
    add_options,
    conditions,
    examine,
    medians,
    serve,
    settle,
    shared_arguments,
)
from peers import PEERS, SIZES, check_size

from reverie import registry
from reverie.compiling import Setting, begin_update, compile_agent
from reverie.config import resolve_algorithm
from reverie.config_tree import apply_overrides
from reverie.protocols import AgentContext, StreamSpec
from reverie.types import FLAG_KEYS, STEP_ID, ActionSpec, ArraySpec, Counters, Spaces, step_ids

LIMITS = {
    ("dreamerv3-torch", "float32"): 0.65,
    ("r2dreamer", "float32"): 0.60,
    ("r2dreamer", "bfloat16"): 0.55,
    ("harmonydream", "float32"): 0.70,
    ("drqv2", "float32"): 1.05,
}
"""Most that an update may cost beside the peer's, both in its first size."""
ACT_LIMITS_MS = {1: 6.0, 16: 20.0}
"""Most CPU milliseconds for one acting step of DreamerV3-2025 12m, by environments."""
MODULE_METHODS = ("forward", "losses", "observe", "observe_step", "imagine_step")


def random_rows(spaces: Spaces, spec: StreamSpec, device: str) -> dict[str, torch.Tensor]:
    """Rows of one stream's shape; every window begins an episode and none ends."""
    rng, shape = np.random.default_rng(0), (spec.batch_size, spec.window_length)
    rows: dict[str, Any] = {
        key: rng.integers(0, 256, (*shape, *obs.shape), dtype=np.uint8)
        for key, obs in spaces.obs.items()
    }
    rows["action"] = spaces.action.sample(rng, shape[0] * shape[1]).reshape(*shape, -1)
    rows["reward"] = rng.normal(size=shape).astype(np.float32)
    rows |= {key: np.zeros(shape, bool) for key in FLAG_KEYS}
    rows["is_first"][:, 0] = True
    rows["policy_version"] = np.zeros(shape, np.int64)
    rows[STEP_ID] = np.stack([step_ids(n, 0, shape[1]) for n in range(shape[0])])
    return {key: torch.from_numpy(value).to(device) for key, value in rows.items()}


def configure(options: argparse.Namespace) -> Any:
    """The algorithm's configuration that the options ask for."""
    named = {"name": options.algorithm, "dialect": options.dialect, "size": options.size}
    raw = {key: value for key, value in named.items() if value is not None}
    return resolve_algorithm(apply_overrides(raw, options.settings))


def make_work(options: argparse.Namespace, compiling: Setting) -> Work:
    """Build the agent and the call that is measured, with `compiling` for `learner.compile`."""
    config = configure(options)
    image = ArraySpec((options.image, options.image, 3), "uint8")
    spaces = Spaces({"image": image}, ActionSpec("box", (), options.actions))
    context = AgentContext(
        batch_size=options.batch,
        batch_length=options.length,
        seed=0,
        device=options.device,
        precision=options.precision,
        training=not options.act,
    )
    agent = registry.algorithm(options.algorithm, options.dialect)(config, spaces, context)
    if options.act:
        return Work(_acting(agent, spaces, options.act), _size_of_policy(agent))
    streams = agent.streams()
    rows = {name: random_rows(spaces, spec, options.device) for name, spec in streams.items()}
    uses_graphs = compile_agent(agent, compiling, options.device)
    number = 0

    def update() -> None:
        nonlocal number
        if uses_graphs:
            begin_update()
        due = {name: rows[name] for name, spec in streams.items() if number % spec.every == 0}
        agent.update(due, Counters(env_steps=10_000, grad_updates=number))
        number += 1

    return Work(update, sum(agent.module_sizes()[0].values()), spans_of(agent))


def _acting(agent: Any, spaces: Spaces, count: int) -> Any:
    rows = random_rows(spaces, StreamSpec(count, 1), "cpu")
    seen = {key: rows[key][:, 0].numpy() for key in (*spaces.obs, "reward", *FLAG_KEYS)}
    _, carry = agent.act(seen, agent.initial_carry(count), "train", Counters())
    seen["is_first"] = np.zeros(count, bool)

    def act() -> None:
        nonlocal carry
        _, carry = agent.act(seen, carry, "train", Counters())

    return act


def _size_of_policy(agent: Any) -> int:
    return sum(array.size for array in agent.policy_state().values())


def spans_of(agent: Any) -> list[tuple[Any, str, str]]:
    """The phases an agent lets one see: its losses, its modules, its optimizers."""
    spans = [(agent, name, name) for name in getattr(agent, "COMPILABLE", ())]
    for part, module in agent.modules().items():
        for name in MODULE_METHODS:
            if hasattr(type(module), name) and name in _own_methods(type(module)):
                spans.append((module, name, part if name == "forward" else f"{part}.{name}"))
    optimizers = getattr(agent, "optimizers", {})
    return spans + [(adam, "step", f"optimizer/{name}") for name, adam in optimizers.items()]


def _own_methods(cls: type) -> set[str]:
    return {name for base in cls.__mro__ if base is not torch.nn.Module for name in vars(base)}


# In turns with a peer


class Player:
    """A process that makes one timed call whenever it is told to."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [*command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.params: int = self._hear()["params"]
        self.samples: list[Sample] = []
        self.peak_mb = 0

    def turn(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        heard = self._hear()
        self.peak_mb = heard.pop("peak_mb")
        self.samples.append(Sample(**heard))

    def leave(self) -> dict[str, Any]:
        """End the process and sum up."""
        self._process.communicate()
        return {"params": self.params, **medians(self.samples), "peak_mb": self.peak_mb}

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")


def compare(options: argparse.Namespace, own: list[str]) -> dict[str, Any]:
    """Ours and the peer in turns, in the same size, after both have warmed up."""
    size = configure(options).size
    here, shared = Path(__file__).parent, shared_arguments(options)
    peer_python = os.environ.get("PEER_PY", sys.executable)
    ours = Player(sys.executable, str(here / "learner_step.py"), *own, *shared)
    words = [options.peer, f"--size={size}", *shared]
    peer = Player(peer_python, str(here / "peers.py"), *words)
    for _ in range(options.repeats):
        ours.turn()
        peer.turn()
    found = {"ours": ours.leave(), "peer": peer.leave()}
    on_gpu = "gpu_ms" in found["ours"]
    kind, least = ("gpu_ms", "gpu_ms") if on_gpu else ("cpu_ms", "cpu_min_ms")
    limited = not options.act and size == SIZES[options.peer][0]
    limit = LIMITS.get((options.peer, options.precision)) if limited else None
    return {
        **found,
        "size": size,
        "ratio": round(found["ours"][kind] / found["peer"][kind], 3),
        "ratio_of_least": round(found["ours"][least] / found["peer"][least], 3),
        "limit": limit,
        "turns": options.repeats,
    }


def switch_to_plain() -> Callable[[], AbstractContextManager[None]] | None:
    """What switches all fast twins off; None where the algorithms have no such switch."""
    try:
        return importlib.import_module("reverie_algorithms.fast").plain
    except ModuleNotFoundError as error:
        if error.name != "reverie_algorithms.fast":
            raise
        return None


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="of the algorithm, as key=value")
    parser.add_argument("--algorithm", required=True)
    parser.add_argument("--dialect")
    parser.add_argument("--size")
    add_options(parser)
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--plain", action="store_true", help="without fast twins")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    if options.plain and switch_to_plain() is None:
        parser.error(
            "--plain: expected algorithms with reverie_algorithms.fast.plain, got older ones"
        )
    if options.peer:
        try:
            check_size(options.peer, configure(options).size)
        except ValueError as error:
            parser.error(str(error))
    return options


def main() -> None:
    options = parse()
    settle(options)
    plain = switch_to_plain() if options.plain else None
    with nullcontext() if plain is None else plain():
        run(options)


def run(options: argparse.Namespace) -> None:
    """Serve, compare or examine; print the figures and save them."""
    named = {"algorithm": options.algorithm, "dialect": options.dialect, "size": options.size}
    named = {key: value for key, value in named.items() if value is not None}
    what = {**named, "settings": options.settings, "plain": options.plain}
    if options.peer:
        own = [f"--{key}={value}" for key, value in named.items()] + options.settings
        own += [f"--compile={options.compile}", *["--plain"] * options.plain]
        figures = what | {"peer_name": options.peer} | compare(options, own) | conditions(options)
    elif options.serve:
        serve(make_work(options, options.compile), options)
        return
    else:
        work = make_work(options, options.compile)
        eager = options.compile == "off" or (options.compile == "auto" and options.device == "cpu")
        make_plain = None if eager else lambda: make_work(options, "off")
        figures = what | examine(work, options, options.repeats, make_plain)
        if options.act:
            figures["limit_ms"] = ACT_LIMITS_MS.get(options.act)
    print(json.dumps(figures) if options.json or options.peer else json.dumps(figures, indent=2))
    kind = f"act{options.act}" if options.act else "learner-step"
    parts = [kind, *named.values(), options.plain and "plain"]
    parts.append(options.peer and f"vs-{options.peer}")
    parts += [options.precision, options.device.replace(":", ""), options.allocator]
    print(save("-".join(part for part in parts if part), figures), file=sys.stderr)


if __name__ == "__main__":
    main()
