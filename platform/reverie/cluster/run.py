"""A run on a Ray cluster: parts launched as actors, fed, watched, replaced when they die.

`RayRun` holds one future per actor. Actors are named `<run id>/<role>/<index>` in namespace
`reverie`, so that several runs share a cluster without seeing each other.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayError

from reverie import wiring
from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.cluster.connection import connect
from reverie.cluster.fleet import Fleet, Key, fetch
from reverie.cluster.placement import find_room, place_run
from reverie.config import ExperimentConfig
from reverie.errors import PartLost, WorkerLost
from reverie.init_from import Source
from reverie.storage import Storage
from reverie.types import Counters, Spaces, Version
from reverie.wiring import Events, Fault, Saved

log = logging.getLogger(__name__)

TRAIN_SLICE_S = 1.0
"""Seconds the learner trains between two returns to the supervisor."""
PING_EVERY_S = 1.0
PINGED_ROLES = ("replay_shard", "weight_store", "coordinator")
"""Roles that only answer: they are asked now and then whether they live."""
REMEDIES = {
    "env_worker": "; if an environment ends its process, run it in one of its own:"
    " env.isolated.factory=module:function"
}
"""Role -> what its user can do when it dies again and again."""
OVERDUE_S = 300.0
"""Seconds a worker may hold a quota before it counts as hung, at least."""


class RayRun:
    """One run on a Ray cluster.

    Args:
        checkpoint: state to go on from.
        source: weights to start from where there is no checkpoint.
        address: cluster to join; None starts one on this machine.

    Raises:
        PlacementError: the cluster can never hold what the configuration asks for.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spaces: Spaces,
        folder: Path,
        checkpoint: Checkpoint | None = None,
        source: Source | None = None,
        *,
        address: str | None = None,
    ) -> None:
        self._config, self._source = config, source
        root = folder.resolve()
        self._replay_folder = str(root / wiring.REPLAY_FOLDER)
        self._store = CheckpointStore(Storage(str(root)), config.run.keep_checkpoints)
        self._started_ray = connect(config, address)
        placement = place_run(config, find_room())
        self.run_id = f"{folder.name}-{uuid.uuid4().hex[:6]}"
        specs = wiring.agent_streams(config, spaces)
        self.fleet = Fleet(config, spaces, specs, self.run_id, placement)
        self._futures: dict[Any, Key] = {}
        self._deaths: dict[Key, int] = {}
        self._done_workers: set[int] = set()
        self._rows: dict[int, int] = {}
        self._grad_updates = self._incarnation = self._turn = 0
        self._quiet = False
        self._next_ping = self._next_overdue_check = 0.0
        self._start_all(checkpoint)

    def step(self) -> Events:
        """Wait for the next results, at most about a second, and send their actors on."""
        if self._config.run.lockstep:
            return self._lockstep_step()
        events = Events()
        self._pump(events, timeout=1.0)
        if len(self._done_workers) == self._config.resources.num_env_workers:
            # Stalled: the shard that held the rows is back without them, nothing more can come.
            ended = self._ask_coordinator("finished") or self._ask_coordinator("stalled")
            events.finished = ended
        return events

    def quiesce(self) -> Events:
        """Hold quotas and training back and wait until everything granted has arrived."""
        events = Events()
        self._quiet = True
        self._ask_coordinator("pause")
        while self._busy():
            self._pump(events, timeout=0.2)
        return events

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of every part (behind `quiesce`) and let the run go on, or not.

        Raises:
            PartLost: an actor died meanwhile; the next step replaces it.
        """
        try:
            fragments = [
                self.fleet.ask("replay_shard", index, "save", self._replay_folder)
                for index in range(self._config.resources.num_shards)
            ]
            tensors = self.fleet.ask("learner", 0, "state_dict")
            coordinator = self._ask_coordinator("state_dict")
            pinned = [self.fleet.ask("weight_store", 0, "pinned", at) for at in self._pins()]
        except RayActorError as error:
            raise PartLost(f"an actor died during the save: {error}") from error
        finally:
            if go_on:
                self._quiet = False
                self._ask_coordinator("unpause")
                self._send_all()
        tensors["pins"] = {
            str(pin.env_steps): {key: torch.tensor(value) for key, value in pin.state.items()}
            for pin in pinned
        }
        pins = [[*pin.version, pin.env_steps] for pin in pinned]
        documents = {"coordinator": coordinator, "replay": fragments, "pins": pins}
        return Saved(tensors=tensors, documents=documents, files=wiring.replay_files(fragments))

    def finish(self) -> Events:
        """Play the evaluations that are still pinned and one of the last weights."""
        events = self.quiesce()
        self.fleet.ask("learner", 0, "pin", self.counters().env_steps)
        events.trained.append(self.fleet.ask("learner", 0, "train"))
        while ("evaluator", 0) in self._futures.values() or self._pins():
            self._pump(events, timeout=1.0)
        return events

    def counters(self) -> Counters:
        return self._ask_coordinator("counters")

    def facts(self) -> dict[str, int | float]:
        """What the coordinator counted, for the summary."""
        return self._ask_coordinator("facts")

    def close(self) -> None:
        """End this run's actors, and the cluster if this run started it."""
        if not ray.is_initialized():
            return
        self.fleet.close()
        self._drop_futures()
        if self._started_ray:
            ray.shutdown()

    def _drop_futures(self) -> None:
        """Fetch what was under way when the actors ended, so that Ray does not report it later."""
        for ref in self._futures:
            try:
                ray.get(ref, timeout=5)
            except RayError as error:
                log.debug("%s", error)
        self._futures.clear()

    # Launching

    def _start_all(self, checkpoint: Checkpoint | None) -> None:
        """Launch everything at once, then wait: processes take seconds to import torch."""
        resources = self._config.resources
        self.fleet.start("coordinator", 0)
        self.fleet.start("weight_store", 0)
        if checkpoint is not None:
            self._ask_coordinator("load_state_dict", checkpoint.document("coordinator"))
        for index in range(resources.num_shards):
            self._start_shard(index, checkpoint)
        self.fleet.start("learner", 0, self._incarnation)
        for index in range(resources.num_env_workers):
            self.fleet.start("env_worker", index)
        for index in range(resources.num_shards):
            self._note_masses(index)
        self._begin_learning(checkpoint)
        self._pin_again(checkpoint)
        self._send_all()

    def _pin_again(self, checkpoint: Checkpoint | None) -> None:
        """Pin the weights whose evaluation was still to come when the checkpoint was written."""
        if checkpoint is None or "pins.pt" not in checkpoint.parts:
            return
        states = checkpoint.tensors("pins")
        for incarnation, grad_updates, env_steps in checkpoint.document("pins"):
            state = {key: value.numpy() for key, value in states[str(env_steps)].items()}
            version = Version(incarnation, grad_updates)
            self.fleet.ask("weight_store", 0, "pin", version, env_steps, state)

    def _start_shard(self, index: int, checkpoint: Checkpoint | None) -> None:
        """Launch a shard with what the checkpoint holds of it.

        It loads while it is built: workers find it by name and would fill an empty one.
        """
        fragment = checkpoint.document("replay")[index] if checkpoint else None
        self.fleet.start("replay_shard", index, self._replay_folder, fragment)

    def _note_masses(self, index: int) -> None:
        masses = self.fleet.ask("replay_shard", index, "masses")
        self._ask_coordinator("set_masses", index, masses)

    def _begin_learning(self, checkpoint: Checkpoint | None, batches: int | None = None) -> None:
        """Give a new learner its state; it publishes weights, so that workers act with them."""
        state = checkpoint.tensors("learner") if checkpoint else None
        source = None if checkpoint else self._source
        self._grad_updates = self.fleet.ask("learner", 0, "begin", state, batches, source)

    # Feeding

    def _pump(self, events: Events, timeout: float) -> None:
        """Take every result that is there (waiting for the first) and send its actor on."""
        self._start_evaluation()
        self._ping()
        self._kill_overdue()
        ray.wait(list(self._futures), num_returns=1, timeout=timeout)
        ready, _ = ray.wait(list(self._futures), num_returns=len(self._futures), timeout=0)
        for ref in ready:
            role, index = self._futures.pop(ref)
            try:
                self._take(role, index, fetch(ref), events)
            except RayActorError as error:
                self._replace(role, index, error, events)
            self._send(role, index)

    def _take(self, role: str, index: int, result: Any, events: Events) -> None:
        if role == "env_worker":
            events.collected.append(result)
            if result.fault:
                events.faults.append(Fault(role="env", index=index, text=result.fault))
            if result.done:
                self._done_workers.add(index)
        elif role == "learner":
            self._grad_updates = result.grad_updates
            events.trained.append(result)
        elif role == "evaluator":
            events.evaluated.append(result)
        elif role == "replay_shard":
            self._rows[index] = result["rows"]

    def _send(self, role: str, index: int) -> None:
        """Give an actor its next piece of work, unless there is none for it."""
        if self._quiet or (role, index) in self._futures.values():
            return
        if role == "env_worker" and index not in self._done_workers:
            self._await(role, index, "collect")
        elif role == "learner":
            self._await(role, index, "train", TRAIN_SLICE_S, TRAIN_SLICE_S)

    def _await(self, role: str, index: int, method: str, *arguments: Any) -> None:
        self._futures[self.fleet.call(role, index, method, *arguments)] = (role, index)

    def _send_all(self) -> None:
        if not self._config.run.lockstep:
            for role, index in self.fleet.actors:
                self._send(role, index)

    def _ping(self) -> None:
        """Ask the parts that only answer whether they live, once a second."""
        if time.perf_counter() < self._next_ping:
            return
        self._next_ping = time.perf_counter() + PING_EVERY_S
        waiting = set(self._futures.values())
        for role, index in self.fleet.actors:
            if role in PINGED_ROLES and (role, index) not in waiting:
                self._await(role, index, "stats")

    def _start_evaluation(self) -> None:
        if ("evaluator", 0) in self._futures.values():
            return
        pins = self._pins()
        if pins:
            self._ensure_evaluator()
            self._await("evaluator", 0, "evaluate", pins[0])

    def _ensure_evaluator(self) -> None:
        if ("evaluator", 0) not in self.fleet.actors:
            self.fleet.start("evaluator", 0)

    def _pins(self) -> list[int]:
        try:
            return self.fleet.ask("weight_store", 0, "pins")
        except RayActorError:
            return []  # the next ping finds it dead and replaces it

    def _busy(self) -> bool:
        waiting = {role for role, _ in self._futures.values()}
        return bool({"learner", "env_worker"} & waiting) or self._ask_coordinator("outstanding") > 0

    def _lockstep_step(self) -> Events:
        events = Events()
        worker = self._turn % self._config.resources.num_env_workers
        self._turn += 1
        self._take("env_worker", worker, self.fleet.ask("env_worker", worker, "collect"), events)
        self._take("learner", 0, self.fleet.ask("learner", 0, "train"), events)
        for env_steps in self._pins():
            self._ensure_evaluator()
            events.evaluated.append(self.fleet.ask("evaluator", 0, "evaluate", env_steps))
        events.finished = self._ask_coordinator("finished")
        return events

    # Replacing

    def _replace(self, role: str, index: int, error: Exception, events: Events) -> None:
        """Launch a dead actor again, count it, and say what went with it."""
        count = self._deaths[role, index] = self._deaths.get((role, index), 0) + 1
        if role == "coordinator" or count > self._config.run.max_actor_restarts:
            raise WorkerLost(
                f"{role} {index} died {count} times "
                f"(run.max_actor_restarts={self._config.run.max_actor_restarts}): {error}"
                f"{REMEDIES.get(role, '')}"
            )
        mend: dict[str, Callable[[int], dict[str, int]]] = {
            "env_worker": self._replace_worker,
            "replay_shard": self._replace_shard,
            "learner": self._replace_learner,
            "weight_store": self._replace_weight_store,
            "evaluator": self._replace_evaluator,
        }
        lost = mend[role](index)
        text = f"died and was replaced ({str(error).splitlines()[0]})"
        events.faults.append(Fault(role=role, index=index, text=text, **lost))

    def _replace_worker(self, index: int) -> dict[str, int]:
        lost = self._ask_coordinator("worker_lost", index)
        self.fleet.start("env_worker", index)
        return {"lost_steps": lost}

    def _replace_shard(self, index: int) -> dict[str, int]:
        self._ask_coordinator("shard_lost", index)
        self._start_shard(index, self._store.latest())
        self._note_masses(index)
        kept = self.fleet.ask("replay_shard", index, "stats")["rows"]
        return {"lost_steps": max(0, self._rows.get(index, 0) - kept)}

    def _replace_learner(self, index: int) -> dict[str, int]:
        before = self._grad_updates
        batches = self._ask_coordinator("learner_lost")
        self._incarnation += 1
        self.fleet.start("learner", index, self._incarnation)
        self._begin_learning(self._store.latest(), batches)
        return {"lost_updates": max(0, before - self._grad_updates)}

    def _replace_weight_store(self, index: int) -> dict[str, int]:
        self.fleet.start("weight_store", index)
        self.fleet.call("learner", 0, "publish_first")
        return {}

    def _replace_evaluator(self, index: int) -> dict[str, int]:
        self.fleet.forget("evaluator", index)
        return {}

    def _kill_overdue(self) -> None:
        """End workers that hold a quota for too long: their process hangs as a whole."""
        if time.perf_counter() < self._next_overdue_check:
            return
        self._next_overdue_check = time.perf_counter() + 10.0
        limit = max(OVERDUE_S, 10 * self._config.env.step_timeout_s)
        for index in self._ask_coordinator("overdue", limit):
            log.warning("env_worker %d holds a quota for over %.0f s; it is ended", index, limit)
            self.fleet.kill("env_worker", index)

    def _ask_coordinator(self, method: str, *arguments: Any) -> Any:
        return self.fleet.ask("coordinator", 0, method, *arguments)
