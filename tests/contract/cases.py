"""Every registered agent at a size that is quick, in the spaces it can express; random batches.

Needs no pytest: `benchmarks/gpu.py` runs checks on a machine that may not have it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie import registry
from reverie.config import resolve_algorithm
from reverie.protocols import AgentContext, StreamSpec
from reverie.types import STEP_ID, ActionSpec, ArraySpec, Counters, Spaces, step_ids

SMALLEST: dict[str, dict[str, Any]] = {
    "dreamerv2": {
        "name": "dreamerv2",
        "size": "tiny",
        "horizon": 3,
        "rssm": {"deter": 16, "hidden": 16, "stoch": 4, "classes": 4},
        "encoder": {"depth": 2, "units": 8},
        "decoder": {"depth": 2, "units": 8},
        "heads": {"units": 8},
        "harmony": {"mode": "paper"},
        "discount_head": True,
    },
    "dreamerv3/2023": {
        "name": "dreamerv3",
        "size": "tiny",
        "horizon": 3,
        "rssm": {"deter": 16, "units": 16, "stoch": 4, "classes": 4},
        "encoder": {"depth": 2},
        "decoder": {"depth": 2},
        "harmony": {"mode": "paper"},
    },
    "dreamerv3/2025": {
        "name": "dreamerv3",
        "dialect": "2025",
        "size": "1m",
        "rssm": {"deter": 32, "units": 8, "stoch": 4, "classes": 4},
        "encoder": {"depth": 2, "units": 8},
        "decoder": {"depth": 2, "units": 8},
        "heads": {"units": 8},
        "horizon": 3,
    },
    "drqv2": {"name": "drqv2", "channels": 2, "features": 4, "hidden": 8},
    "ipv": {
        "name": "ipv",
        "size": "tiny",
        "rssm": {"deter": 16, "hidden": 16, "stoch": 4, "classes": 4},
        "encoder": {"depth": 4},
        "decoder": {"depth": 4},
        "context": {"kind": "frame"},
    },
}
"""Settings of each algorithm at which it is quick; a new algorithm adds its own."""
BATCH_LENGTH = {"drqv2": 1}
"""Of algorithms that cannot train on any number of rows per window."""
ACTIONS = {
    "discrete": ActionSpec("discrete", (3,)),
    "multidiscrete": ActionSpec("multidiscrete", (3, 2)),
    "box": ActionSpec("box", (), 2),
}
OBSERVATIONS = {
    "image": {"image": ArraySpec((64, 64, 3), "uint8")},
    "vector": {"proprio": ArraySpec((4,), "float32")},
    "mixed": {
        "wrist": ArraySpec((16, 32, 3), "uint8"),
        "image": ArraySpec((64, 64, 3), "uint8"),
        "proprio": ArraySpec((4,), "float32"),
    },
}
STUBS = {
    f"tests.fakes:{name}": Spaces(
        {"image": ArraySpec((8, 8, 3), "uint8"), "count": ArraySpec((2,), "float32")},
        ACTIONS["discrete"],
    )
    for name in ("Plain", "TwoStreams", "Planner")
}
EXAMPLE = "examples.my_algorithm:QLearner"
STUBS[EXAMPLE] = Spaces(
    {"image": ArraySpec((8, 8, 3), "uint8"), "clock": ArraySpec((1,), "float32")},
    ACTIONS["discrete"],
)
KINDS = [("discrete", "image"), ("box", "vector"), ("multidiscrete", "mixed")]
KINDS_OF = {
    "drqv2": [("box", "image"), ("box", "mixed")],
    "ipv": [("box", "image")],
}
"""Spaces of algorithms that cannot express all of `KINDS`; they refuse every other, but for actions
that an algorithm leaves alone."""
ANY_ACTION = {"ipv"}
EXPRESSED = {
    name: [Spaces(OBSERVATIONS[obs], ACTIONS[act]) for act, obs in KINDS_OF.get(name, KINDS)]
    for name in SMALLEST
}
REFUSED = [
    (name, act, obs)
    for name, kinds in KINDS_OF.items()
    for act in ACTIONS
    for obs in OBSERVATIONS
    if (act, obs) not in kinds and not (name in ANY_ACTION and ("box", obs) in kinds)
]
CASES = [*((name, s) for name, found in EXPRESSED.items() for s in found), *STUBS.items()]
ACTORS = [name for name in SMALLEST if registry.learns_from(registry.algorithm(name)) != "video"]
"""Algorithms that act; those that learn from video do not."""
ACTING = [case for case in CASES if case[0] in ACTORS or case[0] in STUBS]
IDS = [f"{name.split(':')[-1]}-{s.action.kind}-{'+'.join(s.obs)}" for name, s in CASES]
ACTING_IDS = [label for label, case in zip(IDS, CASES, strict=True) if case in ACTING]


def make(name: str, spaces: Spaces, training: bool = True, seed: int = 0, **context: Any) -> Any:
    """Build the agent; `context` holds further settings of `AgentContext`, e.g. the device."""
    config = resolve_algorithm(SMALLEST.get(name, {"name": name}))
    sizes: dict[str, Any] = {"batch_size": 3, "batch_length": BATCH_LENGTH.get(name, 6)}
    settings = sizes | {"seed": seed, "training": training} | context
    return registry.algorithm(name)(config, spaces, AgentContext(**settings))


def batch(spaces: Spaces, spec: StreamSpec, seed: int) -> dict[str, Tensor]:
    """Random rows of one stream's shape, as the platform hands them over."""
    rng = np.random.default_rng(seed)
    shape = (spec.batch_size, spec.window_length)
    rows: dict[str, Any] = {
        key: rng.integers(0, 256, (*shape, *obs.shape)).astype(obs.dtype)
        if obs.is_image
        else rng.normal(size=(*shape, *obs.shape)).astype(obs.dtype)
        for key, obs in spaces.obs.items()
    }
    action = spaces.action.sample(rng, shape[0] * shape[1])
    rows["action"] = action.reshape(*shape, *spaces.action.shape)
    rows["reward"] = rng.normal(size=shape).astype(np.float32)
    rows["is_last"] = rng.random(shape) < 0.2
    rows["is_terminal"] = rows["is_last"] & (rng.random(shape) < 0.5)
    rows["is_first"] = np.roll(rows["is_last"], 1, 1)
    rows["policy_version"] = np.zeros(shape, np.int64)
    rows[STEP_ID] = np.stack([step_ids(n, 9, shape[1]) for n in range(shape[0])])
    return {key: torch.from_numpy(value) for key, value in rows.items()}


def batches(
    agent: Any, spaces: Spaces, number: int, device: str = "cpu"
) -> dict[str, dict[str, Tensor]]:
    """One batch of every stream that is due in update `number`."""
    return {
        name: {key: value.to(device) for key, value in batch(spaces, spec, number).items()}
        for name, spec in agent.streams().items()
        if number % spec.every == 0
    }


def learn(agent: Any, spaces: Spaces, *numbers: int, device: str = "cpu") -> list[dict[str, float]]:
    found = []
    for number in numbers:
        drawn = batches(agent, spaces, number, device)
        metrics, _ = agent.update(drawn, Counters(grad_updates=number))
        found.append({key: float(value) for key, value in metrics.items()})
    return found


def observe(spaces: Spaces, count: int, seed: int = 0, first: bool = True) -> dict[str, Any]:
    rows = {
        key: value[:, 0].numpy() for key, value in batch(spaces, StreamSpec(count, 1), seed).items()
    }
    flags = {"is_last": np.zeros(count, bool), "is_terminal": np.zeros(count, bool)}
    seen = {key: rows[key] for key in (*spaces.obs, "reward")}
    return seen | flags | {"is_first": np.full(count, first)}


def play(agent: Any, spaces: Spaces, mode: str = "train", count: int = 2, steps: int = 3) -> Any:
    """Actions [steps, count, ...] from a fresh carry."""
    carry, actions = agent.initial_carry(count), []
    for step in range(steps):
        obs = observe(spaces, count, step, first=step == 0)
        action, carry = agent.act(obs, carry, mode, Counters())
        actions.append(action)
    return np.stack(actions)


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def assert_same(one: Any, two: Any, path: str = "") -> None:
    if isinstance(one, Mapping):
        assert one.keys() == two.keys(), path
        for key in one:
            assert_same(one[key], two[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), path
        for index, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_same(left, right, f"{path}/{index}")
    elif torch.is_tensor(one):
        assert torch.equal(one, two), path
    else:
        np.testing.assert_array_equal(one, two, err_msg=path)
