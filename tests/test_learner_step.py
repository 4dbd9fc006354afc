"""What benchmarks/learner_step.py measures is what its options say."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

HAS_SWITCH = importlib.util.find_spec("reverie_algorithms.fast") is not None
V3 = ["--algorithm=dreamerv3", "--dialect=2025"]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import learner_step

    yield learner_step
    for name in ("learner_step", "peers", "measure", "common"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*V3, "--size=1m", "--peer=r2dreamer"], "r2dreamer comes as 12m, 25m, 50m, "),
        (["--algorithm=dreamerv2", "--peer=harmonydream"], "comes as 200, ours would be 1024"),
        (["--algorithm=drqv2", "--size=hard", "--peer=drqv2"], "ours would be hard"),
        ([*V3, "--size=huge", "--peer=r2dreamer"], "algorithm.size: expected one of "),
        ([*V3, "--peer=sheeprl"], "invalid choice: 'sheeprl'"),
    ],
)
def test_a_peer_that_has_no_such_size_is_refused_before_anything_is_built(
    step: Any, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        step.parse(words)
    assert message in capsys.readouterr().err


def test_the_peer_is_started_in_our_size(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    class Still:
        def __init__(self, *command: str) -> None:
            started.append(list(command))

        def turn(self) -> None: ...

        def leave(self) -> dict[str, float]:
            return {"cpu_ms": 2.0, "cpu_min_ms": 1.0}

    monkeypatch.setattr(step, "Player", Still)
    for size, limit in (("12m", 0.6), ("25m", None)):
        options = step.parse([*V3, f"--size={size}", "--peer=r2dreamer"])
        found = step.compare(options, [*V3, f"--size={size}"])
        assert (found["size"], found["limit"]) == (size, limit)
        ours, peer = started[-2:]
        assert f"--size={size}" in ours
        assert peer[2:4] == ["r2dreamer", f"--size={size}"]


def test_plain_is_refused_where_nothing_can_be_switched_off(
    step: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "reverie_algorithms.fast", None)
    with pytest.raises(SystemExit, match="2"):
        step.parse(["--algorithm=drqv2", "--plain"])
    assert "expected algorithms with reverie_algorithms.fast.plain" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_SWITCH, reason="fast code cannot be switched off")
@pytest.mark.parametrize("words", [[], ["--plain"]])
def test_plain_measures_inside_the_switch(
    step: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from reverie_algorithms import fast

    seen: list[bool] = []
    trick = next(iter(fast.TRICKS))
    monkeypatch.setattr(step, "settle", lambda options: None)
    monkeypatch.setattr(step, "run", lambda options: seen.append(_is_on(fast, trick, torch)))
    monkeypatch.setattr(sys, "argv", ["learner_step.py", "--algorithm=drqv2", *words])
    step.main()
    assert seen == [not words]


def _is_on(fast: Any, trick: str, torch: Any) -> bool:
    return fast.enabled(trick, torch.zeros(1, requires_grad=True))
