"""Figures of two updates of every algorithm at a fixed seed, to compare with the recorded ones.

    python -m tests.algorithms.reference_values [CASE...]    # records them anew

A change of them can move a learning curve: say so under `Numerics` in CHANGELOG.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from reverie import registry
from reverie.types import Array, Counters, Spaces
from tests.contract.cases import CASES, batches, make

FOLDER = Path(__file__).parent / "reference"
UPDATES = 2
"""The second one sees moments, targets and normalisers that are no longer fresh."""


def recorded_cases() -> dict[str, tuple[str, Spaces]]:
    """Every registered algorithm with each kind of action that it can express."""
    return {
        f"{name.replace('/', '-')}-{spaces.action.kind}": (name, spaces)
        for name, spaces in CASES
        if name in registry.ALGORITHMS
    }


def path_of(case: str) -> Path:
    return FOLDER / f"{case}.npz"


def measure(name: str, spaces: Spaces) -> dict[str, float]:
    """Metrics of every update, and norm and movement of every module's parameters."""
    agent = make(name, spaces)
    before = {part: flat(module) for part, module in agent.modules().items()}
    found: dict[str, float] = {}
    for number in range(UPDATES):
        counters = Counters(grad_updates=number)
        metrics, _ = agent.update(batches(agent, spaces, number), counters)
        found |= {f"update_{number}/{key}": float(value) for key, value in metrics.items()}
    for part, start in before.items():
        after = flat(agent.modules()[part])
        found[f"norm/{part}"] = float(np.linalg.norm(after))
        found[f"moved/{part}"] = float(np.linalg.norm(after - start))
    return found


def flat(module: torch.nn.Module) -> Array:
    """All parameters as one float64 vector."""
    parts = [p.detach().double().numpy().ravel() for p in module.parameters()]
    return np.concatenate(parts) if parts else np.zeros(0)


def record(*cases: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    known = recorded_cases()
    for case in cases or known:
        found = measure(*known[case])
        np.savez(path_of(case), names=[*found], values=[*found.values()])


def recorded(case: str) -> dict[str, float]:
    file = np.load(path_of(case))
    return dict(zip(file["names"].tolist(), file["values"].tolist(), strict=True))


if __name__ == "__main__":
    record(*sys.argv[1:])
