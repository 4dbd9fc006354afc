"""A run that learns from video on a Ray cluster, as its loop sees it."""

from __future__ import annotations

import logging
from pathlib import Path

from reverie import pretrain_wiring as wiring
from reverie.checkpoint import Checkpoint
from reverie.cluster.backend import RayBackend
from reverie.cluster.fleet import Ask
from reverie.cluster.pretrain_roles import ROLES
from reverie.cluster.role import LEARNER
from reverie.errors import PartLost
from reverie.init_from import Source
from reverie.settings import PretrainConfig
from reverie.types import Spaces
from reverie.wiring import Events, Saved

log = logging.getLogger(__name__)


class RayPretrain(RayBackend[PretrainConfig]):
    """One run on a Ray cluster: source, loaders, learner.

    Arguments and errors are those of `RayBackend`.
    """

    def __init__(
        self,
        config: PretrainConfig,
        spaces: Spaces,
        folder: Path,
        checkpoint: Checkpoint | None = None,
        source: Source | None = None,
        *,
        address: str | None = None,
    ) -> None:
        specs = wiring.agent_streams(config, spaces)
        parts = config, spaces, folder, specs, ROLES, checkpoint, source
        super().__init__(*parts, address=address)

    def step(self) -> Events:
        """Wait for the next results, at most about a second, and send the learner on."""
        self.parts.pump(1.0)
        finished = False
        if self._site.grad_updates >= self._config.run.updates:
            finished = self._ask_coordinator("finished")
        events = self._pop_events()
        events.finished = finished
        return events

    def save(self, *, go_on: bool = True) -> Saved:
        """Cut the state of learner and source (after `quiesce`); loaders have none.

        Raises:
            PartLost: the learner died meanwhile; the next step replaces it.
        """
        try:
            (tensors,) = self.parts.ask_all([Ask(LEARNER, "state_dict")])
            # The learner has settled: all that it confirmed has reached the source.
            coordinator = self._ask_coordinator("state_dict")
        finally:
            if go_on:
                self._site.quiet = False
                self._ask_coordinator("unpause")
        return Saved(tensors=tensors, documents={"coordinator": coordinator}, files=[])

    def finish(self) -> Events:
        """Look at held-out clips with the last weights."""
        self._rest()
        while True:
            try:
                self.parts.ask(LEARNER, "look")
                trained = self.parts.ask(LEARNER, "train", 0.0)
                break
            except PartLost as error:
                log.warning("the last look is taken again: %s", error)
        events = self._pop_events()
        events.trained.append(trained)
        events.finished = True
        return events
