"""Twenty deaths of the driver on Ray, and of actors between them: nothing is lost or left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from reverie import wiring
from reverie.checkpoint import CheckpointStore
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.storage import Storage
from tests.conftest import ROOT
from tests.fakes import tree

KILLS, BUDGET, MARK = 20, 20_000, "REVERIE_SOAK"
ACTORS = (
    "ray::EnvWorker",
    "ray::Learner",
    "ray::Shard",
    "ray::ReplayShard",
    "ray::Coordinator",
    "ray::Weight",
)


def processes(mark: str) -> Iterator[tuple[int, str]]:
    """(pid, title) of all processes whose environment holds the mark."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                    yield int(path.name), (path / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Runs:
    """One run, started again and again by drivers that are killed."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.rng, self.run = uuid.uuid4().hex, random.Random(0), folder / "run"
        self.log = folder / "log.txt"
        settings = tree(
            run={
                "dir": str(self.run),
                "env_steps": BUDGET,
                "checkpoint_every_s": 1.0,
                "log_every_s": 0.5,
            },
            env={"delay_s": 0.02},
            resources={"num_env_workers": 2, "num_shards": 2},
            replay={"capacity": 800},
        )
        self.config = resolve_config(settings)
        (folder / "config.yaml").write_text(self.config.to_yaml())
        self.command = [sys.executable, "-m", "reverie.cli", "train"]
        self.command += [str(folder / "config.yaml"), "--resume=auto"]

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            env = os.environ | {MARK: self.mark}
            return subprocess.Popen(self.command, cwd=ROOT, env=env, stdout=log, stderr=log)

    def words(self) -> str:
        return self.log.read_text()[-3000:]

    def kill_a_driver(self) -> None:
        """Once it has written metrics of its own, and after a few of its actors."""
        before, process = time.time(), self.start()
        metrics = self.run / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_mtime > before + 2):
            assert process.poll() is None, self.words()
            assert time.time() - before < 240, self.words()
            time.sleep(0.1)
        for _ in range(self.rng.randrange(3)):
            victims = [pid for pid, title in processes(self.mark) if title.startswith(ACTORS)]
            if victims:
                os.kill(self.rng.choice(victims), signal.SIGKILL)
            time.sleep(self.rng.uniform(0.0, 4.0))
        assert process.poll() is None, "it ended before it was killed: " + self.words()
        process.kill()
        process.wait()
        self.await_the_end()

    def await_the_end(self) -> None:
        """An agent of Ray that was starting looks for its gcs for 60 s before it gives up."""
        deadline = time.monotonic() + 150
        while left := list(processes(self.mark)):
            assert time.monotonic() < deadline, left
            time.sleep(0.2)

    def check_contents(self) -> None:
        """Load every shard, which compares the checksum of every chunk."""
        kept = CheckpointStore(Storage(str(self.run)), 2).latest()
        assert kept is not None
        specs = wiring.agent_streams(self.config, spaces_of(self.config.env))
        for index, fragment in enumerate(kept.document("replay")):
            shard = wiring.make_shard(self.config, specs, index)
            assert not shard.load(self.run / "replay", fragment).texts
            assert shard.stats()["rows"] > 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_a_run_whose_driver_dies_twenty_times_ends_as_one_that_lives(tmp_path: Path) -> None:
    runs, sizes = Runs(tmp_path), []
    for _ in range(KILLS):
        runs.kill_a_driver()
        sizes.append(bytes_of(runs.run))
    assert runs.start().wait(timeout=1800) == 0, runs.words()
    runs.await_the_end()
    runs.check_contents()
    summary = json.loads((runs.run / "summary.json").read_text())
    kept = CheckpointStore(Storage(str(runs.run)), 2).latest()
    counts = kept.document("coordinator")["limiter"]
    assert summary["env_steps"] == BUDGET
    assert summary["trained_steps"] == counts["trained_steps"]
    owed = runs.config.learner.training_ratio * counts["counted_steps"] - counts["trained_steps"]
    assert 0 <= owed < runs.config.learner.batch_size * runs.config.learner.batch_length
    middle = sorted(sizes)[len(sizes) // 2]
    assert max(sizes) < 3 * middle, "the disk is bounded"
