"""Job arrays with Slurm's own daemons, in a folder of their own."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reverie.errors import ConfigError
from reverie.tuning import slurm_backend
from reverie.tuning.cell_state import states
from reverie.tuning.slurm_backend import check_can_submit, read_part, submit, write_jobs
from reverie.tuning.sweep_settings import RunResources, SlurmConfig
from tests.platform.tuning.sweeps import ENVIRONMENT, make_sweep

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol")
PATIENCE_S = 150.0


def wait_for(what: Callable[[], bool], why: Callable[[], str] = str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, f"it never came to pass {why()}"
        time.sleep(0.3)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ctld}
SlurmdPort={slurmd}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MaxArraySize=3
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Slurm with one node, this machine; skipped where its programs are not installed."""
    paths = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=paths) is None]
    if missing:
        pytest.skip(f"needs Debian's slurmctld, slurmd, munge and slurm-client: no {missing}")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for parent in list(folder.parents)[:2]:
        parent.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    text = CONF.format(
        host=host,
        user=getpass.getuser(),
        folder=folder,
        ctld=free_port(),
        slurmd=free_port(),
        cpus=os.cpu_count(),
    )
    (folder / "slurm.conf").write_text(text)
    before = {key: os.environ.get(key) for key in ("PATH", "SLURM_CONF")}
    os.environ |= {"PATH": paths, "SLURM_CONF": str(folder / "slurm.conf")}
    daemons: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> None:
        log = (folder / f"{command[0]}.out").open("wb")
        daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    try:
        run(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={folder}/key",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munge.pid",
            f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        )
        wait_for((folder / "munge.socket").exists)
        run("slurmctld", "-D", "-i")
        run("slurmd", "-D", "-N", host)
        wait_for(lambda: "idle" in _sinfo(), lambda: (folder / "slurmctld.out").read_text()[-800:])
        yield folder
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            said("scancel", "--user", getpass.getuser())
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _sinfo() -> str:
    found = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
    return found.stdout


@pytest.mark.slow
def test_arrays_run_every_cell_through_a_signal_before_the_limit(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"run__env_steps": 150, "env__delay_s": 0.05, "run__log_every_s": 0.1}
    sweep = make_sweep(tmp_path, settings, seeds=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    config = SlurmConfig(runs_per_task=2, time="5:00", partition="tests", extra=("--nice=1",))
    jobs = write_jobs(sweep, sweep.cells, config, RunResources(cpu=0.25))
    assert [len(job.parts) for job in jobs] == [3, 1]  # cut at MaxArraySize
    numbers = submit(jobs)
    assert len(numbers) == 2

    tasks = {
        cell: (f"{number}_{task}", part)
        for number, job in zip(numbers, jobs, strict=True)
        for task, part in enumerate(job.parts)
        for cell in part
    }

    def begun() -> list[str]:
        found = [s for s in states(sweep) if s.condition == "running" and s.env_steps > 10]
        return [state.cell.id for state in found]

    wait_for(lambda: bool(begun()), lambda: said("squeue"))
    first = begun()[0]
    job, part = tasks[first]
    said("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: "Restarts=1" in said("scontrol", "show", "job", job), lambda: job)
    number = re.search(r"JobId=(\d+)", said("scontrol", "show", "job", job))
    assert number
    # Slurm lets a job that was queued again wait for two minutes.
    said("scontrol", "update", f"jobid={number[1]}", "StartTime=now")
    wait_for(lambda: all(s.condition == "done" for s in states(sweep)), lambda: said("squeue"))
    found = {state.cell.id: state for state in states(sweep)}
    assert {state.env_steps for state in found.values()} == {150}
    assert found[first].attempts.starts == 2
    assert [state.attempts.failures for state in found.values()] == [0] * 8
    assert [found[cell].attempts.starts for cell in found if cell not in part] == [1] * 6


def test_scripts_say_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tune = {"base": "base.yaml", "init.from": {"cell": "plain"}}
    sweep = make_sweep(tmp_path, bases={"plain": "base.yaml", "tune": tune}, seeds=5)
    config = SlurmConfig(
        account="lab",
        gres="gpu:1",
        mem="8G",
        time="1:00:00",
        prologue="module load cuda",
        extra=("--qos=low",),
        runs_per_task=2,
        max_running=4,
        signal_s=300,
    )
    jobs = write_jobs(sweep, sweep.cells, config, RunResources(cpu=1.5), max_array=2)
    assert [(len(job.parts), job.stage) for job in jobs] == [(2, 0), (1, 0), (2, 1), (1, 1)]
    assert sorted(cell for job in jobs for part in job.parts for cell in part) == sorted(
        cell.id for cell in sweep.cells
    )
    text = jobs[0].script.read_text()
    for option in (
        "--array=0-1%4",
        "--account=lab",
        "--gres=gpu:1",
        "--mem=8G",
        "--time=1:00:00",
        "--qos=low",
        "--cpus-per-task=3",
        "--requeue",
        "--signal=B:USR1@300",
    ):
        assert f"#SBATCH {option}\n" in text
    assert "\nmodule load cuda\ncd " in text
    assert subprocess.run(["bash", "-n", str(jobs[0].script)], check=False).returncode == 0
    parts = next((sweep.path / "slurm").glob("*-0.parts.json"))
    assert read_part(parts, 1) == jobs[0].parts[1]
    with pytest.raises(ConfigError, match="expected a task from 0 to 1, got 2"):
        read_part(parts, 2)
    shown = slurm_backend.submit_command(jobs)
    assert shown.count("--dependency=afterany:$job0:$job1 ") == 2


def test_without_slurm_nothing_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        check_can_submit()
    assert slurm_backend.max_array_size() == slurm_backend.DEFAULT_ARRAY
