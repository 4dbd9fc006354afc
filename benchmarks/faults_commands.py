"""What is done to a run from outside: signals, other writers, full disks, damaged files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults_common import LIMIT_S, PATIENCE_S, PRESET, QUICK, Row, tried

SLOW_EVALUATION = "eval.episodes=10000"


class Command:
    """`reverie ...` in a process of its own, its output in a file."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.output = folder / f"out-{time.monotonic_ns()}.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reverie.cli", *arguments],
                stdout=file,
                stderr=file,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
                start_new_session=True,
            )
        self.began = time.monotonic()

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, found: Callable[[], bool]) -> None:
        while not found():
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended: {self.text[-500:]}")
            if time.monotonic() - self.began > PATIENCE_S:
                self.process.kill()
                raise TimeoutError(f"it did not come so far: {self.text[-500:]}")
            time.sleep(0.05)

    def wait(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise TimeoutError(f"it does not end: {self.text[-500:]}") from None


def train(folder: Path, run: Path, *more: str) -> Command:
    return Command(folder, "train", PRESET, *QUICK, f"run.dir={run}", *more)


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def last(run: Path, key: str) -> int:
    return max((int(line.get(key, 0)) for line in metrics(run)), default=0)


def standing(run: Path) -> Any:
    from reverie.checkpoint import CheckpointStore
    from reverie.storage import Storage

    return CheckpointStore(Storage(str(run)), 2).latest()


def signal_faults(folder: Path, wanted: Callable[[str], bool], repeat: int) -> Iterator[Row]:
    """A signal in each phase of a run in one process, and in a run on Ray."""

    def has_begun(run: Path, command: Command) -> bool:
        return "run folder" in command.text

    def trains(run: Path, command: Command) -> bool:
        return last(run, "grad_updates") > 20

    def evaluates(run: Path, command: Command) -> bool:
        return last(run, "grad_updates") > 0 and _rests(run)

    phases: dict[str, tuple[list[str], Callable[[Path, Command], bool]]] = {
        "start": ([], lambda run, command: "starting" in command.text),
        "prefill": (["run.prefill=1000000"], has_begun),
        "training": ([], trains),
        "checkpoint": (["run.checkpoint_every_s=0"], trains),
        "evaluation": (["eval.every=300", SLOW_EVALUATION], evaluates),
        "final evaluation": (["run.env_steps=300", SLOW_EVALUATION], evaluates),
    }
    cases = [("SIGTERM", phase, "--local") for phase in phases]
    cases += [("SIGHUP", "training", "--local"), ("SIGTERM", "training", "ray")]
    cases += [("SIGTERM", "final evaluation", "ray")]
    for name, phase, where in cases:
        fault = f"{name} in {phase}{' on Ray' if where == 'ray' else ''}"
        if wanted(fault):
            more, is_there = phases[phase]
            budget = [] if "run.env_steps=300" in more else ["run.env_steps=100000000"]
            local = [where] if where == "--local" else []
            run = folder / fault.replace(" ", "-")
            arguments = [*budget, *more, *local]
            yield tried(fault, lambda a=(fault, name, run, arguments, is_there): _signal(*a))


def _rests(run: Path) -> bool:
    """Whether nothing was logged for a while: an evaluation is under way."""
    return time.time() - (run / "metrics.jsonl").stat().st_mtime > 4.0


def _signal(
    fault: str, name: str, run: Path, more: list[str], is_there: Callable[[Path, Command], bool]
) -> Row:
    number = getattr(signal, name)
    command = train(run.parent, run, *more)
    command.wait_for(lambda: is_there(run, command))
    if "start" not in fault:
        time.sleep(1.0)
    done, updates = last(run, "env_steps"), last(run, "grad_updates")
    begin = time.monotonic()
    os.kill(command.process.pid, number)
    code = command.wait()
    seconds = time.monotonic() - begin
    kept = standing(run) if run.exists() else None
    progress = kept.document("record")["progress"] if kept else {"env_steps": 0, "grad_updates": 0}
    lost = max(0, done - progress["env_steps"]), max(0, updates - progress["grad_updates"])
    right_code = code == 128 + number
    return Row(
        fault=fault,
        ok=right_code and lost == (0, 0) and seconds <= LIMIT_S["signal"],
        recovery_s=round(seconds, 1),
        steps_lost=lost[0],
        updates_lost=lost[1],
        note=f"exit code {code}" + ("" if right_code else f": {command.text[-300:]}"),
    )


def writer_faults(folder: Path, wanted: Callable[[str], bool], repeat: int) -> Iterator[Row]:
    """Two processes on one run folder."""
    for where, more in (("one process", ["--local"]), ("Ray", [])):
        name = f"two writers, {where}"
        if wanted(name):
            yield tried(name, lambda n=name, m=more: _two_writers(n, folder / n[-3:], m))
    if wanted("kill -9 of the writer, requeued"):
        name = "kill -9 of the writer, requeued"
        yield tried(name, lambda: _requeued(name, folder / "requeued"))


def _two_writers(name: str, run: Path, more: list[str]) -> Row:
    first = train(run.parent, run, "run.env_steps=100000000", *more)
    first.wait_for(lambda: last(run, "grad_updates") > 0)
    begin = time.monotonic()
    second = Command(run.parent, "resume", str(run), *more)
    code = second.wait()
    seconds = time.monotonic() - begin
    lives = first.process.poll() is None
    os.kill(first.process.pid, signal.SIGTERM)
    first.wait()
    return Row(
        fault=name,
        ok=code == 2 and lives and str(first.process.pid) in second.text and bool(standing(run)),
        recovery_s=round(seconds, 1),
        steps_lost=0,
        updates_lost=0,
        note=second.text.strip().splitlines()[-1].replace(str(run), "RUN"),
    )


def _requeued(name: str, run: Path) -> Row:
    more = ["run.checkpoint_every_s=1", "--local", "--resume=auto"]
    first = train(run.parent, run, "run.env_steps=100000000", *more)
    first.wait_for(lambda: last(run, "grad_updates") > 20 and standing(run) is not None)
    os.kill(first.process.pid, signal.SIGKILL)
    done, updates = last(run, "env_steps"), last(run, "grad_updates")
    kept = standing(run).document("record")["progress"]
    begin = time.monotonic()
    second = train(run.parent, run, f"run.env_steps={done + 500}", *more)
    second.wait_for(lambda: "run folder" in second.text)
    seconds = time.monotonic() - begin
    return Row(
        fault=name,
        ok=second.wait() == 0,
        recovery_s=round(seconds, 1),
        steps_lost=max(0, done - kept["env_steps"]),
        updates_lost=max(0, updates - kept["grad_updates"]),
        note="a checkpoint every second",
    )


def disk_faults(folder: Path, wanted: Callable[[str], bool], repeat: int) -> Iterator[Row]:
    """A file system without a free byte, and each file of a run with one flipped byte."""
    if wanted("full disk"):
        yield tried("full disk", lambda: _full_disk(folder / "disk"))
    run = folder / "whole"
    kinds = ["config.yaml", "spaces.json", "run_manifest.json", "metrics.jsonl", "learner.pt"]
    kinds += ["policy.pt", "coordinator.json", "record.json", "replay.json", "manifest.json"]
    kinds += ["replay rows", "summary.json"]
    for kind in kinds:
        name = f"a flipped byte: {kind}"
        if wanted(name):
            if not run.exists():
                more = ["run.env_steps=600", "run.checkpoint_every_s=0.5", "--local"]
                train(folder, run, *more).wait()
            yield tried(name, lambda n=name, k=kind: _flip(n, run, k))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _full_disk(folder: Path) -> Row:
    if os.geteuid() != 0:
        return Row(fault="full disk", ok=None, note="mounting needs root")
    with small_disk(folder, 60):
        run, ballast = folder / "run", folder / "ballast"
        more = ["run.checkpoint_every_s=1", "run.env_steps=100000000", "--local"]
        command = train(folder.parent, run, *more)
        command.wait_for(lambda: run.exists() and standing(run) is not None)
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True)
        code = command.wait()
        ballast.unlink()
        kept = standing(run)
        begin = time.monotonic()
        steps = kept.document("record")["progress"]["env_steps"] + 100
        again = Command(folder.parent, "resume", str(run), "--local", f"run.env_steps={steps}")
        went_on = again.wait() == 0
        line = command.text.strip().splitlines()[-1].replace(str(folder), "DISK")
        return Row(
            fault="full disk",
            ok=code == 2 and went_on and "Traceback" not in command.text,
            recovery_s=round(time.monotonic() - begin, 1),
            note=line[:200],
        )


def _flip(name: str, whole: Path, kind: str) -> Row:
    run = whole.parent / name.replace(" ", "-").replace(":", "")
    shutil.copytree(whole, run)
    pattern = "replay/shard*.arrow" if kind == "replay rows" else f"**/{kind}"
    path = sorted(run.glob(pattern))[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    steps = last(whole, "env_steps")
    begin = time.monotonic()
    command = Command(whole.parent, "resume", str(run), "--local", f"run.env_steps={steps + 100}")
    code = command.wait()
    said = [line for line in command.text.splitlines() if path.name in line]
    return Row(
        fault=name,
        ok="Traceback" not in command.text and (code == 0 or (code == 2 and bool(said))),
        recovery_s=round(time.monotonic() - begin, 1),
        note=f"exit code {code}" + (f": {said[-1].replace(str(run), 'RUN')[:160]}" if said else ""),
    )
