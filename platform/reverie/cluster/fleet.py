"""The actors of one run: launched under their names, called by role and index, ended in order."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (ray types neither remote classes nor their calls)
from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import ActorAlreadyExistsError, RayTaskError

from reverie import wiring
from reverie.cluster.actors import EnvWorkerActor, EvaluatorActor, LearnerActor
from reverie.cluster.connection import NAMESPACE
from reverie.cluster.light_actors import CoordinatorActor, ShardActor, WeightStoreActor
from reverie.cluster.links import actor_name
from reverie.cluster.placement import Placement
from reverie.config import ExperimentConfig
from reverie.errors import RunError
from reverie.protocols import StreamSpec
from reverie.types import Spaces

Key = tuple[str, int]
"""(role, index) of an actor."""
NAME_PATIENCE_S = 30.0
"""Seconds a dead actor's name may take to become free."""
ASKING_ROLES = ("learner", "env_worker", "evaluator")
"""Roles that call others; they end first, so that nobody waits for a dead actor."""


class Fleet:
    """Launches the parts of one run and calls them; knows how each is built, not what for."""

    def __init__(
        self,
        config: ExperimentConfig,
        spaces: Spaces,
        specs: dict[str, StreamSpec],
        run_id: str,
        placement: Placement,
    ) -> None:
        self._config, self._spaces, self._specs = config, spaces, specs
        self._run_id, self._placement = run_id, placement
        self.actors: dict[Key, Any] = {}

    def start(self, role: str, index: int, *arguments: Any) -> None:
        """Launch an actor, in place of one that died; waits until the dead one's name is free.

        `arguments` are what only this launch needs, behind what the role always gets.
        """
        maker, fixed = self._recipe(role, index)
        name = actor_name(self._run_id, role, index)
        options = self._placement.options(role) | {"name": name, "namespace": NAMESPACE}
        if (role, index) in self.actors:
            self.kill(role, index)  # one that is merely unreachable keeps its name otherwise
        deadline = time.monotonic() + NAME_PATIENCE_S
        while True:
            try:
                actor: Any = ray.remote(maker).options(**options).remote(*fixed, *arguments)
            except ActorAlreadyExistsError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                self.actors[role, index] = actor
                return

    def call(self, role: str, index: int, method: str, *arguments: Any) -> Any:
        """Call an actor; returns the future of its answer."""
        return getattr(self.actors[role, index], method).remote(*arguments)

    def ask(self, role: str, index: int, method: str, *arguments: Any) -> Any:
        """Call an actor and wait for its answer.

        Raises:
            RunError: the actor's own, as it was raised there.
            RayActorError: the actor is dead.
        """
        return fetch(self.call(role, index, method, *arguments))

    def kill(self, role: str, index: int) -> None:
        """End an actor at once; it stays known, to be started again."""
        ray.kill(self.actors[role, index])

    def forget(self, role: str, index: int) -> None:
        """Let go of an actor that is dead and not needed now."""
        del self.actors[role, index]

    def close(self) -> None:
        """End all actors, those that call others first."""
        last = [role for role, _ in self.actors]
        for wanted in (*ASKING_ROLES, *last):
            for role, index in [key for key in self.actors if key[0] == wanted]:
                self.kill(role, index)
                self.forget(role, index)

    def _recipe(self, role: str, index: int) -> tuple[type, tuple[Any, ...]]:
        """The class of a role and the arguments every launch of it gets."""
        config, spaces, run_id = self._config, self._spaces, self._run_id
        if role == "coordinator":
            return CoordinatorActor, (wiring.coordinator_arguments(config, self._specs),)
        if role == "weight_store":
            return WeightStoreActor, ()
        if role == "replay_shard":
            return ShardActor, (wiring.shard_arguments(config, self._specs, index),)
        if role == "learner":
            device, threads = self._placement.device, config.resources.learner_threads
            return LearnerActor, (run_id, config, spaces, device, threads)
        if role == "env_worker":
            return EnvWorkerActor, (run_id, config, spaces, index)
        return EvaluatorActor, (run_id, config, spaces)


def fetch(ref: Any) -> Any:
    """`ray.get`, with our own errors as themselves instead of wrapped in a remote traceback."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, RunError):
            raise error.cause from None
        raise
