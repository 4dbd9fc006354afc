"""The figures of benchmarks/harmony_distraction.py: medians, intervals, seeds that never arrive."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import harmony_distraction

    yield harmony_distraction
    for name in ("harmony_distraction", "learning", "common"):
        sys.modules.pop(name, None)


def row(mode: str, seed: int, steps: int | None, budget: int = 8_000) -> dict[str, Any]:
    reached = {"env_steps": steps} if steps else None
    return {"mode": mode, "seed": seed, "budget": budget, "reached": reached}


def test_censored_seeds_count_with_their_budget_and_are_named(benchmark: Any) -> None:
    rows = [row("off", seed, steps) for seed, steps in enumerate((None, 2_000, None))]
    found = benchmark.summarise([*rows, row("paper", 0, 1_000)])
    assert found["off"]["median_env_steps"] == 8_000
    assert found["off"]["censored_seeds"] == [0, 2]
    assert found["paper"] == {
        "seeds": 1,
        "median_env_steps": 1_000,
        "interval_95": (1_000, 1_000),
        "censored_seeds": [],
    }
    assert "[2,000, 8,000], 3 seeds; censored at the budget: seeds [0, 2]" in benchmark.text(
        "off", found["off"]
    )


def test_the_interval_of_a_median_covers_the_middle_values(benchmark: Any) -> None:
    # Of 5 values the least is the median of a resample with a chance of 5.8 %, each end 2.5 %.
    assert benchmark.median_interval([1, 2, 3, 4, 5]) == (1, 5)
    low, high = benchmark.median_interval(list(range(101)))
    assert 35 < low < 45
    assert 55 < high < 65


def test_parts_are_merged_into_the_result_file(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "LOCK", tmp_path / "lock")
    benchmark.record([row("paper", 1, 3_000), row("off", 1, 5_000)])
    benchmark.record([row("off", 0, 4_000), row("paper", 1, 1_000)])
    saved = json.loads((tmp_path / "harmony_distraction.json").read_text())["figures"]
    found = [(run["mode"], run["seed"], run["reached"]["env_steps"]) for run in saved["runs"]]
    assert found == [("off", 0, 4_000), ("off", 1, 5_000), ("paper", 1, 1_000)]
    assert saved["modes"]["off"]["median_env_steps"] == 4_500
