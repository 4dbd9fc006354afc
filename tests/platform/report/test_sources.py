"""Sources as the user writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.errors import ConfigError
from reverie.report.score_files import ReadOptions
from reverie.report.sources import read_study
from tests.platform.report.runs import make_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        make_run(tmp_path / f"runs/group/s{seed}", {100: 1.0}, seed=seed)
    return tmp_path


def test_a_folder_brings_all_runs_below_it(runs: Path) -> None:
    (runs / "runs/group/s0/checkpoints").mkdir()
    study = read_study(["runs"])
    assert [curve.source for curve in study.curves] == ["runs/group/s0", "runs/group/s1"]


def test_a_name_stands_for_the_method(runs: Path) -> None:
    study = read_study(["ours=runs"])
    assert {curve.method for curve in study.curves} == {"ours"}
    make_run(runs / "a=b", {100: 1.0}, seed=5)
    assert read_study(["a=b"]).curves[0].method == "dreamerv3-2023"


def test_the_same_run_twice_is_refused(runs: Path) -> None:
    message = r"runs/group/s0: dreamerv3-2023 on pong with seed 0 is in runs/group/s0 already; name"
    with pytest.raises(ConfigError, match=message):
        read_study(["runs", "runs/group/s0"])
    assert len(read_study(["runs", "other=runs"]).curves) == 4


def test_score_files_of_a_folder_are_read_where_it_has_no_runs(runs: Path) -> None:
    files = runs / "files"
    files.mkdir()
    for name in ("a", "b"):
        (files / f"{name}.json").write_text(json.dumps({"pong": [1, 2]}))
    study = read_study(["files"])
    assert [curve.method for curve in study.curves] == ["a", "a", "b", "b"]
    assert study.curves[0].source == "files/a.json"


def test_runs_without_the_metric_are_counted(runs: Path) -> None:
    make_run(runs / "runs/c", {100: 1.0}, metric="eval/length", seed=7)
    study = read_study(["runs"])
    assert len(study.curves) == 2
    assert study.notes == ("1 run without eval/score left out: runs/c.",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: expected a run folder or a score file, got no such path"),
        ("empty", "empty: expected run folders (with metrics.jsonl) or score files"),
        ("notes.txt", "notes.txt: expected a run folder or a file that ends in .json, .json.gz"),
    ],
)
def test_what_is_no_source_is_named(runs: Path, source: str, message: str) -> None:
    (runs / "empty").mkdir()
    (runs / "notes.txt").touch()
    with pytest.raises(ConfigError) as caught:
        read_study([source])
    assert message in str(caught.value)


def test_a_metric_that_no_run_reports_is_told_with_those_there_are(runs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(["runs"], ReadOptions(metric="eval/foo"))
    assert str(caught.value) == "--metric: no run reports eval/foo; they report eval/score"
