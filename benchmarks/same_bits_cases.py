"""Small agents of every algorithm, and everything that they compute, written down by path.

`same_bits.py` runs this against one source tree and then against another. Of a tree it uses only
what every tree offers: the registry, `resolve_algorithm`, the protocols and the types.
"""

from __future__ import annotations

import importlib
import io
import traceback
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from tensor_trees import compare, flat
from torch import Tensor

NET = {"depth": 2, "units": 8}
LATENT = {"deter": 16, "stoch": 4, "classes": 4}
SMALL: dict[str, dict[str, Any]] = {
    "dreamerv2": {
        "size": "tiny",
        "horizon": 3,
        "rssm": {**LATENT, "hidden": 12},
        "encoder": NET,
        "decoder": NET,
        "heads": {"units": 8},
        "target_period": 2,
    },
    "dreamerv3/2023": {
        "size": "tiny",
        "horizon": 3,
        "rssm": {**LATENT, "units": 12},
        "encoder": NET,
        "decoder": NET,
        "heads": {"units": 8},
    },
    "dreamerv3/2025": {
        "size": "1m",
        "horizon": 3,
        "rssm": {**LATENT, "deter": 32, "units": 8},
        "encoder": NET,
        "decoder": NET,
        "heads": {"units": 8},
        "warmup": 2,
    },
    "drqv2": {"channels": 2, "features": 4, "hidden": 8},
    "ipv": {
        "size": "tiny",
        "rssm": {**LATENT, "hidden": 12},
        "encoder": {"depth": 2},
        "decoder": {"depth": 2},
    },
}
"""Settings at which each algorithm is quick; a new algorithm adds its own."""
ACTIONS = {
    "box": ("box", (), 2),
    "discrete": ("discrete", (3,), 0),
    "multidiscrete": ("multidiscrete", (3, 2), 0),
}
IMAGE, WRIST, PROPRIO = ((16, 16, 3), "uint8"), ((16, 32, 1), "uint8"), ((4,), "float32")
OBSERVATIONS = {
    "image": {"image": IMAGE},
    "vector": {"proprio": PROPRIO},
    "mixed": {"wrist": WRIST, "image": IMAGE, "proprio": PROPRIO, "count": ((2,), "int64")},
    "large": {"image": ((64, 64, 3), "uint8")},
}
HARMONY = ("off", "paper", "own_group")
LARGER: dict[str, dict[str, Any]] = {
    "dreamerv2": {
        "rssm": {"deter": 128, "hidden": 128, "stoch": 16, "classes": 16},
        "encoder": {"depth": 8, "units": 128},
        "decoder": {"depth": 8, "units": 128},
        "heads": {"units": 128},
    },
    "dreamerv3/2023": {
        "rssm": {"deter": 128, "units": 128, "stoch": 16, "classes": 16},
        "encoder": {"depth": 8, "units": 128},
        "decoder": {"depth": 8, "units": 128},
        "heads": {"units": 128},
    },
    "dreamerv3/2025": {
        "rssm": {"deter": 512, "units": 64, "stoch": 32, "classes": 4},
        "encoder": {"depth": 12, "units": 64},
        "decoder": {"depth": 12, "units": 64},
        "heads": {"units": 64},
    },
    "drqv2": {"channels": 8, "features": 32, "hidden": 128},
    "ipv": {
        "rssm": {"deter": 128, "hidden": 128, "stoch": 16, "classes": 16},
        "encoder": {"depth": 8},
        "decoder": {"depth": 8},
    },
}
"""Settings at which products are blocked as in real ones; of 2025, with as many channels as
Winograd's convolutions need."""
RESNET = {"encoder": {"kind": "resnet"}, "decoder": {"kind": "resnet"}}
VIDEO = ("ipv",)
"""Agents that learn from video and do not act."""
BATCH_SIZE, BATCH_LENGTH = 3, 5
MODES = ("train", "sample", "mode")
FIRSTS = {0: (0, 1, 2), 7: (1,), 13: (0, 1, 2)}
"""Acting step -> environments that begin an episode."""


class Case(NamedTuple):
    """One agent in one world."""

    agent: str
    action: str
    obs: str
    precision: str
    harmony: str = "off"
    variant: str = "small"

    @property
    def name(self) -> str:
        return " ".join(self)

    def settings(self) -> Mapping[str, Any]:
        """What the variant lays over the small settings."""
        if self.variant == "larger":
            return LARGER[self.agent]
        return {"small": {}, "resnet": RESNET, "discount": {"discount_head": True}}[self.variant]


def cases() -> Iterator[Case]:
    """Every agent with all actions and observations it can express, and what options change."""
    for agent in SMALL:
        if agent == "drqv2":
            for precision, obs in product(("float32", "bfloat16"), ("image", "mixed")):
                yield Case(agent, "box", obs, precision)
            yield Case(agent, "box", "large", "float32", variant="larger")
            continue
        if agent in VIDEO:
            for precision in ("float32", "bfloat16"):
                yield Case(agent, "box", "image", precision)
            yield Case(agent, "box", "large", "float32", variant="larger")
            continue
        worlds = product(enumerate(ACTIONS), enumerate(("mixed", "image", "vector")))
        for (a, action), (o, obs) in worlds:
            yield Case(agent, action, obs, "float32", HARMONY[(a + 2 * o) % 3])
            if a == o:
                yield Case(agent, action, obs, "bfloat16", HARMONY[(a + 1) % 3])
        yield Case(agent, "box", "large", "float32", "paper", "larger")
    for precision in ("float32", "bfloat16"):
        yield Case("dreamerv2", "discrete", "mixed", precision, "paper", "resnet")
        yield Case("dreamerv2", "box", "image", precision, "paper", "discount")


# Recording, in a tree's own process. Only what both trees know is imported, and only here.


def record(file: str, mode: str, only: str) -> None:
    """Run the cases against the tree on the import path, and write down what they compute."""
    torch.set_num_threads(1)
    registry = importlib.import_module("reverie.registry")
    if missing := registry.ALGORITHMS.keys() - SMALL.keys():
        raise ValueError(f"no small settings of {sorted(missing)}; add them to `SMALL` here")
    fast = _fast() if mode == "off" else None
    found: dict[str, dict[str, Any]] | None = {}
    if mode == "off" and fast is None:
        found = None
    else:
        for case in cases():
            if only in case.name:
                with nullcontext() if fast is None else fast.plain():
                    found[case.name] = _recorded(case)
    torch.save(found, file)


def _fast() -> Any:
    try:
        return importlib.import_module("reverie_algorithms.fast")
    except ModuleNotFoundError as error:
        if error.name != "reverie_algorithms.fast":
            raise
        return None


def _recorded(case: Case) -> dict[str, Any]:
    """Everything a case computes, by path; what it raises, as `fault`."""
    try:
        return dict(flat(_run(case)))
    except Exception as error:
        traceback.print_exc()
        return {"fault": f"{type(error).__name__}: {error}"}


def _run(case: Case) -> dict[str, Any]:
    agent, going_on = make(case), {}
    found: dict[str, Any] = {"updates": learn(agent, range(5), going_on)}
    found["state"] = agent.state_dict()
    found["policy"] = agent.policy_state()
    found["report"] = agent.report(batches(agent, 0, going_on))
    acts = case.agent not in VIDEO
    found["acting"] = _act(agent, 3) if acts else {}

    saved = io.BytesIO()
    torch.save(agent.state_dict(), saved)
    saved.seek(0)
    other, kept = make(case, seed=7), dict(going_on)
    other.load_state_dict(torch.load(saved, weights_only=True))
    found["further"] = learn(agent, range(5, 7), going_on), agent.state_dict()
    resumed = learn(other, range(5, 7), kept), other.state_dict()
    differing = compare(dict(flat(found["further"])), dict(flat(resumed)))
    if differing.paths:
        raise ValueError(f"resuming differs from going on: {differing}")

    if not acts:
        return found
    actor = make(case, training=False)
    actor.load_policy_state(found["policy"])
    return {**found, "actor": _act(actor, 3), "actor alone": _act(actor, 1, 8)}


def _spaces(case: Case) -> Any:
    types = importlib.import_module("reverie.types")
    obs = {key: types.ArraySpec(*spec) for key, spec in OBSERVATIONS[case.obs].items()}
    return types.Spaces(obs, types.ActionSpec(*ACTIONS[case.action]))


def make(case: Case, seed: int = 0, training: bool = True) -> Any:
    registry, config = (importlib.import_module(f"reverie.{n}") for n in ("registry", "config"))
    context = importlib.import_module("reverie.protocols").AgentContext(
        batch_size=BATCH_SIZE,
        batch_length=1 if case.agent == "drqv2" else BATCH_LENGTH,
        seed=seed,
        precision=case.precision,
        training=training,
    )
    name, _, dialect = case.agent.partition("/")
    harmony = {} if case.agent in ("drqv2", *VIDEO) else {"harmony": {"mode": case.harmony}}
    named = {"name": name, **({"dialect": dialect} if dialect else {}), **harmony}
    lay = importlib.import_module("reverie.config_tree").lay
    settings = config.resolve_algorithm(named | lay(SMALL[case.agent], case.settings()))
    return registry.algorithm(case.agent)(settings, _spaces(case), context)


def _rows(spaces: Any, count: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """Random rows [count, length, ...], with ends of episodes here and there."""
    types = importlib.import_module("reverie.types")
    rng, shape = np.random.default_rng(seed), (count, length)
    rows: dict[str, np.ndarray] = {}
    for key, spec in spaces.obs.items():
        whole = rng.integers(0, 256 if spec.is_image else 5, (*shape, *spec.shape))
        noise = rng.normal(size=whole.shape) if spec.dtype == "float32" else 0
        rows[key] = (whole + noise).astype(spec.dtype)
    action = spaces.action.sample(rng, count * length)
    rows["action"] = action.reshape(*shape, *spaces.action.shape)
    rows["reward"] = rng.normal(size=shape).astype(np.float32)
    rows["is_last"] = rng.random(shape) < 0.2
    rows["is_terminal"] = rows["is_last"] & (rng.random(shape) < 0.5)
    rows["is_first"] = np.roll(rows["is_last"], 1, 1)
    rows["policy_version"] = np.zeros(shape, np.int64)
    rows[types.STEP_ID] = np.stack([types.step_ids(n, 9, length) for n in range(count)])
    return rows


def batches(agent: Any, number: int, stored: Mapping[int, Any]) -> dict[str, dict[str, Tensor]]:
    """What is due in update `number`: two batches in turns, with the feedback on their last use."""
    found = {}
    for name, spec in agent.streams().items():
        if number % spec.every == 0:
            rows = _rows(agent.spaces, spec.batch_size, spec.window_length, number % 2)
            found[name] = {key: torch.from_numpy(value) for key, value in rows.items()}
            found[name] |= stored.get(number % 2, {})
    return found


def _as_stored(feedback: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    """Feedback as the replay hands it out: columns that are valid after the context rows."""
    columns, valid = {}, torch.zeros(0)
    for key, value in feedback.items():
        context = length - value.shape[1]
        lead = torch.zeros_like(value[:, :1]).repeat_interleave(context, 1)
        valid = torch.arange(length).expand(len(value), -1) >= context
        columns[f"side/{key}"] = torch.cat([lead, value], 1)
    return {**columns, "side/valid": valid}


def learn(agent: Any, numbers: range, stored: dict[int, Any]) -> list[Any]:
    """Metrics and feedback of updates; `stored` keeps the newest feedback on either batch."""
    types, found = importlib.import_module("reverie.types"), []
    for number in numbers:
        given = batches(agent, number, stored)
        counters = types.Counters(env_steps=100 * number, grad_updates=number)
        metrics, feedback = agent.update(given, counters)
        found.append((dict(metrics), dict(feedback)))
        values = {key: value for key, value in feedback.items() if key != types.STEP_ID}
        if values:
            length = next(iter(given.values()))["is_first"].shape[1]
            stored[number % 2] = _as_stored(values, length)
    return found


def _act(agent: Any, count: int, steps: int = 20) -> list[Any]:
    """Actions and carries, all modes in turns."""
    types, found = importlib.import_module("reverie.types"), []
    rows = _rows(agent.spaces, count, steps, 3)
    carry = agent.initial_carry(count)
    for step in range(steps):
        seen = {key: rows[key][:, step] for key in (*agent.spaces.obs, "reward")}
        seen |= {key: np.zeros(count, bool) for key in types.FLAG_KEYS}
        seen["is_first"] = np.isin(np.arange(count), FIRSTS.get(step, ()))
        counters = types.Counters(env_steps=50 * step)
        action, carry = agent.act(seen, carry, MODES[step % 3], counters)
        found.append((action.copy(), {key: value.clone() for key, value in carry.items()}))
    return found
