"""What must hold on a GPU, as plain functions: pytest and `benchmarks/gpu.py` call the same ones.

Each takes an agent's name, its spaces and `Where`, raises where something does not hold, and
returns the figures that say how well it does. On a CPU the same code runs without what only CUDA
has: graphs, synchronisation, several kinds of memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import count_launches
from reverie.compiling import begin_update, compile_agent
from reverie.config import resolve_config
from reverie.metrics import MeanMetrics
from reverie.trainer import Trainer
from reverie.types import Counters, Spaces
from tests.contract.cases import (
    ACTORS,
    BATCH_LENGTH,
    EXPRESSED,
    SMALLEST,
    assert_same,
    batches,
    learn,
    make,
    observe,
    through_a_file,
)

# cuBLAS repeats itself to the bit only with a workspace of its own, chosen before its first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
Figures = dict[str, Any]
RESET_ROWS = {1: (0,), 16: (0, 3, 15)}
"""Environments that act together, and which of them start an episode in the middle."""


@dataclass(frozen=True)
class Where:
    """On what a check runs, and how long."""

    device: str = "cuda"
    backend: str = "inductor"
    updates: int = 500
    """Of a run in bfloat16."""

    @property
    def on_cuda(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True)
class Row:
    """One check of one agent."""

    check: Callable[[str, Spaces, Where], Figures]
    agent: str
    spaces: Spaces

    @property
    def name(self) -> str:
        kind = f"{self.spaces.action.kind} {'+'.join(self.spaces.obs)}"
        return f"{self.check.__name__} {self.agent} {kind}"

    def run(self, where: Where) -> Figures:
        return self.check(self.agent, self.spaces, where)


def rows() -> list[Row]:
    """All checks of all agents, those first that need no compiler."""
    cases = [(name, spaces) for name, found in EXPRESSED.items() for spaces in found]
    firsts = [(name, found[0]) for name, found in EXPRESSED.items()]
    others = [case for case in cases if case not in firsts]
    eager = [Row(check, *case) for check in (no_host_sync, resumes, acts) for case in cases]
    once = [Row(check, *case) for check in (trains, bfloat16_stays_finite) for case in firsts]
    compiled = [Row(compiled_equals_eager, *case) for case in firsts + others]
    needs_actor = acts, trains
    found = [*eager, *once, *compiled]
    return [row for row in found if row.agent in ACTORS or row.check not in needs_actor]


# Updates


def no_host_sync(name: str, spaces: Spaces, where: Where) -> Figures:
    """An update, and what the learner does with its metrics, never wait for the device."""
    agent = make(name, spaces, device=where.device)
    given = [batches(agent, spaces, number, where.device) for number in range(4)]
    means = MeanMetrics()
    for number, drawn in enumerate(given[:3]):
        means.add(agent.update(drawn, Counters(grad_updates=number))[0])
    with never_waiting(where):
        metrics, _ = agent.update(given[3], Counters(grad_updates=3))
        means.add(metrics)
    assert all(np.isfinite(list(means.pop().values())))
    return {}


def compiled_equals_eager(name: str, spaces: Spaces, where: Where) -> Figures:
    """Compiled updates, as CUDA graphs, have the eager ones' losses; they wait for nothing."""
    plain, compiled = (make(name, spaces, device=where.device) for _ in range(2))
    graphs = compile_agent(compiled, "on", where.device, backend=where.backend)
    assert graphs == (where.on_cuda and where.backend == "inductor")
    numbers, worst = range(6), []
    skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]

    def update(number: int) -> dict[str, Tensor]:
        drawn = batches(compiled, spaces, number, where.device)
        if graphs:
            begin_update()
        return compiled.update(drawn, Counters(grad_updates=number))[0]

    with exact_float32():
        for number in numbers:
            wanted = learn(plain, spaces, number, device=where.device)[0]
            found = {key: float(value) for key, value in update(number).items()}
            # Behind the first update both go their own ways, by what rounding does to weights.
            rtol, atol = (1e-3, 1e-4) if number == 0 else (2e-2, 2e-3)
            losses = {key: value for key, value in wanted.items() if key.startswith("loss/")}
            got = {key: found[key] for key in losses}
            torch.testing.assert_close(got, losses, rtol=rtol, atol=atol)
            worst.append(max(abs(got[k] - v) / (abs(v) + 1e-3) for k, v in losses.items()))
    figures: Figures = {"worst_ratio": [float(f"{ratio:.2g}") for ratio in worst]}
    if not graphs:
        return figures
    drawn = batches(compiled, spaces, 6, where.device)
    with never_waiting(where):
        begin_update()
        compiled.update(drawn, Counters(grad_updates=6))
    figures["graphs_skipped"] = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    figures["graphs_skipped"] -= skipped
    figures |= {f"{k}_eager": v for k, v in count_launches(lambda: learn_one(plain, drawn)).items()}
    figures |= count_launches(lambda: (begin_update(), learn_one(compiled, drawn)))
    assert figures["graphs_skipped"] == 0, figures
    assert figures["graph_launches"] >= len(compiled.COMPILABLE), figures
    return figures


def learn_one(agent: Any, drawn: Any) -> None:
    agent.update(drawn, Counters(grad_updates=9))


def bfloat16_stays_finite(name: str, spaces: Spaces, where: Where) -> Figures:
    """Many updates in bfloat16 leave losses and weights finite."""
    agent = make(name, spaces, device=where.device, precision="bfloat16")
    given = [batches(agent, spaces, number, where.device) for number in range(12)]
    bad = torch.zeros((), dtype=torch.bool, device=where.device)
    for number in range(where.updates):
        metrics, _ = agent.update(given[number % 12], Counters(grad_updates=number))
        losses = [value for key, value in metrics.items() if key.startswith("loss/")]
        bad |= ~torch.stack(losses).isfinite().all()
    assert not bad
    assert all(np.isfinite(value).all() for value in agent.policy_state().values())
    return {"updates": where.updates}


def resumes(name: str, spaces: Spaces, where: Where) -> Figures:
    """A saved agent goes on to the last bit on its device, and moves to another one and back."""
    with repeating():
        agent = make(name, spaces, device=where.device)
        learn(agent, spaces, 0, 1, device=where.device)
        saved = through_a_file(agent.state_dict())
        wanted = learn(agent, spaces, 2, 3, device=where.device)
        other = make(name, spaces, seed=7, device=where.device)
        other.load_state_dict(saved)
        found = learn(other, spaces, 2, 3, device=where.device)
        assert found == wanted, (found, wanted)
        assert_same(through_a_file(other.state_dict()), through_a_file(agent.state_dict()))
    there = make(name, spaces, seed=8)
    there.load_state_dict(saved)
    back = make(name, spaces, seed=9, device=where.device)
    back.load_state_dict(through_a_file(there.state_dict()))
    moved = through_a_file(back.state_dict())
    for state in (saved, moved):
        del state["generators"]  # each kind of device has its own
    assert_same(moved, saved)
    learn(back, spaces, 2, device=where.device)
    return {}


# Acting


def acts(name: str, spaces: Spaces, where: Where) -> Figures:
    """Actions have their form and range; rows with `is_first` start from the initial state."""
    for precision in ("float32", "bfloat16"):
        agent = make(name, spaces, False, device=where.device, precision=precision)
        for count, firsts in RESET_ROWS.items():
            _act(agent, spaces, count, firsts, where)
    return {}


def _act(agent: Any, spaces: Spaces, count: int, firsts: tuple[int, ...], where: Where) -> None:
    carry = fresh = agent.initial_carry(count)
    for step, mode in enumerate(("train", "sample", "mode", "train")):
        rows = observe(spaces, count, step, first=step == 0)
        rows["is_first"][list(firsts)] |= step == 2
        action, carry = agent.act(rows, carry, mode, Counters())
        _check_form(action, spaces, count)
        assert carry.keys() == fresh.keys()
        for key, value in carry.items():
            assert (value.shape, value.dtype) == (fresh[key].shape, fresh[key].dtype), key
            assert value.device.type == where.device, key
    rows = observe(spaces, count, 9)
    state = agent.act_generator.get_state()
    left, _ = agent.act(rows, carry, "sample", Counters())
    agent.act_generator.set_state(state)
    right, _ = agent.act(rows, agent.initial_carry(count), "sample", Counters())
    np.testing.assert_array_equal(left, right)


def _check_form(action: Any, spaces: Spaces, count: int) -> None:
    wanted = spaces.action
    assert action.shape == (count, *wanted.shape)
    assert action.dtype == wanted.dtype
    if wanted.kind == "box":
        assert (np.abs(action) <= 1).all()
    else:
        most = np.array(wanted.num if wanted.shape else wanted.num[0])
        assert ((action >= 0) & (action < most)).all()


# A run


def trains(name: str, spaces: Spaces, where: Where) -> Figures:
    """A run in one process collects, trains, evaluates, saves and goes on, on toy/catch."""
    with tempfile.TemporaryDirectory() as folder:
        tree = _run_of(name, spaces, where, Path(folder) / "run")
        first = Trainer(resolve_config(tree), local=True)
        while first.progress.grad_updates < 3:
            first.step()
        first.save(go_on=False)
        first.close()
        again = Trainer(resolve_config(tree), local=True, resume="must")
        assert again.progress.grad_updates >= 3
        summary = again.run()
    assert summary.env_steps == tree["run"]["env_steps"]
    assert summary.score is not None
    return {"updates": summary.grad_updates}


def _run_of(name: str, spaces: Spaces, where: Where, folder: Path) -> dict[str, Any]:
    length = BATCH_LENGTH.get(name, 8)
    learner = {"batch_size": 4, "batch_length": length, "training_ratio": length / 4}
    return {
        "algorithm": SMALLEST[name],
        "env": {"suite": "toy", "task": "catch", "continuous": spaces.action.kind == "box"},
        "learner": learner | {"compile": "off"},
        "replay": {"chunk_length": 32},
        "run": {"env_steps": 300, "prefill": 100, "dir": str(folder)},
        "eval": {"every": 200, "episodes": 2},
        "resources": {"device": where.device},
        "logging": {"tensorboard": False},
    }


# How torch works meanwhile


@contextmanager
def never_waiting(where: Where) -> Iterator[None]:
    """Raise where the host waits for the GPU."""
    if not where.on_cuda:
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 in convolutions, whose choice differs between compiled and eager code."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def repeating() -> Iterator[None]:
    """Kernels that give the same bits each time, where there are any."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
