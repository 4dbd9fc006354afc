"""A training run on a Ray cluster, as the trainer sees it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from reverie import wiring
from reverie.checkpoint import Checkpoint
from reverie.cluster.backend import RayBackend
from reverie.cluster.fleet import Ask, Key
from reverie.cluster.role import LEARNER
from reverie.cluster.roles import ENV_WORKER, EVALUATOR, ROLES, SHARD, WEIGHT_STORE, TrainRole
from reverie.config import TrainConfig
from reverie.errors import PartLost
from reverie.init_from import Source
from reverie.learner import TrainStats
from reverie.stop_signals import ShouldStop, never
from reverie.types import Spaces
from reverie.weight_store import Pinned
from reverie.wiring import Events, Saved

log = logging.getLogger(__name__)


class RayRun(RayBackend[TrainConfig]):
    """One run on a Ray cluster.

    Args:
        checkpoint: state to go on from.
        source: weights to start from where there is no checkpoint.
        address: cluster to join; None starts one on this machine.
        roles: the kinds of parts it has.
        should_stop: asked while evaluations are waited for at the end; they begin anew later.

    Raises:
        PlacementError: the cluster can never hold what the configuration asks for.
    """

    def __init__(
        self,
        config: TrainConfig,
        spaces: Spaces,
        folder: Path,
        checkpoint: Checkpoint | None = None,
        source: Source | None = None,
        *,
        address: str | None = None,
        roles: Sequence[TrainRole] = ROLES,
        should_stop: ShouldStop = never,
    ) -> None:
        self._scored: set[int] = set()
        self._turn = 0
        super().__init__(
            config,
            spaces,
            folder,
            wiring.agent_streams(config, spaces),
            roles,
            checkpoint,
            source,
            address=address,
            feeds=not config.run.lockstep,
            should_stop=should_stop,
        )

    def step(self) -> Events:
        """Wait for the next results, at most about a second, and send their actors on."""
        if self._config.run.lockstep:
            return self._lockstep_step()
        self.parts.pump(1.0)
        finished = False
        if len(self._site.done_workers) == self._config.resources.num_env_workers:
            # Stalled: the shard that held the rows is back without them, nothing more can come.
            finished = any(self._ask_coordinator(each) for each in ("finished", "stalled"))
        events = self._pop_events()
        events.finished = finished
        return events

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of every part (after `quiesce`) and let the run go on, or not.

        Raises:
            PartLost: an actor died meanwhile; the next step replaces it.
        """
        shards = [Key(SHARD, index) for index in range(self._config.resources.num_shards)]
        asks = [Ask(key, "save", (self._site.replay_folder,)) for key in shards]
        try:
            tensors, *fragments = self.parts.ask_all([Ask(LEARNER, "state_dict"), *asks])
            # The learner has settled: all that it confirmed has reached the coordinator.
            coordinator = self._ask_coordinator("state_dict")
            pinned = self._pinned()
        finally:
            if go_on:
                self._site.quiet = False
                self._ask_coordinator("unpause")
        tensors["pins"] = wiring.pin_tensors(pinned)
        pins = wiring.pin_document(pinned)
        documents = {"coordinator": coordinator, "replay": fragments, "pins": pins}
        return Saved(tensors=tensors, documents=documents, files=wiring.replay_files(fragments))

    def finish(self) -> Events:
        """Play the evaluations that are still pinned and one of the last weights.

        What waits is played before the last weights are pinned: their evaluation may be among it,
        where it was stopped before. `finished` tells whether all was done.
        """
        self._rest()
        events = self._play_pinned()
        if events.finished and self.counters().env_steps not in self._scored:
            events.trained.append(self._pin_last())
            events.add(self._play_pinned())
        return events

    def _pin_last(self) -> TrainStats:
        while True:
            try:
                self.parts.ask(LEARNER, "pin", self.counters().env_steps)
                return self.parts.ask(LEARNER, "train")
            except PartLost as error:
                log.warning("the last evaluation is prepared again: %s", error)

    def _play_pinned(self) -> Events:
        """Wait for the evaluations of all that is pinned, unless told to stop."""
        while is_left := bool(self._see_pins() or self.parts.works(EVALUATOR)):
            if self._should_stop():
                break
            self._evaluate()
        events = self._pop_events()
        events.finished = not is_left
        return events

    def _pop_events(self) -> Events:
        events = super()._pop_events()
        self._scored |= {result.env_steps for result in events.evaluated}
        return events

    def _lockstep_step(self) -> Events:
        """One worker's quota, all due updates, pinned evaluations, one after the other."""
        worker = Key(ENV_WORKER, self._turn % self._config.resources.num_env_workers)
        self._turn += 1
        try:
            self.parts.do(worker)
            self.parts.do(LEARNER)
        except PartLost as error:
            log.warning("the turn of %s is cut short: %s", worker, error)
        while self._see_pins() and not self._should_stop():
            self._evaluate()
        # Stalled: the rows that are owed batches are lost, nothing more can come.
        finished = any(self._ask_coordinator(each) for each in ("finished", "stalled"))
        events = self._pop_events()
        events.finished = finished
        return events

    def _evaluate(self) -> None:
        """Go on with evaluations: all that is pinned in lockstep, else for a moment."""
        if not self._config.run.lockstep:
            return self.parts.pump(1.0)
        try:
            return self.parts.do(EVALUATOR)
        except PartLost as error:
            log.warning("the evaluation begins anew: %s", error)

    def _see_pins(self) -> list[int]:
        """Ask which weights wait for their evaluation."""
        try:
            self._site.pins = self.parts.ask(WEIGHT_STORE, "pins")
        except PartLost:
            self._site.pins = []  # they went with the store
        return self._site.pins

    def _pinned(self) -> list[Pinned]:
        pins = self.parts.ask(WEIGHT_STORE, "pins")
        asks = [Ask(WEIGHT_STORE, "pinned", (at,)) for at in pins]
        return [pinned for pinned in self.parts.ask_all(asks) if pinned is not None]
