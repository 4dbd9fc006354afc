"""Deaths and hangs of the parts of one run on Ray."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faults_common import LIMIT_S, PATIENCE_S, PRESET, QUICK, SILENT_S, THRESHOLD, Row, tried


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
        one_by_one = 2 if fault.endswith("twice") else 1
        limit *= max(map(Counter(deaths).get, deaths), default=1) * one_by_one
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
        yield tried("memory monitor", _with_a_low_threshold)
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
                yield tried(name, lambda n=name, d=deaths, h=hurt: parts.row(n, d, h))
        if wanted("kill evaluator"):
            yield tried("kill evaluator", lambda: _kill_evaluator(parts))
        if wanted(waiting):
            yield tried(waiting, lambda: _kill_waiting(parts, repeat))
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
    command = [
        sys.executable,
        str(Path(__file__).with_name("faults.py")),
        "--json",
        "--only",
        "memory monitor",
    ]
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
