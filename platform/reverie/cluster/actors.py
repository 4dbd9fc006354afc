"""The actors that run networks: environment workers, learner, evaluator.

Thin shells around the plain classes; each gets a configuration and a run id and finds the others
by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from reverie import pretrain_wiring, wiring
from reverie.allocator import keep_memory
from reverie.cluster.links import CoordinatorLink, LoaderLink, WeightStoreLink, shard_links
from reverie.cluster.takeover import Known
from reverie.config import TrainConfig
from reverie.env_worker import CollectStats, EnvWorker
from reverie.evaluator import Evaluator
from reverie.init_from import Source
from reverie.policy_learner import PolicyLearner
from reverie.pretrain_learner import PretrainLearner
from reverie.settings import PretrainConfig
from reverie.stop_signals import ShouldStop, never
from reverie.types import Spaces, Tensors

COLLECT_S = 5.0
"""Seconds after which a worker with slow environments hands on what it has: a checkpoint waits."""


class EnvWorkerActor(EnvWorker):
    """An environment worker as an actor."""

    def __init__(
        self, run_id: str, config: TrainConfig, spaces: Spaces, worker_id: int, life: int
    ) -> None:
        _prepare_to_act(config)
        self._link = CoordinatorLink(run_id, life)
        shards = shard_links(run_id, config)
        super().__init__(config, spaces, worker_id, self._link, shards, WeightStoreLink(run_id))
        self._label = f"EnvWorker({worker_id}, {config.env.name})"

    def __repr__(self) -> str:
        return getattr(self, "_label", "EnvWorker")

    def known(self) -> Known:
        return self._link.known()

    def collect(self, should_stop: ShouldStop = never) -> CollectStats:
        """As `EnvWorker`, for at most about `COLLECT_S` seconds but in lockstep.

        One quota only, however small: what a worker has reported and not returned yet would be
        missing from the run's record if it died.
        """
        end = time.monotonic() + COLLECT_S
        in_lockstep = self._config.run.lockstep
        stats = super().collect(
            lambda: should_stop() or (time.monotonic() > end and not in_lockstep)
        )
        return replace(stats, untold=self._link.known().report)


class LearnerActor(PolicyLearner):
    """The learner as an actor."""

    def __init__(
        self,
        run_id: str,
        config: TrainConfig,
        spaces: Spaces,
        device: str,
        threads: int,
        incarnation: int,
    ) -> None:
        _pin_threads(threads)
        specs = wiring.agent_streams(config, spaces)
        self._link = CoordinatorLink(run_id, incarnation)
        shards = shard_links(run_id, config)
        super().__init__(
            config,
            spaces,
            wiring.make_batches(config, specs, self._link, shards, device),
            WeightStoreLink(run_id),
            device=device,
            incarnation=incarnation,
        )

    def __repr__(self) -> str:
        return f"Learner({self.__dict__.get('_device', 'starting')})"

    def known(self) -> Known:
        return self._link.known()

    def begin(
        self, state: Mapping[str, Tensors] | None, batches: int, source: Source | None
    ) -> int:
        """As `Learner.start`; publishes besides. Returns the updates so far."""
        self.start(state, batches, source)
        self.publish_first()
        return self.version.grad_updates


class PretrainLearnerActor(PretrainLearner):
    """The learner of a run that learns from video, as an actor."""

    def __init__(
        self,
        run_id: str,
        config: PretrainConfig,
        spaces: Spaces,
        device: str,
        threads: int,
        incarnation: int,
    ) -> None:
        _pin_threads(threads)
        specs = pretrain_wiring.agent_streams(config, spaces)
        self._link = CoordinatorLink(run_id, incarnation)
        loaders = [LoaderLink(run_id, index) for index in range(config.resources.num_loaders)]
        super().__init__(
            config,
            spaces,
            pretrain_wiring.make_batches(config, specs, self._link, loaders, device),
            pretrain_wiring.make_held_out(config, specs, loaders, device),
            device=device,
            incarnation=incarnation,
        )

    def __repr__(self) -> str:
        return f"Learner({self.__dict__.get('_device', 'starting')})"

    def known(self) -> Known:
        return self._link.known()

    def begin(
        self, state: Mapping[str, Tensors] | None, batches: int, source: Source | None
    ) -> int:
        """As `Learner.start`; returns the updates so far."""
        self.start(state, batches, source)
        return self.version.grad_updates


class EvaluatorActor(Evaluator):
    """The evaluator as an actor."""

    def __init__(self, run_id: str, config: TrainConfig, spaces: Spaces) -> None:
        _prepare_to_act(config)
        super().__init__(config, spaces, WeightStoreLink(run_id))


def _prepare_to_act(config: TrainConfig) -> None:
    _pin_threads(config.resources.worker_threads)
    keep_memory()


def _pin_threads(threads: int) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
