"""All parts of a run in one process, called one after the other. The reference; never imports ray.

One step is: a worker collects a quota, the learner makes every update that is due, the newest
weights are published, pinned evaluations are played.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from reverie import wiring
from reverie.checkpoint import Checkpoint
from reverie.config import TrainConfig
from reverie.env_worker import EnvWorker
from reverie.errors import EvaluationStopped
from reverie.evaluator import Evaluator
from reverie.init_from import Source
from reverie.learner import pick_device
from reverie.policy_learner import PolicyLearner
from reverie.replay.shard import ReplayShard
from reverie.stop_signals import ShouldStop, never
from reverie.types import Array, Counters, Spaces, Window
from reverie.weight_store import Pinned, WeightStore
from reverie.wiring import Events, Fault, Saved

log = logging.getLogger(__name__)


class LocalShard:
    """A shard in this process, spoken to as a remote one is."""

    def __init__(self, shard: ReplayShard) -> None:
        self._shard = shard
        self.insert = shard.insert

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> Callable[[], list[Window]]:
        return lambda: self._shard.sample(name, count, batch_number, trained_batches, slots)

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        self._shard.write_back(ids, dict(values))


class LocalRun:
    """One run in this process.

    Args:
        checkpoint: state to go on from.
        source: weights to start from where there is no checkpoint.
        should_stop: asked between env steps, updates and steps of an evaluation; what it cuts
            short is gone on with, an evaluation begins anew.
    """

    def __init__(
        self,
        config: TrainConfig,
        spaces: Spaces,
        folder: Path,
        checkpoint: Checkpoint | None = None,
        source: Source | None = None,
        *,
        should_stop: ShouldStop = never,
    ) -> None:
        self._config, self._spaces = config, spaces
        self._should_stop = should_stop
        self._replay_folder = folder / wiring.REPLAY_FOLDER
        if config.resources.learner_threads:
            torch.set_num_threads(config.resources.learner_threads)
        specs = wiring.agent_streams(config, spaces)
        num_shards = config.resources.num_shards
        self.coordinator = wiring.make_coordinator(config, specs)
        self.shards = [wiring.make_shard(config, specs, index) for index in range(num_shards)]
        self._weights = WeightStore()
        self._links = [LocalShard(shard) for shard in self.shards]
        device = pick_device(config.resources.device)
        batches = wiring.make_batches(config, specs, self.coordinator, self._links, device)
        self.learner = PolicyLearner(config, spaces, batches, self._weights, device=device)
        self._faults: list[Fault] = []
        if checkpoint is not None:
            self._load(checkpoint)
        elif source is not None:
            self.learner.initialise(source)
        self.learner.publish_first()
        self.workers = [self._make_worker(i) for i in range(config.resources.num_env_workers)]
        self._turn = 0
        self._evaluator: Evaluator | None = None

    def step(self) -> Events:
        """One worker's quota, all due updates, pinned evaluations."""
        events = Events(faults=self._faults)
        self._faults = []
        worker = self.workers[self._turn % len(self.workers)]
        self._turn += 1
        stats = worker.collect(self._should_stop)
        events.collected.append(stats)
        if stats.fault:
            events.faults.append(Fault(role="env", index=stats.worker, text=stats.fault))
        events.trained.append(self.learner.train(should_stop=self._should_stop))
        # Stalled: the rows that are owed batches are lost, nothing more can come.
        events.finished = self.coordinator.finished() or self.coordinator.stalled()
        if not events.finished:
            self._evaluate(events)
        return events

    def finish(self) -> Events:
        """Evaluate what is pinned and the last weights, unless their evaluation was stopped before
        and they are pinned still; `finished` tells whether that was done.
        """
        events = Events()
        env_steps = self.coordinator.counters().env_steps
        if env_steps not in self._weights.pins():
            self.learner.pin(env_steps)
        events.trained.append(self.learner.train())
        self._evaluate(events)
        events.finished = not self._weights.pins()
        return events

    def counters(self) -> Counters:
        return self.coordinator.counters()

    def facts(self) -> dict[str, int | float]:
        """What the parts counted, for the summary."""
        return self.coordinator.facts()

    def quiesce(self) -> Events:
        """Nothing is ever under way between two steps."""
        return Events()

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of every part; chunk files are written here, the rest is returned."""
        fragments = [shard.save(self._replay_folder) for shard in self.shards]
        found = [self._weights.pinned(env_steps) for env_steps in self._weights.pins()]
        pinned: list[Pinned] = [pin for pin in found if pin is not None]
        return Saved(
            tensors={**self.learner.state_dict(), "pins": wiring.pin_tensors(pinned)},
            documents={
                "coordinator": self.coordinator.state_dict(),
                "replay": fragments,
                "pins": wiring.pin_document(pinned),
            },
            files=wiring.replay_files(fragments),
        )

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def _load(self, checkpoint: Checkpoint) -> None:
        self.coordinator.load_state_dict(checkpoint.document("coordinator"))
        self.learner.load_state_dict(checkpoint.tensors("learner"))
        for pin in wiring.load_pins(checkpoint):
            self._weights.pin(*pin)
        fragments = checkpoint.document("replay")
        for index, (shard, fragment) in enumerate(zip(self.shards, fragments, strict=True)):
            damage = shard.load(self._replay_folder, fragment)
            self._faults += wiring.damage_faults(index, damage, damage.lost_rows)
            self.coordinator.set_masses(index, shard.masses())

    def _make_worker(self, index: int) -> EnvWorker:
        return EnvWorker(
            self._config, self._spaces, index, self.coordinator, self._links, self._weights
        )

    def _evaluate(self, events: Events) -> None:
        for env_steps in self._weights.pins():
            if self._should_stop():
                return
            self._evaluator = self._evaluator or Evaluator(
                self._config, self._spaces, self._weights
            )
            try:
                result = self._evaluator.evaluate(env_steps, self._should_stop)
            except EvaluationStopped as error:
                log.info("the evaluation at %d env steps begins anew later: %s", env_steps, error)
                return
            assert result is not None, env_steps
            events.evaluated.append(result)
