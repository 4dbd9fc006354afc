"""A run that really ran, in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.config import resolve_config
from reverie.report.run_folders import read_run
from reverie.report.study import Curve
from reverie.trainer import Trainer
from tests.fakes import tree


def test_a_finished_run_says_all_that_a_report_asks(tmp_path: Path) -> None:
    config = resolve_config(
        tree(run__dir=str(tmp_path / "run"), run__env_steps=100, eval__video=False)
    )
    summary = Trainer(config, local=True).run()
    curve, notes = read_run(tmp_path / "run", "run", None, None)
    assert isinstance(curve, Curve)
    assert notes == []
    assert (curve.xs.tolist(), curve.ys.tolist()) == ([100], [summary.score])
    facts = curve.facts
    assert (facts.protocol, facts.budget, facts.finished) == (summary.protocol, 100, True)
    assert (facts.action_repeat, facts.marks) == (1, ())
    manifest = json.loads((tmp_path / "run/run_manifest.json").read_text())
    assert facts.hardware == f"CPU: {manifest['learner']['device']}"
    assert manifest["learner"]["worked_s"] > 0
    assert facts.hours
    # Hours are seconds by 3,600, and back: the last bit may differ.
    assert facts.hours * 3600 == pytest.approx(summary.seconds, rel=1e-12)
    assert 0 < curve.columns["hours"][0] * 3600 < 60
