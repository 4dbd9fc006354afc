"""The parts of a run as Ray actors: launched, fed, watched, replaced when they die.

The parts themselves are the plain classes of the other files. Here stand what only Ray needs:
links that reach an actor by its name, thin actor classes, and `RayRun`, which holds one future
per actor. Actors are named `<run id>/<role>/<index>` in namespace `reverie`, so that several
runs share a cluster without seeing each other.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from reverie import wiring
from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.config import ExperimentConfig
from reverie.errors import PartLost, RunError, WorkerLost
from reverie.ray_actors import (
    CoordinatorActor,
    EnvWorkerActor,
    EvaluatorActor,
    LearnerActor,
    ShardActor,
    WeightStoreActor,
    actor_name,
)
from reverie.ray_cluster import NAMESPACE, Placement, connect, plan_placement
from reverie.storage import Storage
from reverie.types import Counters, Spaces
from reverie.wiring import Events, Fault, Saved

log = logging.getLogger(__name__)

TRAIN_SLICE_S = 1.0
"""Seconds the learner trains between two returns to the supervisor."""
PING_EVERY_S = 1.0
NAME_PATIENCE_S = 30.0
"""Seconds a dead actor's name may take to become free."""
OVERDUE_S = 300.0
"""Seconds a worker may hold a quota before it counts as hung, at least."""
Key = tuple[str, int]


class RayRun:
    """One run on a Ray cluster.

    Args:
        checkpoint: state to go on from.
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
        *,
        address: str | None = None,
    ) -> None:
        self._config, self._spaces = config, spaces
        self._folder = folder.resolve()
        self._replay_folder = str(self._folder / wiring.REPLAY_FOLDER)
        self._started_ray = connect(config, address)
        self._placement: Placement = plan_placement(
            config, cast(dict[str, float], ray.cluster_resources())
        )
        self.run_id = f"{folder.name}-{uuid.uuid4().hex[:6]}"
        self._specs = wiring.agent_streams(config, spaces)
        self._store = CheckpointStore(Storage(str(self._folder)), config.run.keep_checkpoints)
        self._futures: dict[Any, Key] = {}
        self._restarts: dict[Key, int] = {}
        self._done_workers: set[int] = set()
        self._rows: dict[int, int] = {}
        self._grad_updates = 0
        self._incarnation = 0
        self._quiet = False
        self._next_ping = self._next_overdue_check = 0.0
        self.actors: dict[Key, Any] = {}
        self._start_all(checkpoint)

    def step(self) -> Events:
        """Wait for the next results, at most about a second, and send their actors on."""
        if self._config.run.lockstep:
            return self._lockstep_step()
        events = Events()
        self._pump(events, timeout=1.0)
        if len(self._done_workers) == self._config.resources.num_env_workers:
            # Stalled: the shard that held the rows is back without them, nothing more can come.
            events.finished = self._ask("coordinator", 0, "finished") or self._ask(
                "coordinator", 0, "stalled"
            )
        return events

    def quiesce(self) -> Events:
        """Hold quotas and training back and wait until everything granted has arrived."""
        events = Events()
        self._quiet = True
        self._ask("coordinator", 0, "pause")
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
                self._ask("replay_shard", i, "save", self._replay_folder)
                for i in range(self._config.resources.num_shards)
            ]
            tensors = self._ask("learner", 0, "state_dict")
            coordinator = self._ask("coordinator", 0, "state_dict")
        except RayActorError as error:
            raise PartLost(f"an actor died during the save: {error}") from error
        finally:
            if go_on:
                self._quiet = False
                self._ask("coordinator", 0, "unpause")
                self._send_idle()
        documents = {"coordinator": coordinator, "replay": fragments}
        return Saved(tensors, documents, wiring.replay_files(fragments))

    def finish(self) -> Events:
        """Play the evaluations that are still pinned and one of the last weights."""
        events = self.quiesce()
        env_steps = self._ask("coordinator", 0, "counters").env_steps
        self._ask("learner", 0, "pin", env_steps)
        events.trained.append(self._ask("learner", 0, "train"))
        while ("evaluator", 0) in self._futures.values() or self._pins():
            self._start_evaluation()
            self._pump(events, timeout=1.0)
        return events

    def counters(self) -> Counters:
        return self._ask("coordinator", 0, "counters")

    def facts(self) -> dict[str, Any]:
        """What the coordinator counted, for the summary."""
        return self._ask("coordinator", 0, "facts")

    def close(self) -> None:
        """End this run's actors, and the cluster if this run started it."""
        if not ray.is_initialized():
            return
        # Those who ask first, those who answer last: nobody is left waiting for a dead actor.
        for role in ("learner", "env_worker", "evaluator", *(role for role, _ in self.actors)):
            for key in [key for key in self.actors if key[0] == role]:
                ray.kill(self.actors.pop(key))
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
        resources = self._config.resources
        self._start("coordinator", 0)
        self._start("weight_store", 0)
        if checkpoint is not None:
            self._ask("coordinator", 0, "load_state_dict", checkpoint.document("coordinator"))
        for index in range(resources.num_shards):
            self._start_shard(index, checkpoint)
        self._start_learner(checkpoint)
        for index in range(resources.num_env_workers):
            self._start("env_worker", index)
        if not self._config.run.lockstep:
            self._send("learner", 0)
            for index in range(resources.num_env_workers):
                self._send("env_worker", index)

    def _start(self, role: str, index: int, *arguments: Any) -> None:
        """Launch one actor under its name; waits until a dead one's name is free."""
        maker, fixed = self._recipe(role, index)
        name = actor_name(self.run_id, role, index)
        options = self._placement.options(role) | {"name": name, "namespace": NAMESPACE}
        if (role, index) in self.actors:
            ray.kill(self.actors[role, index])  # one that is unreachable keeps its name otherwise
        deadline = time.monotonic() + NAME_PATIENCE_S
        while True:
            try:
                actor: Any = ray.remote(maker).options(**options).remote(*fixed, *arguments)
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                self.actors[role, index] = actor
                return

    def _recipe(self, role: str, index: int) -> tuple[type, tuple[Any, ...]]:
        config, spaces, run_id = self._config, self._spaces, self.run_id
        if role == "coordinator":
            return CoordinatorActor, (wiring.coordinator_arguments(config, self._specs),)
        if role == "weight_store":
            return WeightStoreActor, ()
        if role == "replay_shard":
            return ShardActor, (wiring.shard_arguments(config, self._specs, index),)
        if role == "learner":
            device, threads = self._placement.device, self._placement.learner_threads
            return LearnerActor, (run_id, config, spaces, device, threads, self._incarnation)
        if role == "env_worker":
            return EnvWorkerActor, (run_id, config, spaces, index)
        return EvaluatorActor, (run_id, config, spaces)

    def _start_learner(self, checkpoint: Checkpoint | None, batches: int | None = None) -> None:
        self._start("learner", 0)
        state = checkpoint.tensors("learner") if checkpoint else None
        self._grad_updates = self._ask("learner", 0, "begin", state, batches)

    def _start_shard(self, index: int, checkpoint: Checkpoint | None) -> None:
        """Launch a shard with what the checkpoint holds of it, and tell the coordinator.

        It loads while it is built: workers find it by name and would fill an empty one.
        """
        fragment = checkpoint.document("replay")[index] if checkpoint else None
        self._start("replay_shard", index, self._replay_folder, fragment)
        masses = self._ask("replay_shard", index, "masses")
        self._ask("coordinator", 0, "set_masses", index, masses)

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
                self._take(role, index, _get(ref), events)
            except RayActorError as error:
                self._replace(role, index, error, events)
            self._send(role, index)

    def _take(self, role: str, index: int, result: Any, events: Events) -> None:
        if role == "env_worker":
            events.collected.append(result)
            if result.fault:
                events.faults.append(Fault("env", index, result.fault))
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
        actor = self.actors[role, index]
        if role == "env_worker" and index not in self._done_workers:
            self._futures[actor.collect.remote()] = (role, index)
        elif role == "learner":
            self._futures[actor.train.remote(TRAIN_SLICE_S, TRAIN_SLICE_S)] = (role, index)

    def _send_idle(self) -> None:
        if self._config.run.lockstep:
            return
        for role, index in self.actors:
            self._send(role, index)

    def _ping(self) -> None:
        """Ask the parts that only answer whether they live, once a second."""
        if time.perf_counter() < self._next_ping:
            return
        self._next_ping = time.perf_counter() + PING_EVERY_S
        waiting = set(self._futures.values())
        for key, actor in self.actors.items():
            if key[0] in ("replay_shard", "weight_store", "coordinator") and key not in waiting:
                self._futures[actor.stats.remote()] = key

    def _start_evaluation(self) -> None:
        if ("evaluator", 0) in self._futures.values():
            return
        pins = self._pins()
        if pins:
            if ("evaluator", 0) not in self.actors:
                self._start("evaluator", 0)
            ref = self.actors["evaluator", 0].evaluate.remote(pins[0])
            self._futures[ref] = ("evaluator", 0)

    def _pins(self) -> list[int]:
        try:
            return self._ask("weight_store", 0, "pins")
        except RayActorError:
            return []  # the next ping finds it dead and replaces it

    def _busy(self) -> bool:
        waiting = set(self._futures.values())
        learning = ("learner", 0) in waiting
        collecting = any(role == "env_worker" for role, _ in waiting)
        return learning or collecting or self._ask("coordinator", 0, "outstanding") > 0

    def _lockstep_step(self) -> Events:
        events = Events()
        turn = self._restarts.setdefault(("turn", 0), 0)
        self._restarts["turn", 0] += 1
        index = turn % self._config.resources.num_env_workers
        self._take("env_worker", index, self._ask("env_worker", index, "collect"), events)
        self._take("learner", 0, self._ask("learner", 0, "train"), events)
        for env_steps in self._pins():
            if ("evaluator", 0) not in self.actors:
                self._start("evaluator", 0)
            events.evaluated.append(self._ask("evaluator", 0, "evaluate", env_steps))
        events.finished = self._ask("coordinator", 0, "finished")
        return events

    # Replacing

    def _replace(self, role: str, index: int, error: Exception, events: Events) -> None:
        """Launch a dead actor again, count it, and say what went with it."""
        count = self._restarts[role, index] = self._restarts.get((role, index), 0) + 1
        if role == "coordinator" or count > self._config.run.max_actor_restarts:
            raise WorkerLost(
                f"{role} {index} died {count} times "
                f"(run.max_actor_restarts={self._config.run.max_actor_restarts}): {error}"
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
        events.faults.append(Fault(role, index, text, **lost))

    def _replace_worker(self, index: int) -> dict[str, int]:
        lost = self._ask("coordinator", 0, "worker_lost", index)
        self._start("env_worker", index)
        return {"lost_steps": lost}

    def _replace_shard(self, index: int) -> dict[str, int]:
        self._ask("coordinator", 0, "shard_lost", index)
        self._start_shard(index, self._store.latest())
        kept = self._ask("replay_shard", index, "stats")["rows"]
        return {"lost_steps": max(0, self._rows.get(index, 0) - kept)}

    def _replace_learner(self, index: int) -> dict[str, int]:
        before = self._grad_updates
        batches = self._ask("coordinator", 0, "learner_lost")
        self._incarnation += 1
        self._start_learner(self._store.latest(), batches)
        return {"lost_updates": max(0, before - self._grad_updates)}

    def _replace_weight_store(self, index: int) -> dict[str, int]:
        self._start("weight_store", index)
        self.actors["learner", 0].publish_first.remote()
        return {}

    def _replace_evaluator(self, index: int) -> dict[str, int]:
        del self.actors["evaluator", index]
        return {}

    def _kill_overdue(self) -> None:
        """End workers that hold a quota for too long: their process hangs as a whole."""
        if time.perf_counter() < self._next_overdue_check:
            return
        self._next_overdue_check = time.perf_counter() + 10.0
        limit = max(OVERDUE_S, 10 * self._config.env.step_timeout_s)
        for index in self._ask("coordinator", 0, "overdue", limit):
            log.warning("env_worker %d holds a quota for over %.0f s; it is ended", index, limit)
            ray.kill(self.actors["env_worker", index])

    def _ask(self, role: str, index: int, method: str, *arguments: Any) -> Any:
        """Call an actor and wait for the answer."""
        return _get(getattr(self.actors[role, index], method).remote(*arguments))


def _get(ref: Any) -> Any:
    """`ray.get`, with our own errors as themselves instead of wrapped in a remote traceback."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, RunError):
            raise error.cause from None
        raise
