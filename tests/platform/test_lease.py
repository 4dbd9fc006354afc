"""Two processes and one run folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reverie import lease
from reverie.lease import LEASE_FILE, FolderTaken, Lease, holder
from tests.platform.commands import Cli, assert_refused, write_config

HOLD = """
import sys, time
from pathlib import Path
from reverie.lease import Lease
held = Lease(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Any:
    """Another process that holds the lease of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def edit(folder: Path, **changes: Any) -> None:
    path = folder / LEASE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_second_process_is_refused_with_the_owner_s_name_until_it_is_killed(
    owner: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(FolderTaken, match=f"process {owner.pid} on .* writes this run folder"):
        Lease(tmp_path)
    found = holder(tmp_path)
    assert found is not None
    assert found.pid == owner.pid
    os.kill(owner.pid, signal.SIGKILL)
    begin = time.monotonic()
    while True:  # not reaped yet: a zombie holds nothing
        try:
            mine = Lease(tmp_path)
            break
        except FolderTaken:
            assert time.monotonic() - begin < 5
            time.sleep(0.02)
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_owner_keeps_its_folder(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(owner.pid, signal.SIGSTOP)
    with pytest.raises(FolderTaken):
        Lease(tmp_path)


def test_another_process_with_the_owner_s_number_holds_nothing(tmp_path: Path) -> None:
    Lease(tmp_path)
    edit(tmp_path, start=1)
    assert holder(tmp_path) is None
    Lease(tmp_path).release()


def test_elsewhere_an_owner_is_gone_once_its_beat_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    mine = Lease(tmp_path)
    monkeypatch.setattr(lease, "_machine", lambda: "another machine")
    begin = time.monotonic()
    with pytest.raises(FolderTaken):  # its thread writes on
        Lease(tmp_path)
    assert time.monotonic() - begin < 0.9
    mine._end.set()
    mine._thread.join()
    begin = time.monotonic()
    other = Lease(tmp_path)
    assert time.monotonic() - begin >= 1.0
    # The first one notices when it comes back, and takes nothing away.
    mine._beat()
    with pytest.raises(FolderTaken, match="has taken this run folder"):
        mine.check()
    mine.release()
    other.check()
    assert holder(tmp_path) is not None
    other.release()
    assert holder(tmp_path) is None


def test_of_many_claimants_of_a_dead_lease_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        Lease(tmp_path)
        edit(tmp_path, start=1)
        got: list[Lease] = []
        start = threading.Barrier(6)

        def claim(start: threading.Barrier = start, got: list[Lease] = got) -> None:
            start.wait()
            try:
                got.append(Lease(tmp_path))
            except FolderTaken:
                return

        threads = [threading.Thread(target=claim) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_broken_lease_is_nobody_s(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).write_bytes(content)
    Lease(tmp_path).release()


def test_a_second_train_or_resume_is_refused_and_the_first_run_is_whole(
    cli: Cli, tmp_path: Path
) -> None:
    """The first one runs in a process of its own, long enough for the others to come and go."""
    config = write_config(
        tmp_path, run__env_steps=100_000, env__delay_s=0.02, run__checkpoint_every_s=0.5
    )
    command = [sys.executable, "-m", "reverie.cli", "train", str(config), "--local"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = tmp_path / "run"
    try:
        end = time.monotonic() + 60
        while not list(run.glob("checkpoints/*/manifest.json")):
            assert time.monotonic() < end
            time.sleep(0.1)
        name = f"process {first.pid} on "
        assert_refused(cli("train", config, "--local"), name)
        assert_refused(cli("train", config, "--local", "--resume=auto"), name)
        assert_refused(cli("resume", run, "--local"), name)
        os.kill(first.pid, signal.SIGTERM)
        first.wait(60)
        assert first.returncode == 143
        assert not (run / LEASE_FILE).exists()
    finally:
        first.kill()
        first.communicate()
    steps = json.loads(max(run.glob("checkpoints/*/record.json")).read_text())["progress"]
    answer = cli("resume", run, "--local", f"run.env_steps={steps['env_steps'] + 10}")
    assert answer.code == 0, answer.err
