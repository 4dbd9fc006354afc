"""Run folders as curves with facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.errors import ConfigError
from reverie.metrics import MetricsLogger
from reverie.report.run_folders import NoMetric, read_run
from reverie.report.study import Curve
from tests.platform.report.runs import counters, make_run, write_times


def read(folder: Path, metric: str | None = None) -> tuple[Curve, list[str]]:
    found, notes = read_run(folder, folder.name, None, metric)
    assert isinstance(found, Curve)
    return found, notes


def test_evaluations_become_a_curve_with_its_facts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0, 200: 2.0, 400: 4.0}, seed=3)
    write_times(folder, [3600, 7200, 14400])
    curve, notes = read(folder)
    assert (curve.task, curve.suite, curve.method) == ("pong", "atari100k", "dreamerv3-2023")
    assert (curve.seed, curve.metric, curve.source) == ("3", "eval/score", "a")
    assert curve.xs.tolist() == [100, 200, 400]
    assert curve.ys.tolist() == [1, 2, 4]
    assert curve.columns["updates"].tolist() == [50, 100, 200]
    assert curve.columns["hours"].tolist() == [1, 2, 4]
    assert "gpu_hours" not in curve.columns
    facts = curve.facts
    assert (facts.protocol, facts.training_ratio, facts.updates_per_env_step) == (
        "atari100k-v1",
        64,
        0.5,
    )
    assert (facts.hardware, facts.budget, facts.action_repeat) == ("CPU: AMD EPYC", 400, 4)
    assert (facts.finished, facts.hours, facts.marks) == (True, 2.0, ())
    assert notes == []


def test_marks_name_what_a_reader_must_know(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "a",
        {100: 1.0},
        finished=False,
        algorithm={"size": "tiny", "harmony": {"mode": "harmonious"}},
        env={"quality": "fast"},
    )
    curve, _ = read(folder)
    assert curve.facts.marks == ("unfinished", "quality: fast", "debug size: tiny")
    assert curve.method == "dreamerv3-2023+harmony"


def test_a_summary_of_a_smaller_budget_does_not_finish_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0})
    (folder / "summary.json").write_text(json.dumps({"env_steps": 300, "seconds": 1.0}))
    assert read(folder)[0].facts.marks == ("unfinished",)


def test_a_resume_supersedes_rows_and_its_pause_takes_no_time(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0, 200: 9.0}, manifest={"resumed": [{}]})
    logger = MetricsLogger(folder, tensorboard=False)
    logger.resumed(counters(100))
    logger.write({"eval/score": 2.0}, counters(200))
    logger.close()
    write_times(folder, [3600, 7200, 100_000, 103_600])
    curve, _ = read(folder)
    assert curve.ys.tolist() == [1, 2]
    assert curve.columns["hours"].tolist() == [1, 3]


def test_a_resume_with_another_budget_counts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0}, manifest={"resumed": [{}]})
    config = json.loads((folder / "config.yaml").read_text())
    config["run"]["env_steps"] = 900
    (folder / "config.yaml").write_text(json.dumps(config))
    assert read(folder)[0].facts.budget == 900


def test_torn_lines_are_skipped_counted_and_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0, 200: 2.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 300, "eval/sc')
    curve, notes = read(folder)
    assert len(curve.xs) == 2
    assert notes == ["a/metrics.jsonl: 1 torn line was skipped (line 3)."]


def test_values_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0, 200: float("nan")})
    curve, notes = read(folder)
    assert curve.xs.tolist() == [100]
    assert notes == ["a: 1 values of eval/score are not finite and were skipped."]


def test_later_evaluations_count_under_the_same_protocol_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0})
    rows = [
        {"env_steps": 100, "grad_updates": 50, "protocol": "atari100k-v1", "eval/score": 7.0},
        {"env_steps": 400, "grad_updates": 200, "protocol": "atari100k-v1", "eval/score": 5.0},
        {"env_steps": 300, "grad_updates": 150, "protocol": "atari100k-v1-mode", "eval/score": 6.0},
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curve, notes = read(folder)
    assert curve.xs.tolist() == [100, 400]
    assert curve.ys.tolist() == [1, 5]
    assert "hours" not in curve.columns
    assert notes == ["a/evaluations.jsonl: 1 evaluations under another protocol were left out."]


def test_meta_world_reports_success(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "a",
        {100: 0.5},
        metric="eval/success_max",
        env={"suite": "metaworld", "task": "lever_pull"},
    )
    curve, _ = read(folder)
    assert (curve.task, curve.metric) == ("lever-pull", "eval/success_max")


def test_a_metric_that_a_run_lacks_is_told_with_those_it_has(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 0.5}, metric="eval/length")
    found, _ = read_run(folder, "a", None, None)
    assert found == NoMetric("eval/score", ("eval/length",))
    assert read(folder, "length")[0].metric == "eval/length"


@pytest.mark.parametrize(
    ("device", "learners", "hardware", "gpu_hours"),
    [
        ({"device": "NVIDIA H100", "gpu": True}, 2, "2 x NVIDIA H100", 4.0),
        ({"device": "AMD EPYC", "gpu": False}, 1, "CPU: AMD EPYC", None),
    ],
)
def test_the_learners_device_wins_over_the_drivers(
    tmp_path: Path,
    device: dict[str, object],
    learners: int,
    hardware: str,
    gpu_hours: float | None,
) -> None:
    folder = make_run(
        tmp_path / "a",
        {100: 1.0, 400: 2.0},
        manifest={"learner": device},
        resources={"device": "auto", "num_learners": learners},
    )
    write_times(folder, [3600, 7200])
    curve, _ = read(folder)
    assert (curve.facts.hardware, curve.facts.gpu_hours) == (hardware, gpu_hours)
    assert ("gpu_hours" in curve.columns) == (gpu_hours is not None)
    if gpu_hours:
        assert curve.columns["gpu_hours"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run_manifest.json", "{", "a/run_manifest.json: expected JSON"),
        ("run_manifest.json", "[]", "a/run_manifest.json: expected an object, got list"),
        ("metrics.jsonl", "3\n", "a/metrics.jsonl: row 1: expected an object, got 3"),
        ("metrics.jsonl", '{"eval/score": 1}\n', "a: metrics.jsonl: expected a number as env_ste"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0})
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        read(folder)


def test_a_run_without_configuration_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", {100: 1.0})
    for name in ("run_manifest.json", "config.yaml"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match=r"a: expected config.yaml in a run folder, got none"):
        read(folder)
