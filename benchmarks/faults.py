"""What a fault costs: one line per fault, each of them real, in runs of a preset.

python benchmarks/faults.py [--json] [--only NAME ...] [--repeat 50]     # --list names them all

`recovery_s` is the time from the fault until everything works again: every env worker has handed in
new steps and the learner has trained (parts), a checkpoint stands (signals), the next command has
its run folder (writers, files, disks). Limits on 2 idle cores: env worker 5 s, learner 15 s, signal
to checkpoint 10 s. Steps and updates lost are what the run itself reports.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import save, saved

PRESET = "drqv2/catch"
QUICK = [
    *("learner.training_ratio=8", "learner.batch_size=8", "run.prefill=200", "eval.every=0"),
    *("eval.episodes=2", "eval.envs=2", "eval.video=false", "logging.tensorboard=false"),
    *("run.log_every_s=0.5", "run.checkpoint_every_s=100000", "run.max_actor_restarts=1000"),
]
LIMIT_S = {"env_worker": 5.0, "learner": 15.0, "signal": 10.0}
THRESHOLD = "RAY_memory_usage_threshold"
SILENT_S = 60.0
"""Seconds without a sign of life after which a stopped part is replaced."""
PATIENCE_S = 180.0
"""Seconds after which a fault counts as not mended."""
SLOW_EVALUATION = "eval.episodes=10000"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one fault."""

    fault: str
    ok: bool | None
    """None: it could not be tried here."""
    recovery_s: float | None = None
    steps_lost: int | None = None
    updates_lost: int | None = None
    note: str = ""
    load: float | None = None
    """Of the machine, over the minute before."""


# Parts of one run on Ray


class Parts:
    """One long run on Ray whose parts are hurt one after the other."""

    def __init__(self, folder: Path) -> None:
        from reverie.cluster.fleet import Key
        from reverie.config import load_config
        from reverie.trainer import Trainer

        more = ["run.env_steps=100000000", "resources.num_env_workers=2", "resources.num_shards=2"]
        config = load_config(PRESET, [*QUICK, *more, f"run.dir={folder / 'parts'}"])
        self.key = Key
        self.trainer = Trainer(config)
        self.run: Any = self.trainer._backend
        self.faults: list[Any] = []
        self.work()

    def kill(self, role: str, index: int = 0, number: int = signal.SIGKILL) -> None:
        os.kill(self.process(role, index), number)

    def process(self, role: str, index: int = 0) -> int:
        import ray

        actor = self.run.fleet.actors[self.key(role, index)]
        return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))

    def step(self) -> Any:
        events = self.trainer.step()
        self.faults += events.faults
        return events

    def work(self, deaths: Sequence[str] = (), since: int | None = None) -> None:
        """Go on until these deaths were reported (after the first `since` faults) and all env
        workers and the learner have worked after them.
        """
        begin, idle, trained = time.monotonic(), {0, 1}, False
        since = len(self.faults) if since is None else since
        left: list[str] = list(deaths)
        while left or idle or not trained:
            if time.monotonic() - begin > PATIENCE_S:
                raise TimeoutError(f"not mended: deaths {left}, workers {idle}, trained {trained}")
            events = self.step()
            if not left:
                idle -= {stats.worker for stats in events.collected if stats.env_steps}
                trained |= any(stats.updates for stats in events.trained)
            left = list(deaths)
            for fault in self.faults[since:]:
                if fault.role in left:
                    left.remove(fault.role)

    def count(self) -> tuple[dict[str, Any], dict[str, int]]:
        """What the coordinator and the trainer have counted, at rest after a checkpoint."""
        self.trainer.save(go_on=False)
        facts, progress = self.trainer.facts(), self.trainer.progress
        counted = {"env_steps": progress.env_steps, "trained_steps": progress.trained_steps}
        self.run._site.quiet = False
        self.run._ask_coordinator("unpause")
        return facts, counted

    def row(self, fault: str, deaths: Sequence[str], hurt: Callable[[], None]) -> Row:
        """Hurt the run, wait until it works again, and compare what its parts have counted."""
        self.trainer.save()
        self.work()
        begin, since = time.monotonic(), len(self.faults)
        hurt()
        self.work(deaths, since)
        faults = self.faults[since:]
        seconds = time.monotonic() - begin
        facts, progress = self.count()
        exact = all(facts[key] == value for key, value in progress.items())
        # A stopped part is first waited for, memory is first taken.
        more = SILENT_S if fault.startswith(("stop", "memory")) else 0.0
        limit = more + max((LIMIT_S.get(role, 15.0) for role in deaths), default=15.0)
        limit *= max(map(Counter(deaths).get, deaths), default=1)  # one after the other
        return Row(
            fault=fault,
            ok=exact and seconds <= limit,
            recovery_s=round(seconds, 1),
            steps_lost=sum(f.lost_steps for f in faults if f.role == "env_worker"),
            updates_lost=sum(f.lost_updates for f in faults),
            note="" if exact else f"counts differ: {facts} and {progress}",
        )


def parts_faults(folder: Path, wanted: Callable[[str], bool], repeat: int) -> Iterator[Row]:
    """Deaths and hangs of actors."""
    singles = ["coordinator", "weight_store", "replay_shard", "learner", "env_worker"]
    pairs = [
        ("learner", "weight_store"),
        ("replay_shard", "learner"),
        ("coordinator", "env_worker"),
        ("coordinator", "learner"),
        ("coordinator", "replay_shard"),
        ("env_worker", "weight_store"),
    ]
    names = [f"kill {role}" for role in singles] + [f"kill {a} and {b}" for a, b in pairs]
    names += ["kill replay_shard twice", "kill learner twice", "kill evaluator"]
    waiting = f"kill env_worker while it waits x {repeat}"
    names += [waiting, "kill coordinator x 5"]
    names += ["stop learner", "stop env_worker", "memory monitor"]
    if not any(wanted(name) for name in names):
        return
    if THRESHOLD not in os.environ and wanted("memory monitor"):
        yield _tried("memory monitor", _with_a_low_threshold)
        names.remove("memory monitor")
        if not any(wanted(name) for name in names):
            return
    parts = Parts(folder)
    cases: dict[str, tuple[Sequence[str], Callable[[], None]]] = {}
    for role in singles:
        cases[f"kill {role}"] = [role], lambda role=role: parts.kill(role)
    for pair in pairs:
        pids = lambda pair=pair: [parts.process(role) for role in pair]  # noqa: E731
        cases[f"kill {pair[0]} and {pair[1]}"] = pair, lambda pids=pids: _kill_all(pids())
    for role in ("replay_shard", "learner"):
        cases[f"kill {role} twice"] = [role], lambda role=role: _kill_twice(parts, role)
    cases["kill coordinator x 5"] = (
        ["coordinator"] * 5,
        lambda: [_kill_and_wait(parts, "coordinator") for _ in range(5)] and None,
    )
    cases["stop learner"] = ["learner"], lambda: parts.kill("learner", number=signal.SIGSTOP)
    cases["stop env_worker"] = (
        ["env_worker"],
        lambda: parts.kill("env_worker", number=signal.SIGSTOP),
    )
    cases["memory monitor"] = ["env_worker"], lambda: _hog(parts)
    try:
        for name, (deaths, hurt) in cases.items():
            if name in names and wanted(name):
                yield _tried(name, lambda n=name, d=deaths, h=hurt: parts.row(n, d, h))
        if wanted("kill evaluator"):
            yield _tried("kill evaluator", lambda: _kill_evaluator(parts))
        if wanted(waiting):
            yield _tried(waiting, lambda: _kill_waiting(parts, repeat))
    finally:
        parts.trainer.close()


def _kill_all(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _kill_and_wait(parts: Parts, role: str) -> None:
    key = parts.key(role, 0)
    launch = parts.run._site.launches[key]
    parts.kill(role)
    while parts.run._site.launches[key] == launch or parts.run.parts.works(key):
        parts.step()
    parts.work()


def _kill_twice(parts: Parts, role: str) -> None:
    """Once more as soon as another one stands in for the dead one."""
    key = parts.key(role, 0)
    launch = parts.run._site.launches[key]
    parts.kill(role)
    while parts.run._site.launches[key] == launch:
        parts.step()
    parts.kill(role)


def _kill_evaluator(parts: Parts) -> Row:
    run, evaluator = parts.run, parts.key("evaluator", 0)
    run.parts.ask(parts.key("learner", 0), "pin", run.counters().env_steps)
    run._see_pins()
    begin = time.monotonic()
    while evaluator not in run.fleet.actors:
        parts.step()
    killed = time.monotonic()
    parts.kill("evaluator")
    results = 0
    while not results and time.monotonic() - begin < PATIENCE_S:
        results += len(parts.step().evaluated)
    return Row(
        fault="kill evaluator",
        ok=results == 1,
        recovery_s=round(time.monotonic() - killed, 1),
        steps_lost=0,
        updates_lost=0,
        note="until its evaluation is scored",
    )


def _kill_waiting(parts: Parts, repeat: int) -> Row:
    """Kill a worker while the coordinator makes it wait for training."""
    slowest, lost = 0.0, 0
    rng = random.Random(0)
    for _ in range(repeat):
        pid = parts.process("env_worker", 0)
        deadline = time.monotonic() + rng.uniform(0.0, 0.3)
        while time.monotonic() < deadline:
            parts.step()
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        since = len(parts.faults)
        parts.work(["env_worker"], since)
        lost += sum(fault.lost_steps for fault in parts.faults[since:])
        slowest = max(slowest, time.monotonic() - begin)
    facts, progress = parts.count()  # which would wait for ever on a quota of a dead worker
    return Row(
        fault=f"kill env_worker while it waits x {repeat}",
        ok=facts["env_steps"] == progress["env_steps"] and slowest <= LIMIT_S["env_worker"],
        recovery_s=round(slowest, 1),
        steps_lost=lost,
        updates_lost=0,
        note="the slowest",
    )


def _with_a_low_threshold() -> Row:
    """Ray reads it as it starts, and it would hit the other faults' runs as well."""
    command = [sys.executable, __file__, "--json", "--only", "memory monitor"]
    threshold = {THRESHOLD: f"{_used_memory() + 0.12:.2f}", "RAY_memory_monitor_refresh_ms": "200"}
    done = subprocess.run(command, env=os.environ | threshold, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return Row(**json.loads(rows[-1]))


def _used_memory() -> float:
    found = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (float(found[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    return 1 - free / total


def _hog(parts: Parts) -> None:
    """Let an env worker take memory until Ray's monitor ends it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def take(actor: Any) -> None:
        actor.hog = [bytearray(b"x") * (total // 50) for _ in range(9)]

    parts.run.fleet.actors[parts.key("env_worker", 0)].__ray_call__.remote(take)


# Commands


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
            yield _tried(fault, lambda a=(fault, name, run, arguments, is_there): _signal(*a))


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
            yield _tried(name, lambda n=name, m=more: _two_writers(n, folder / n[-3:], m))
    if wanted("kill -9 of the writer, requeued"):
        name = "kill -9 of the writer, requeued"
        yield _tried(name, lambda: _requeued(name, folder / "requeued"))


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
        yield _tried("full disk", lambda: _full_disk(folder / "disk"))
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
            yield _tried(name, lambda n=name, k=kind: _flip(n, run, k))


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
    steps = last(run, "env_steps")
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


def _tried(name: str, run: Callable[[], Row]) -> Row:
    try:
        return run()
    except Exception as error:  # the other faults are to be tried too; the row says what it was
        return Row(fault=name, ok=False, note=f"{type(error).__name__}: {error}"[:300])


GROUPS = (parts_faults, signal_faults, writer_faults, disk_faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="faults whose names hold one of these"
    )
    parser.add_argument("--repeat", type=int, default=50, help="kills of a waiting env worker")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/faults.json")
    parser.add_argument("--verbose", action="store_true", help="show the runs' own log")
    arguments = parser.parse_args()
    if not arguments.verbose:
        logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

    def wanted(name: str) -> bool:
        return any(part in name for part in arguments.only)

    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="reverie-faults-") as folder:
        for group in GROUPS:
            for row in group(Path(folder), wanted, arguments.repeat):
                row = replace(row, load=round(os.getloadavg()[0], 1))
                rows.append(row)
                print(json.dumps(asdict(row)) if arguments.json else _line(row), flush=True)
    if arguments.save:  # beside those of other calls
        new = {row.fault: asdict(row) for row in rows}
        kept = [row for row in saved("faults") or [] if row["fault"] not in new]
        print(save("faults", [*kept, *new.values()], preset=PRESET, limits_s=LIMIT_S))
    return 0 if all(row.ok is not False for row in rows) else 1


def _line(row: Row) -> str:
    verdict = {True: "ok", False: "MISSED", None: "not tried"}[row.ok]
    cells = [row.recovery_s, row.steps_lost, row.updates_lost]
    figures = " ".join(f"{'' if cell is None else cell:>7}" for cell in cells)
    return f"{row.fault:42} {verdict:9} {figures}  {row.note}"


if __name__ == "__main__":
    raise SystemExit(main())
