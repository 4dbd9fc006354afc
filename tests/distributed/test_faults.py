"""Killed actors, failing environments, bugs and bad losses, on a real cluster."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from reverie.checkpoint import CheckpointStore
from reverie.cluster.fleet import Key
from reverie.cluster.role import COORDINATOR
from reverie.config import resolve_config
from reverie.errors import EnvFailed, NonFiniteLoss, WorkerLost
from reverie.lease import FolderTaken
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.distributed.test_lockstep import DREAMER
from tests.fakes import Counting, CountingEnv, tree


class EndingEnv(CountingEnv):
    """Ends its process, as a simulator's own C code may, unless the file `flag` is there."""

    def __init__(self, ending: str, flag: Path) -> None:
        super().__init__(fault=ending, at=30)
        self._flag = flag

    def _break(self, obs: Any) -> Any:
        if self._flag.exists():
            return obs
        self._flag.touch()
        if self._fault == "exit":
            os._exit(3)
        return ctypes.string_at(0)


class Ending(Counting):
    """Suite of `EndingEnv`s: the task is `<exit or segfault>:<file that remembers>`."""

    def tasks(self) -> tuple[str, ...]:
        return ()

    def make(self, task: str, config: Any) -> Any:
        ending, _, flag = task.partition(":")
        return EndingEnv(ending, Path(flag))


def make(folder: Path, **overrides: Any) -> Trainer:
    return Trainer(resolve_config(tree(run__dir=str(folder / "run"), **overrides)))


def process_of(trainer: Trainer, role: str, index: int = 0) -> int:
    actor = trainer._backend.fleet.actors[Key(role, index)]
    return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))


def lag(trainer: Trainer) -> tuple[float, float]:
    """How far training is behind, and the most that is allowed, in trained steps."""
    facts = ray.get(trainer._backend.fleet.actors[COORDINATOR].facts.remote())
    config = trainer.config
    ratio, batch = (
        config.learner.training_ratio,
        config.learner.batch_size * config.learner.batch_length,
    )
    ahead = ratio * config.replay.chunk_length * config.num_streams
    most = ahead + (facts["in_flight"] + 1) * batch
    # Before the prefill ends nothing is owed, whatever the counts say.
    return facts["target_lag"] if facts["trained_steps"] else 0.0, most


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_killed_actors_are_replaced_and_the_ratio_holds_throughout(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(
        tmp_path,
        run={"env_steps": 3000, "prefill": 100},
        env={"delay_s": 0.002, "length": 9},
        resources={"num_env_workers": 2, "num_shards": 2},
    )
    kills = {400: "env_worker", 900: "replay_shard", 1400: "learner", 1900: "weight_store"}
    finished = saved = False
    while not finished:
        finished = trainer.step().finished
        behind, most = lag(trainer)
        batch = 4 * 5
        assert -batch <= behind <= most
        if not saved and trainer.progress.env_steps >= 300:
            trainer.save()
            saved = True
        for steps in [steps for steps in kills if trainer.progress.env_steps >= steps]:
            os.kill(process_of(trainer, kills.pop(steps)), signal.SIGKILL)
    trainer.finish()
    trainer.save()
    summary = trainer._sum_up()
    trainer.close()
    assert not kills
    assert summary.env_steps == 3000
    assert {
        role: summary.restarts.get(role) for role in ("env_worker", "replay_shard", "learner")
    } == {
        "env_worker": 1,
        "replay_shard": 1,
        "learner": 1,
    }
    assert summary.lost_steps <= 8
    assert summary.lost_updates > 0
    assert summary.lost_rows > 0
    behind, _ = lag_of(summary, trainer)
    assert abs(behind) < batch
    streams = CheckpointStore(Storage(str(trainer.folder)), 2).latest().document("coordinator")
    assert [0, 0, 2] in streams["incarnations"]


@pytest.mark.ray
def test_a_worker_killed_among_small_quotas_leaves_the_counts_equal(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(tmp_path, run={"env_steps": 400, "prefill": 40, "quota": 1}, env__delay_s=0.01)
    kills, finished = [60, 150, 240], False
    while not finished:
        finished = trainer.step().finished
        if kills and trainer.progress.env_steps >= kills[0]:
            kills.pop(0)
            worker = process_of(trainer, "env_worker")  # which waits for the call before this
            trainer.step()
            time.sleep(0.06)  # within a call of several quotas
            os.kill(worker, signal.SIGKILL)
    facts, record = trainer.facts(), trainer.progress
    trainer.finish()
    trainer.close()
    assert (facts["env_steps"], record.env_steps) == (400, 400)
    assert record.faults == 3
    assert facts["lost_steps"] <= 3


@pytest.mark.ray
def test_steps_of_a_worker_killed_at_work_count_as_consumed_and_are_reported(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(tmp_path, run={"env_steps": 80, "prefill": 40}, env__delay_s=0.1)
    worker, finished = process_of(trainer, "env_worker"), False
    while trainer.progress.env_steps == 0:
        trainer.step()  # which sends the worker on with its next quota, one of the prefill
    while not trainer._backend._outstanding():
        time.sleep(0.01)
    os.kill(worker, signal.SIGKILL)
    while not finished:
        finished = trainer.step().finished
    facts, taken = trainer.facts(), trainer.progress.env_steps
    trainer.close()
    assert (facts["env_steps"], taken) == (80, 80)
    assert facts["lost_steps"] == 8


def lag_of(summary: Any, trainer: Trainer) -> tuple[float, int]:
    """The lag that is left at the end, from the summary's own figures."""
    counted = summary.env_steps - 100 - summary.uncounted_steps
    return counted * 4 - summary.trained_steps, summary.trained_steps


@pytest.mark.ray
def test_a_hanging_environment_is_rebuilt_and_counted(tmp_path: Path, ray_local: None) -> None:
    # Every environment hangs at the 150th step of its life, so the first two lives end so.
    trainer = make(tmp_path, env={"fault": "hang", "at": 150, "step_timeout_s": 2.0})
    summary = trainer.run()
    assert summary.env_steps == 400
    assert summary.restarts == {"env": 2}


@pytest.mark.ray
@pytest.mark.parametrize("ending", ["exit", "segfault"])
def test_an_environment_that_ends_its_process_costs_a_worker_which_is_replaced_and_counted(
    ending: str, tmp_path: Path, ray_local: None
) -> None:
    env = {"suite": f"{__name__}:Ending", "task": f"{ending}:{tmp_path / 'flag'}"}
    summary = make(tmp_path, env=env, run__env_steps=120).run()
    assert (summary.env_steps, summary.restarts) == (120, {"env_worker": 1})
    assert 0 < summary.lost_steps < 120


@pytest.mark.parametrize("fault", ["raise", "hang", "nan", "shape"])
def test_an_environment_that_keeps_failing_stops_the_run_with_its_own_traceback(
    fault: str, tmp_path: Path
) -> None:
    words = {
        "raise": "ZeroDivisionError: the simulator fell over",
        "hang": "time.sleep(3600)",
        "nan": "'count'",
        "shape": "(3,)",
    }
    config = resolve_config(
        tree(
            run__dir=str(tmp_path / "run"),
            run__max_env_restarts=1,
            env={"fault": fault, "at": 60, "step_timeout_s": 0.3},
        )
    )
    with pytest.raises(EnvFailed) as error:
        Trainer(config, local=True).run()
    assert words[fault] in str(error.value)
    assert ("run.max_env_restarts=1" in str(error.value)) == (fault != "shape")
    assert error.value.will_repeat == (fault == "shape")
    kept = CheckpointStore(Storage(str(tmp_path / "run")), 2).latest()
    assert kept is not None


@pytest.mark.ray
def test_a_bug_in_an_actor_is_reported_with_its_traceback(tmp_path: Path, ray_local: None) -> None:
    trainer = make(tmp_path, algorithm__bug_at=5)
    with pytest.raises(AttributeError, match="a bug in the learner") as error:
        trainer.run()
    assert "fakes.py" in str(error.value)


@pytest.mark.ray
def test_what_a_learner_trained_that_dies_before_the_first_checkpoint_stays_counted(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(tmp_path, env__delay_s=0.005)
    while trainer.progress.trained_steps < 100:
        trainer.step()
    os.kill(process_of(trainer, "learner"), signal.SIGKILL)
    finished = False
    while not finished:
        finished = trainer.step().finished
    trainer.finish()
    trained = trainer.facts()["trained_steps"]
    trainer.close()
    assert trainer.progress.faults == 1
    assert trainer.progress.trained_steps == trained


@pytest.mark.ray
def test_a_coordinator_that_dies_again_and_again_costs_nothing(
    tmp_path: Path, ray_local: None
) -> None:
    trainer = make(
        tmp_path,
        run={"env_steps": 700, "prefill": 100, "max_env_restarts": 100},
        env={"delay_s": 0.004, "fault": "raise", "at": 60},
        resources={"num_env_workers": 2, "num_shards": 2},
    )
    kills, finished = [50, 250, 400], False  # the first one during the prefill
    while not finished:
        finished = trainer.step().finished
        if kills and trainer.progress.env_steps >= kills[0]:
            kills.pop(0)
            os.kill(process_of(trainer, "coordinator"), signal.SIGKILL)
    facts, record = trainer.facts(), trainer.progress
    trainer.save()
    summary = trainer._sum_up()
    trainer.close()
    assert summary.restarts["coordinator"] == 3
    assert summary.restarts["env"] > 5
    assert facts["env_steps"] == record.env_steps == 700
    assert facts["trained_batches"] == summary.grad_updates
    assert facts["trained_steps"] == record.trained_steps
    assert (facts["lost_steps"], facts["late_reports"], facts["uncounted_steps"]) == (0, 0, 0)
    behind, _ = lag_of(summary, trainer)
    assert 0 <= behind < 4 * 5


@pytest.mark.ray
def test_an_actor_that_keeps_dying_stops_the_run(tmp_path: Path, ray_local: None) -> None:
    kill = {"kill_at": 3, "kill_flag": str(tmp_path / "flag")}
    trainer = make(tmp_path, algorithm=kill, run__max_actor_restarts=0)
    with pytest.raises(WorkerLost, match="learner 0 died 1 times"):
        trainer.run()


def test_a_bad_loss_stops_the_run_by_its_name_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), algorithm__nan_at=30))
    trainer = Trainer(config, local=True)
    while trainer.progress.grad_updates < 20:
        trainer.step()
    trainer.save()
    with pytest.raises(NonFiniteLoss, match="loss/plain became NaN or infinite by update 30"):
        trainer.run()
    kept = CheckpointStore(Storage(str(tmp_path / "run")), 2).latest()
    assert kept.number == 1
    assert kept.tensors("learner")["grad_updates"] >= 20


def test_spoiled_weights_stop_the_run_by_a_loss_s_name_and_are_not_saved(tmp_path: Path) -> None:
    config = resolve_config({**DREAMER, "run": DREAMER["run"] | {"dir": str(tmp_path / "run")}})
    trainer = Trainer(config, local=True)
    while trainer.progress.grad_updates < 3:
        trainer.step()
    trainer.save()
    with torch.no_grad():
        for module in trainer._backend.learner.agent.modules().values():
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="became NaN or infinite by update 4"):
        trainer.run()
    assert CheckpointStore(Storage(str(tmp_path / "run")), 2).numbers() == [1]


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_damaged_replay_file_costs_its_rows_and_not_the_run(
    tmp_path: Path, ray_local: None
) -> None:
    make(tmp_path, run__env_steps=80).run()
    files = sorted(tmp_path.glob("run/replay/shard0-0*.arrow"))
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)
    store = CheckpointStore(Storage(str(tmp_path / "run")), 2)
    rows = store.latest().document("replay")[0]["rows"]
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), run__env_steps=120))
    trainer = Trainer(config, resume="must")
    with pytest.raises(FolderTaken, match=f"process {os.getpid()} on "):
        Trainer(config, resume="must")
    summary = trainer.run()
    assert summary.lost_rows == rows
    assert summary.restarts == {}
    assert summary.env_steps == 120
