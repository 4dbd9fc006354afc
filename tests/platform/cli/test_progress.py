"""What is printed while a run goes on and at its end."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

import pytest

from reverie.cli.commands import parse
from reverie.cli.progress import (
    LEARNED_UPDATES,
    LEARNS_SOON,
    ProgressLine,
    progress_text,
    summary_text,
)
from reverie.config import load_config
from reverie.run_record import Progress, Summary
from tests.conftest import ROOT


def half_way(**values: Any) -> Progress:
    """Fifty of a hundred steps in ten seconds."""
    progress = Progress(budget=100, env_steps=50, grad_updates=20, **values)
    progress.started = time.perf_counter() - 10
    return progress


def summary(**values: Any) -> Summary:
    whole: dict[str, Any] = {
        "run": "runs/x",
        "env_steps": 1000,
        "env_frames": 4000,
        "grad_updates": 250,
        "trained_steps": 5000,
        "episodes": 12,
        "seconds": 3725.0,
        "score": 14.5,
        "human_normalised": 0.25,
        "best_score": 15.0,
        "protocol": "atari100k-v1",
        "eval_episodes": 100,
        "train_return": 3.25,
        "train_episodes": 12,
        "learner_idle_share": 0.125,
        "worker_idle_share": 0.5,
        "restarts": {},
        "lost_steps": 0,
        "lost_rows": 0,
        "lost_updates": 0,
        "uncounted_steps": 0,
        "checkpoint": "runs/x/checkpoints/00000003",
        "tensorboard": "runs/x/tensorboard",
        "videos": ["runs/x/videos/a.mp4", "runs/x/videos/b.mp4"],
    }
    return Summary(**whole | values)


def test_the_line_holds_share_time_left_rates_and_scores() -> None:
    progress = half_way(faults=2)
    progress.returns.extend([1.0, 4.0])
    text = progress_text(progress)
    assert " 50%  50/100 env steps" in text
    assert "5.0 steps/s" in text
    assert "20 updates (2.00/s)" in text
    assert "return 4.00 (mean of last 20: 2.50)" in text
    assert "recovered from 2 faults" in text


def test_time_left_follows_the_pace_of_this_process_alone() -> None:
    assert half_way().eta_s == pytest.approx(10, rel=0.05)
    assert Progress(100).eta_s is None
    assert "eta" not in progress_text(Progress(100))
    # A resumed run did its first 40 steps in another process.
    assert half_way(steps_at_start=40).eta_s == pytest.approx(50, rel=0.05)
    assert Progress(100, env_steps=40, steps_at_start=40).eta_s is None


def test_without_a_terminal_there_is_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("reverie.cli.progress.time.monotonic", lambda: now[0])
    with ProgressLine() as line:
        for _ in range(3):
            line.show(half_way())
        now[0] += 60
        line.show(half_way())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("50/100 env steps" in found and "\x1b" not in found for found in lines)


def test_on_a_terminal_the_line_is_live(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with ProgressLine() as line:
        line.show(half_way())
    assert "50/100 env steps" in " ".join(capsys.readouterr().out.split())


def test_the_summary_says_everything_a_person_asks_for() -> None:
    text = summary_text(summary())
    for words in (
        "14.50 over 100 episodes (atari100k-v1), human-normalised 0.250",
        "3.25 (mean of the last 12 episodes)",
        "1,000 (4,000 frames, 12 episodes)",
        "250 (5,000 trained steps)",
        "1h02m",
        "learner 12%, workers 50%",
        "recovered faults  none",
        "runs/x/checkpoints/00000003",
        "tensorboard --logdir runs/x/tensorboard",
        "runs/x/videos/b.mp4",
        "reverie eval runs/x --video",
    ):
        assert words in text


def test_the_summary_names_no_files_that_were_not_written() -> None:
    text = summary_text(summary(tensorboard=None, videos=[]))
    assert "--logdir" not in text
    assert "TensorBoard       no files" in text
    assert "no video" in text


def test_the_summary_counts_what_was_lost() -> None:
    faults = {"restarts": {"learner": 1, "env_worker": 2}, "lost_steps": 8, "lost_updates": 5}
    text = summary_text(summary(**faults))
    assert "env_worker 2, learner 1; lost: 8 env steps, 0 replay rows, 5 updates" in text


def test_a_summary_shows_the_benchmarks_own_figures() -> None:
    text = summary_text(summary(suite_scores={"episode/crafter_score": 3.456}))

    assert "episode/crafter_score  3.46" in text


def test_one_of_a_thing_is_singular() -> None:
    ones = {"eval_episodes": 1, "train_episodes": 1, "episodes": 1, "env_frames": 1}
    text = summary_text(summary(**ones, restarts={"learner": 1}, lost_steps=1, lost_updates=1))
    assert "14.50 over 1 episode (" in text
    assert "3.25 (1 episode)" in text
    assert "(1 frame, 1 episode)" in text
    assert "learner 1; lost: 1 env step, 0 replay rows, 1 update\n" in text


def test_a_run_too_short_to_learn_names_a_command_that_shows_learning() -> None:
    pong = {"grad_updates": 875, "human_normalised": 0.02}
    for short in (pong, pong | {"human_normalised": None}, pong | {"score": None}):
        assert LEARNS_SOON in summary_text(summary(**short))
    for long in (pong | {"grad_updates": 1489}, pong | {"human_normalised": 1.0}):
        assert LEARNS_SOON not in summary_text(summary(**long))


def test_updates_until_catch_is_learned_are_those_that_were_measured() -> None:
    results = ROOT / "benchmarks/results"
    paths = [p for p in results.glob("learning-*catch*.json") if "entropy" not in p.name]
    figures = [json.loads(path.read_text())["figures"] for path in paths]
    updates = [seed["reached"]["updates"] for found in figures for seed in found["seeds"]]
    assert (min(updates), max(updates)) == LEARNED_UPDATES
    assert {found["threshold"] for found in figures} == {0.8}
    soon = json.loads((results / "learning-dreamerv2-catch.json").read_text())["figures"]
    arguments = parse(shlex.split(LEARNS_SOON)[1:])
    budget = load_config(arguments.config, arguments.overrides).run.env_steps
    for seed in soon["seeds"]:
        assert seed["reached"]["minutes"] < 4
        assert seed["reached"]["env_steps"] <= budget


def test_a_run_without_episodes_or_scores_says_so() -> None:
    text = summary_text(summary(score=None, train_return=None, videos=[]))
    assert "not evaluated" in text
    assert "no episode ended" in text
    assert "no video" in text
