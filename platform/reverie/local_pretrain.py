"""All parts of a pre-training run in one process. The reference; never imports ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from reverie import pretrain_wiring as wiring
from reverie.checkpoint import Checkpoint
from reverie.data.video_loader import VideoLoader
from reverie.init_from import Source
from reverie.learner import pick_device
from reverie.pretrain_learner import PretrainLearner
from reverie.settings import PretrainConfig
from reverie.stop_signals import ShouldStop, never
from reverie.types import Array, Counters, Spaces, Window
from reverie.wiring import Events, Saved

SLICE_S = 1.0
"""Seconds of updates between two looks at signals, log and clock."""


class LocalLoader:
    """A loader in this process, spoken to as a remote one is."""

    def __init__(self, loader: VideoLoader) -> None:
        self._loader = loader

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> Callable[[], list[Window]]:
        return lambda: self._loader.sample(name, count, batch_number, trained_batches, slots)

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        raise ValueError(f"feedback: a data set keeps nothing, got {sorted(values)}")


class LocalPretrain:
    """One pre-training run in this process.

    Args:
        checkpoint: state to go on from.
        source: weights to start from where there is no checkpoint.
        should_stop: asked between updates.
    """

    def __init__(
        self,
        config: PretrainConfig,
        spaces: Spaces,
        checkpoint: Checkpoint | None = None,
        source: Source | None = None,
        *,
        should_stop: ShouldStop = never,
    ) -> None:
        self._should_stop = should_stop
        if config.resources.learner_threads:
            torch.set_num_threads(config.resources.learner_threads)
        specs = wiring.agent_streams(config, spaces)
        self.source = wiring.make_source(config, specs)
        count, device = config.resources.num_loaders, pick_device(config.resources.device)
        loaders: list[LocalLoader] = []
        for index in range(count):
            arguments, numbers = wiring.loader_parts(config, specs, index)
            loaders.append(LocalLoader(VideoLoader(*arguments, **numbers)))
        batches = wiring.make_batches(config, specs, self.source, loaders, device)
        held_out = wiring.make_held_out(config, specs, loaders, device)
        self.learner = PretrainLearner(config, spaces, batches, held_out, device=device)
        if checkpoint is not None:
            self.source.load_state_dict(checkpoint.document("coordinator"))
            self.learner.load_state_dict(checkpoint.tensors("learner"))
        elif source is not None:
            self.learner.initialise(source)

    def step(self) -> Events:
        """Updates for about a second."""
        stats = self.learner.train(SLICE_S, should_stop=self._should_stop)
        return Events(trained=[stats], finished=self.source.finished())

    def quiesce(self) -> Events:
        """Nothing is ever under way between two steps."""
        return Events()

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of learner and source; loaders have none."""
        return Saved(
            tensors=self.learner.state_dict(),
            documents={"coordinator": self.source.state_dict()},
            files=[],
        )

    def finish(self) -> Events:
        """Look at held-out clips with the last weights."""
        self.learner.look()
        return Events(trained=[self.learner.train(0.0)], finished=True)

    def counters(self) -> Counters:
        return self.source.counters()

    def facts(self) -> dict[str, int | float]:
        return self.source.facts()

    def close(self) -> None:
        """Nothing is open but files that are only read."""
