"""`reverie report` as it is called: what it writes, and bad input in one line with exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.platform.commands import Cli, assert_refused
from tests.platform.report.runs import make_run

FILES = {"index.html", "report.json", "report.md", "curves.csv", "scores.json", "finals.json"}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        make_run(tmp_path / f"runs/s{seed}", {100: -20.0, 400: 14.6 - seed}, seed=seed)
    return tmp_path


def test_runs_become_a_report(runs: Path, cli: Cli) -> None:
    answer = cli("report", "runs", "--title", "Mine", "--threshold", "0.5")
    assert answer.code == 0, answer
    assert "3 runs, 1 task, 1 method" in answer.out
    assert "dreamerv3-2023: IQM 0.972 [" in answer.out
    assert {path.name for path in (runs / "report").iterdir()} >= FILES
    assert "wrote report: report.json, index.html, " in answer.out
    report = json.loads((runs / "report/report.json").read_text())
    assert report["command"] == "reverie report runs --title Mine --threshold 0.5"
    assert report["methods"][0]["protocols"] == ["atari100k-v1"]
    assert report["at"] == 400
    assert cli("report", "ours=runs").code == 0  # over the former one


def test_runs_beside_a_score_file(runs: Path, cli: Cli) -> None:
    (runs / "theirs.json").write_text(
        json.dumps(
            [
                {"task": "ALE/Pong-v5", "method": "x", "seed": s, "xs": [40, 1600], "ys": [1, 2]}
                for s in range(3)
            ]
        )
    )
    answer = cli("report", "theirs.json", "runs", "--unit", "frames", "--out", "o", "--published")
    assert answer.code == 0, answer
    report = json.loads((runs / "o/report.json").read_text())
    assert [one["method"] for one in report["methods"]] == ["x", "dreamerv3-2023"]
    assert report["published"]


CSV = "env,algo,seed,step,return\npong,a,0,100,1\n"


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({}, ("nowhere",), "nowhere: expected a run folder or a score file, got no such path"),
        ({"empty/a.txt": ""}, ("empty",), "empty: expected run folders (with metrics.jsonl) or sc"),
        ({"a.json": '{"pong": [NaN]}'}, ("a.json",), "a.json: pong[0]: expected a finite number"),
        (
            {"a.json": '[{"task": "pong", "xs": [2, 1], "ys": [1, 2]}]'},
            ("a.json", "--unit", "steps"),
            "xs[1]: expected more than 2, got 1; sort the evaluations",
        ),
        (
            {"a.json": '{"pong": [1], "pongg": [1]}'},
            ("a.json",),
            "unknown task 'pongg' of atari100k; did you mean pong? Spellings such as pong, Pong",
        ),
        (
            {"a.json": '{"pong": [1, 2], "alien": [1, 2], "qbert": [3]}'},
            ("a.json",),
            "a.json: a: expected 2 seeds of each task, got 1 of qbert; add the missing ones, or",
        ),
        ({}, ("runs", "--metric", "eval/x"), "no run reports eval/x; they report eval/score"),
        ({"s.yaml": "labels: {x: X}"}, ("runs", "--style", "s.yaml"), "style: labels: expected a"),
        ({"a.csv": CSV}, ("a.csv", "--map", "task=env,ys=reward"), "expected a column 'reward'"),
        ({"a.csv": CSV}, ("a.csv", "--map", "tusk=env"), "--map: expected task|method|seed|xs|ys"),
        ({"o/notes": ""}, ("runs", "--out", "o"), "got one in use (notes); choose another"),
        ({}, ("runs", "--out", "runs"), "got one in use (s0, s1, s2); choose another"),
        ({}, ("runs", "--at", "900"), "--at 900: runs/s0 (dreamerv3-2023, pong, seed 0) ends at"),
        ({}, ("runs", "--x", "gpu_hours"), "--x gpu_hours: runs/s0 (pong, seed 0) does not say it"),
        ({}, ("runs", "--at", "0"), "argument --at: expected more than 0, got 0"),
        ({}, ("runs", "--threshold", "nan"), "argument --threshold: expected a finite number, got"),
        ({}, (), "missing SOURCE, e.g. `reverie report runs --out report`"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    runs: Path, cli: Cli, files: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    for name, text in files.items():
        (runs / name).parent.mkdir(exist_ok=True)
        (runs / name).write_text(text)
    assert_refused(cli("report", *words), message)
    assert not (runs / "report").exists()


def test_runs_of_other_protocols_are_refused_or_marked(runs: Path, cli: Cli) -> None:
    make_run(runs / "b", {100: 1.0, 400: 2.0}, protocol="atari100k-v1-sticky=0.25")
    words = "report", "a=runs", "b=b"
    assert_refused(
        cli(*words),
        "runs of different evaluation protocols in one table: atari100k-v1 (runs/s0) and"
        " atari100k-v1-sticky=0.25 (b); --allow-mixed shows them marked",
    )
    answer = cli(*words, "--allow-mixed")
    assert answer.code == 0
    assert "b: 1 of 1 run protocol atari100k-v1-sticky=0.25." in answer.out
    assert "b has 1 seed, fewer than the 3 of others, on all tasks." in answer.out


def test_torn_lines_are_shown(runs: Path, cli: Cli) -> None:
    with (runs / "runs/s0/metrics.jsonl").open("a") as file:
        file.write('{"env')
    answer = cli("report", "runs")
    assert answer.code == 0
    assert "note: runs/s0/metrics.jsonl: 1 torn line was skipped (line 3)." in answer.out


def test_watching_writes_again_when_a_run_goes_on(runs: Path) -> None:
    code = (
        "import sys; from reverie.cli import main, report_commands; report_commands.WATCH_S = 0.1;"
        "sys.exit(main(['report', 'runs', '--watch']))"
    )
    path = os.pathsep.join(str(ROOT / name) for name in ("platform", "algorithms", "envs"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, cwd=runs
    )
    try:
        wait_for_runs(runs, 3)
        make_run(runs / "runs/s3", {100: -20.0, 400: 1.0}, seed=3)
        wait_for_runs(runs, 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
    assert not (runs / "report/run.lease").exists()


def wait_for_runs(folder: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        file = folder / "report/report.json"
        if file.exists() and json.loads(file.read_text())["methods"][0]["runs"] == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"no report of {count} runs")
