"""A Ray of a run's own: closed to other machines, patient, and gone when it does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.platform.commands import write_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

LISTENING = """
import os, sys, time
from pathlib import Path

def mine():
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        parents[int(head.split()[0])] = int(rest.split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found

def sockets(pid):
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]

def listening():
    '''Hexadecimal addresses on which processes of this one listen.'''
    owned = {inode for pid in mine() for inode in sockets(pid)}
    lines = [line.split() for name in ("tcp", "tcp6")
             for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in owned]
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as IPv6, ::1: as /proc/net/tcp and tcp6 write them."""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python of its own, whose Ray has not been imported by anyone yet."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), **variables}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=390,
        env=env,
        check=False,
    )


@pytest.mark.parametrize("imported", ["", "import ray"])
def test_a_ray_of_our_own_listens_on_loopback_only(imported: str, tmp_path: Path) -> None:
    """With its dashboard, its metrics pages, and an actor; also where Ray was imported before."""
    found = run(
        f"""{imported}
{LISTENING}
from tests.fakes import tree
from reverie.config import resolve_config
from reverie.cluster.connection import LOOPBACK_SWITCH, connect
assert connect(resolve_config(tree()), None)
import ray
from ray._private import ray_constants
assert ray_constants.ENABLE_RAY_CLUSTER and LOOPBACK_SWITCH not in os.environ
@ray.remote
class Part:
    def ready(self):
        return True
part = Part.remote()
assert ray.get(part.ready.remote())
deadline = time.monotonic() + 20
while len(addresses := listening()) < 10 and time.monotonic() < deadline:
    time.sleep(0.5)
print(*addresses)
""",
        HOME=str(tmp_path),
    )
    assert found.returncode == 0, found.stderr
    addresses = found.stdout.split()
    assert len(addresses) >= 10
    assert set(addresses) <= LOOPBACK
    assert "listens on" not in found.stderr
    assert (tmp_path / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


LATE = """
import ray._private.services as services
path = Path(os.environ["LATE"])
path.write_text(f"#!/bin/sh\\nsleep {os.environ['LATE_S']}\\nexec {services.NAME} \\"$@\\"\\n")
path.chmod(0o755)
services.NAME = str(path)
"""


def run_late(name: str, seconds: float, folder: Path, code: str, **variables: str) -> Any:
    """Run `code` where one of Ray's programs starts only after some seconds."""
    whole = LISTENING + LATE.replace("NAME", name) + code
    return run(whole, LATE=str(folder / "late"), LATE_S=str(seconds), **variables)


def train(folder: Path) -> str:
    return f"""
from reverie.cli import main
code = main(["train", {str(write_config(folder))!r}])
time.sleep(1)
print("left", len(mine()) - 1)
sys.exit(code)
"""


def assert_gave_up(found: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("is started once more") == 1
    assert "Traceback" not in found.stderr
    last = found.stderr.splitlines()[-1]
    assert last.startswith("reverie: Ray did not start on this machine, twice: ")
    assert "run with --local" in last
    assert "left 0" in found.stdout
    assert not (folder / "run").exists()


def test_a_ray_that_does_not_start_is_tried_twice_and_leaves_nothing(tmp_path: Path) -> None:
    wait = "RAY_gcs_server_port_wait_time_s"
    found = run_late("GCS_SERVER_EXECUTABLE", 600, tmp_path, train(tmp_path), **{wait: "1"})
    assert_gave_up(found, tmp_path)
    assert f"{wait}=1" in found.stderr


@pytest.mark.slow
def test_a_raylet_that_never_comes_is_given_up(tmp_path: Path) -> None:
    """30 s, twice: Ray waits no less."""
    wait = "RAY_raylet_start_wait_time_s"
    found = run_late("RAYLET_EXECUTABLE", 600, tmp_path, train(tmp_path), **{wait: "1"})
    assert_gave_up(found, tmp_path)


@pytest.mark.slow
def test_a_raylet_that_comes_after_40_seconds_is_awaited(tmp_path: Path) -> None:
    """Ray alone gives up after 30 s."""
    code = """
from tests.fakes import tree
from reverie.config import resolve_config
from reverie.cluster.connection import connect
print(connect(resolve_config(tree()), None))
"""
    found = run_late("RAYLET_EXECUTABLE", 40, tmp_path, code)
    assert found.returncode == 0, found.stderr
    assert "once more" not in found.stderr
    assert "True" in found.stdout
