"""benchmarks/same_bits.py sees a moved bit, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

SCRIPT = ROOT / "benchmarks" / "same_bits.py"
CASE = "dreamerv3/2025 multidiscrete vector float32"
CHANGE = ("RMS_EPS = 1e-4", "RMS_EPS = 1.0001e-4")


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import tensor_trees

    yield tensor_trees
    for name in ("tensor_trees", "same_bits_cases", "same_bits"):
        sys.modules.pop(name, None)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, env=env, check=False
    )


def with_a_changed_constant(folder: Path) -> Path:
    """A copy of the source tree in which one number differs."""
    for root in ("platform", "algorithms", "envs"):
        shutil.copytree(ROOT / root, folder / root, ignore=shutil.ignore_patterns("__pycache__"))
    (file,) = (f for f in (folder / "algorithms").rglob("*.py") if CHANGE[0] in f.read_text())
    file.write_text(file.read_text().replace(*CHANGE))
    return folder


def test_a_tree_equals_itself_and_a_moved_constant_is_found(tmp_path: Path) -> None:
    same = run(ROOT, ROOT, "--modes", "on", "--only", CASE)
    assert same.returncode == 0, same.stderr
    assert f"{CASE} off small: equal (" in same.stdout
    assert "1 of 1 cases equal" in same.stdout

    changed, file = with_a_changed_constant(tmp_path / "changed"), tmp_path / "found.json"
    moved = run(ROOT, changed, "--modes", "on", "--only", CASE, "--json", file)
    assert moved.returncode == 1, moved.stderr
    assert "first updates/0/0/" in moved.stdout
    assert "0 of 1 cases equal" in moved.stdout
    (figures,) = json.loads(file.read_text())["on"].values()
    assert 0 < figures["differ"] < figures["tensors"]
    assert 0 < figures["relative"] < float("inf")


def test_what_is_no_tree_and_what_is_no_case_are_refused(tmp_path: Path) -> None:
    for words, message in (
        ([ROOT, tmp_path], "no source tree, it holds no platform/"),
        ([ROOT], "expected two trees, OLD and NEW, got one"),
        ([ROOT, ROOT, "--only", "nothing"], "no case's name holds 'nothing'"),
        ([ROOT, ROOT, "--modes", "fast"], r"expected some of on,off, got ['fast']"),
    ):
        found = run(*words)
        assert found.returncode == 2
        assert message in found.stderr


def test_a_difference_is_named_with_its_place_and_size(trees: Any) -> None:
    old = {"a": torch.tensor([1.0, 2.0, 4.0]), "b": torch.zeros(2), "n": 3}
    assert str(trees.compare(old, {**old})) == "equal (3 tensors)"
    found = trees.compare(old, {**old, "a": torch.tensor([1.0, 2.5, 4.0])})
    assert (found.paths, found.what) == (("a",), "1 of 3 numbers moved")
    assert (found.absolute, found.relative) == (0.5, 0.125)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"b": torch.zeros(1, 2)}, "torch.float32 (2,) became torch.float32 (1, 2)"),
        ({"b": torch.zeros(2).double()}, "torch.float32 (2,) became torch.float64 (2,)"),
        ({"n": 4}, "3 became 4"),
        ({"c": torch.zeros(1)}, "only in NEW"),
    ],
)
def test_names_shapes_types_and_plain_values_count_whatever_is_tolerated(
    trees: Any, change: dict[str, Any], what: str
) -> None:
    old = {"b": torch.zeros(2), "n": 3}
    found = trees.compare(old, {**old, **change})
    assert found.what == what
    assert found.relative == float("inf")
    assert trees.compare(old, {"n": 3}).what == "only in OLD"


def test_nan_equals_nan_and_the_sign_of_a_zero_counts(trees: Any) -> None:
    nan = {"x": torch.tensor([float("nan"), 0.0])}
    assert not trees.compare(nan, {"x": nan["x"].clone()}).paths
    found = trees.compare({"x": torch.tensor([0.0])}, {"x": torch.tensor([-0.0])})
    assert (found.what, found.relative) == ("0 of 1 numbers moved", 0.0)
    assert trees.compare({"x": torch.tensor([1.0])}, {"x": nan["x"][:1]}).relative == float("inf")


def test_an_agent_that_fails_is_named_and_fails_the_comparison(
    trees: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import same_bits

    row = same_bits.judge("drqv2 box", "on", {"fault": "ValueError: no"}, {"x": 1}, 0.0)
    assert capsys.readouterr().out == "on  drqv2 box: OLD failed: ValueError: no\n"
    assert not same_bits.sum_up({"on": {"drqv2 box": row}}, 0.0)
