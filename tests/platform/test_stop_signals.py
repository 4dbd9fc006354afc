"""A signal at any moment leaves a checkpoint; a second one ends the process and tells what stands.

The commands run in processes forked of this one, which has imported everything already.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.cli import main
from reverie.metrics import read_metrics
from reverie.stop_signals import SAME_S, StopSignals
from tests.platform.commands import checkpoints, write_config

SOON_S = 30.0
"""Seconds after a signal in which a checkpoint stands."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGHUP: 129}


def slow_evaluation(folder: Path) -> dict[str, Any]:
    """Settings of evaluations of minutes; the file `evaluating` tells that one has begun."""
    note = str(folder / "evaluating")
    return {"eval__env": {"delay_s": 0.5, "note": note}, "eval__episodes": 200}


class Command:
    """One command in a process of its own, what it prints in a file."""

    def __init__(self, folder: Path, *arguments: object, begin: Callable[[], object] = bool):
        self._output = folder / "output.txt"
        self._output.unlink(missing_ok=True)  # that of an earlier one
        self.pid = os.fork()
        if self.pid:
            self._code: int | None = None
            return
        code = 1
        try:
            file = self._output.open("w")
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
            logging.root.handlers = []
            torch.set_num_threads(1)
            begin()
            code = main([str(argument) for argument in arguments])
        finally:
            os._exit(code)

    @property
    def output(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert self.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.02)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        if self._code is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self._code = -1
        return self._code

    def wait(self, seconds: float = SOON_S) -> int:
        """The exit code."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                return self._code
            assert time.monotonic() < end, self.output
            time.sleep(0.02)

    def end(self) -> None:
        if self._code is None and self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All that a run imports, torch's seconds at its first optimizer among it."""
    folder = tmp_path_factory.mktemp("imported")
    assert main(["train", str(write_config(folder)), "--local"]) == 0


@pytest.fixture
def start(tmp_path: Path, imported: None) -> Any:
    """Start `reverie train` or another command with `start("train", ...)`."""
    commands: list[Command] = []

    def begin(*arguments: object, **options: Any) -> Command:
        commands.append(Command(tmp_path, *arguments, "--local", **options))
        return commands[-1]

    yield begin
    for command in commands:
        command.end()


def newest(folder: Path) -> Any:
    """The newest checkpoint."""
    return checkpoints(folder).latest()


def steps_of(folder: Path) -> int:
    """Env steps of the newest checkpoint."""
    return newest(folder).document("record")["progress"]["env_steps"]


def has_checkpoint(folder: Path) -> bool:
    return bool(list(folder.glob("run/checkpoints/*/manifest.json")))


def pins_of(folder: Path) -> list[int]:
    """Env steps of the evaluations that the newest checkpoint says are still to come."""
    return [at for *_, at in newest(folder).document("pins")]


def scores(folder: Path) -> list[Any]:
    rows = read_metrics(folder / "run" / "metrics.jsonl")
    return [row["env_steps"] for row in rows if "eval/score" in row]


def has_begun(command: Command) -> bool:
    """The run folder is printed once the run is there."""
    return "run folder:" in command.output


LONG_QUOTA = {"replay__chunk_length": 200, "learner__batch_length": 5, "run__env_steps": 2000}
PHASES: dict[str, dict[str, Any]] = {
    # One quota takes 100 s.
    "prefill": {**LONG_QUOTA, "env__delay_s": 1.0, "run__prefill": 1000},
    "acting": {**LONG_QUOTA, "env__delay_s": 1.0, "run__prefill": 0},
    # A million updates are due once 40 rows are there.
    "training": {"learner__pretrain": 1_000_000, "run__env_steps": 400},
    "checkpoint": {"run__checkpoint_every_s": 0.0, "run__env_steps": 100_000},
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_of_training_leaves_a_checkpoint(
    phase: str, tmp_path: Path, start: Any
) -> None:
    config = write_config(tmp_path, **PHASES[phase])
    command = start("train", config)
    command.until(lambda: has_begun(command))
    if phase == "checkpoint":
        command.until(lambda: has_checkpoint(tmp_path))
    time.sleep(0.7)
    command.send(signal.SIGTERM)
    assert command.wait() == 143, command.output
    assert f"stopped by SIGTERM; checkpoint written, resume it with: reverie resume {tmp_path}" in (
        command.output
    )
    assert steps_of(tmp_path) < 100_000
    rest = start(
        *("resume", tmp_path / "run", "env.delay_s=0", "learner.pretrain=0"),
        *(f"run.env_steps={steps_of(tmp_path) + 20}", "run.prefill=0", "replay.chunk_length=16"),
    )
    assert rest.wait() == 0, rest.output


def test_an_evaluation_that_a_signal_stops_is_played_once_after_resume(
    tmp_path: Path, start: Any
) -> None:
    config = write_config(tmp_path, eval__every=40, **slow_evaluation(tmp_path))
    command = start("train", config)
    command.until((tmp_path / "evaluating").exists)
    command.send(signal.SIGTERM)
    assert command.wait() == 143, command.output
    (pin,) = pins_of(tmp_path)
    assert 40 <= pin < 80
    rest = start("resume", tmp_path / "run", "eval.env.delay_s=0", "eval.episodes=2")
    assert rest.wait() == 0, rest.output
    assert scores(tmp_path) == [pin, 80]
    assert pins_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_final_evaluation_costs_no_step_and_resume_goes_straight_to_it(
    number: int, tmp_path: Path, start: Any
) -> None:
    command = start("train", write_config(tmp_path, **slow_evaluation(tmp_path)))
    command.until((tmp_path / "evaluating").exists)
    assert steps_of(tmp_path) == 80
    assert pins_of(tmp_path) == []
    command.send(number)
    assert command.wait() == CODES[signal.Signals(number)], command.output
    assert pins_of(tmp_path) == [80]
    before = newest(tmp_path).document("record")["progress"]
    rest = start("resume", tmp_path / "run", "eval.env.delay_s=0", "eval.episodes=2")
    assert rest.wait() == 0, rest.output
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["eval_episodes"] == 2
    assert [summary[key] for key in ("env_steps", "grad_updates", "episodes")] == [
        before[key] for key in ("env_steps", "grad_updates", "episodes")
    ]
    assert scores(tmp_path) == [80]


def test_a_training_that_was_killed_in_its_final_evaluation_is_not_lost(
    tmp_path: Path, start: Any
) -> None:
    command = start("train", write_config(tmp_path, **slow_evaluation(tmp_path)))
    command.until((tmp_path / "evaluating").exists)
    command.send(signal.SIGKILL)
    command.wait()
    assert steps_of(tmp_path) == 80
    rest = start("resume", tmp_path / "run", "eval.env.delay_s=0", "eval.episodes=2")
    assert rest.wait() == 0, rest.output
    assert scores(tmp_path) == [80]


def test_a_stopped_final_evaluation_is_played_where_the_budget_is_raised(
    tmp_path: Path, start: Any
) -> None:
    command = start("train", write_config(tmp_path, **slow_evaluation(tmp_path)))
    command.until((tmp_path / "evaluating").exists)
    command.send(signal.SIGTERM)
    assert command.wait() == 143, command.output
    rest = start(
        "resume", tmp_path / "run", "eval.env.delay_s=0", "eval.episodes=2", "run.env_steps=120"
    )
    assert rest.wait() == 0, rest.output
    assert scores(tmp_path) == [80, 120]


@pytest.mark.parametrize(
    ("number", "made"),
    [(signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["SIGTERM", "SIGINT", "empty folder"],
)
def test_a_signal_at_the_start_ends_at_once_and_the_same_command_runs_again(
    number: int, made: bool, tmp_path: Path, start: Any
) -> None:
    if not made:
        (tmp_path / "run").mkdir()
    config = write_config(tmp_path, env__build_s=60.0, env__step_timeout_s=100.0)
    command = start("train", config)
    command.until(lambda: (tmp_path / "run" / "run.lease").exists())
    time.sleep(0.3)
    command.send(number)
    assert command.wait(5) == CODES[signal.Signals(number)]
    name = signal.Signals(number).name
    assert f"reverie: stopped by {name} before there was anything to save; the same" in (
        command.output
    )
    assert (tmp_path / "run").exists() is not made
    again = start("train", write_config(tmp_path))
    assert again.wait() == 0, again.output


def test_a_signal_at_the_start_of_a_resume_says_which_checkpoint_stands(
    tmp_path: Path, start: Any
) -> None:
    assert start("train", write_config(tmp_path)).wait() == 0
    number = newest(tmp_path).number
    rest = start("resume", tmp_path / "run", "env.build_s=60", "env.step_timeout_s=100")
    rest.until(lambda: (tmp_path / "run" / "run.lease").exists())
    time.sleep(0.3)
    rest.send(signal.SIGINT)
    assert rest.wait(5) == 130
    text = f"stopped at once by SIGINT; checkpoint {number} stands (80 env steps), resume it with"
    assert text in rest.output
    assert start("resume", tmp_path / "run", "run.env_steps=90").wait() == 0
    assert steps_of(tmp_path) == 90


HANGS = ("env.delay_s=50", "run.env_steps=1000")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_and_says_what_stands(
    number: int, tmp_path: Path, start: Any
) -> None:
    """The first one has to wait until a step of the environment returns."""
    name = signal.Signals(number).name
    hangs = start("train", write_config(tmp_path), *HANGS)
    twice(hangs, number)
    assert hangs.wait(5) == CODES[signal.Signals(number)]
    assert (
        f"reverie: stopped at once by {name}; no checkpoint stands yet: start again with the same"
        f" command and run.dir={tmp_path / 'run'} --resume=auto"
    ) in hangs.output
    again = start("train", write_config(tmp_path), "--resume=auto")
    assert again.wait() == 0, again.output
    number_before = newest(tmp_path).number
    hangs = start("resume", tmp_path / "run", *HANGS)
    twice(hangs, number)
    assert hangs.wait(5) == CODES[signal.Signals(number)]
    assert (
        f"reverie: stopped at once by {name}; checkpoint {number_before} stands (80 env steps),"
        f" resume it with: reverie resume {tmp_path / 'run'}"
    ) in hangs.output


def test_a_checkpoint_that_is_broken_is_not_said_to_stand(tmp_path: Path, start: Any) -> None:
    assert start("train", write_config(tmp_path)).wait() == 0
    assert start("resume", tmp_path / "run", "run.env_steps=90").wait() == 0
    first, second = sorted((tmp_path / "run" / "checkpoints").iterdir())
    (second / "learner.pt").write_bytes(b"broken")
    hangs = start("resume", tmp_path / "run", *HANGS)
    twice(hangs, signal.SIGTERM)
    assert hangs.wait(5) == 143
    assert f"; checkpoint {int(first.name)} stands (80 env steps)" in hangs.output


def twice(command: Command, number: int) -> None:
    command.until(lambda: has_begun(command))
    time.sleep(0.5)
    command.send(number)
    time.sleep(3 * SAME_S)
    assert command.poll() is None, command.output
    command.send(number)


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path, start: Any) -> None:
    """As under `nohup`."""
    config = write_config(tmp_path, run__env_steps=100_000)
    ignored = start("train", config, begin=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    ignored.until(lambda: has_begun(ignored))
    ignored.send(signal.SIGHUP)
    time.sleep(3 * SAME_S)
    assert ignored.poll() is None, ignored.output
    ignored.send(signal.SIGTERM)
    assert ignored.wait() == 143


def test_signals_that_come_together_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends one to its child and one to its group."""
    with StopSignals() as signals:
        monkeypatch.setattr(signals, "end", pytest.fail)
        signals.waits = True
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert signals.told()
        assert signals.first == signal.SIGHUP


def test_signals_are_taken_again_after_another_took_them_and_given_back_in_the_end() -> None:
    before = {number: signal.getsignal(number) for number in CODES}
    with StopSignals() as signals:
        with signals:
            signals.waits = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as `ray.init` does
        signals.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.first == signal.SIGTERM
    assert {number: signal.getsignal(number) for number in CODES} == before
    assert not signals.is_listening


def test_a_new_attempt_leaves_one_curve(tmp_path: Path, start: Any) -> None:
    """A first attempt that was killed before its first checkpoint got further than the second."""
    settings = {"run__log_every_s": 0.0, "run__prefill": 0}
    config = write_config(tmp_path, run__env_steps=3000, replay__chunk_length=10, **settings)
    killed = start("train", config, "env.delay_s=0.001")
    metrics = tmp_path / "run" / "metrics.jsonl"
    killed.until(lambda: metrics.exists() and metrics.read_text().count("\n") > 20)
    killed.send(signal.SIGKILL)
    killed.wait()
    rows: list[Any] = read_metrics(metrics)
    assert rows[-1]["env_steps"] > 80
    assert not has_checkpoint(tmp_path)
    config = write_config(tmp_path, run__env_steps=80, replay__chunk_length=16, **settings)
    again = start("train", config, "--resume=auto")
    assert again.wait() == 0, again.output
    rows = [*read_metrics(metrics)]
    steps = [row["env_steps"] for row in rows if "fps/env" in row]
    assert steps == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 80]
