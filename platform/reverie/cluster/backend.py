"""What every run on a Ray cluster does: its actors at work, at rest, and asked.

What the parts are, their rows say; `reverie.cluster.supervisor` keeps them at work. Actors are
named `<run id>/<role>/<index>` in namespace `reverie`, so that several runs share a cluster without
seeing each other.
"""

# Ray is partly untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import ray

from reverie import wiring
from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.cluster.connection import connect, end_lost_ray
from reverie.cluster.fleet import Fleet
from reverie.cluster.placement import find_room
from reverie.cluster.role import COORDINATOR, ConfigT, Role, Site, place_roles
from reverie.cluster.supervisor import Supervisor
from reverie.errors import PartLost
from reverie.init_from import Source
from reverie.protocols import StreamSpec
from reverie.stop_signals import ShouldStop, never
from reverie.storage import Storage
from reverie.types import Counters, Spaces
from reverie.wiring import Events

log = logging.getLogger(__name__)


class RayBackend(Generic[ConfigT]):
    """One run on a Ray cluster.

    Args:
        specs: what the agent's batches are made of.
        roles: the kinds of parts it has.
        checkpoint: state to go on from.
        source: weights to start from where there is no checkpoint.
        address: cluster to join; None starts one on this machine.
        feeds: as for `Supervisor`.
        should_stop: asked while the end of the run is waited for.

    Raises:
        PlacementError: the cluster can never hold what the configuration asks for.
    """

    def __init__(
        self,
        config: ConfigT,
        spaces: Spaces,
        folder: Path,
        specs: Mapping[str, StreamSpec],
        roles: Sequence[Role[ConfigT]],
        checkpoint: Checkpoint | None,
        source: Source | None,
        *,
        address: str | None,
        feeds: bool = True,
        should_stop: ShouldStop = never,
    ) -> None:
        self._config, self._should_stop = config, should_stop
        root = folder.resolve()
        self._started_ray = connect(config, address)
        placement = place_roles(config, roles, find_room())
        self.run_id = f"{folder.name}-{uuid.uuid4().hex[:6]}"
        self.fleet = Fleet(self.run_id)
        self._site = Site(
            config=config,
            spaces=spaces,
            specs=dict(specs),
            run_id=self.run_id,
            source=source,
            replay_folder=str(root / wiring.REPLAY_FOLDER),
            checkpoints=CheckpointStore(Storage(str(root)), config.run.keep_checkpoints),
            checkpoint=checkpoint,
            placement=placement,
            fleet=self.fleet,
        )
        self.parts = Supervisor(self._site, roles, feeds=feeds)
        self.parts.start()

    def quiesce(self) -> Events:
        """Hold quotas and training back and wait until everything granted has arrived."""
        self._rest()
        return self._pop_events()

    def counters(self) -> Counters:
        return self._ask_coordinator("counters")

    def facts(self) -> dict[str, int | float]:
        """What the coordinator counted, for the summary."""
        return self._ask_coordinator("facts")

    def close(self) -> None:
        """End this run's actors, and the cluster if this run started it."""
        if not ray.is_initialized():
            return
        if self.parts.cluster_is_lost:
            if self._started_ray:
                end_lost_ray()
            return
        self.parts.close()
        if self._started_ray:
            ray.shutdown()

    def _rest(self) -> None:
        self._site.quiet = True
        self._ask_coordinator("pause")
        # A part that was given up never reports what it was granted.
        while self.parts.is_busy() or (self.parts.is_whole() and self._outstanding()):
            self.parts.pump(0.2)

    def _pop_events(self) -> Events:
        """What happened since the last call."""
        return self.parts.pop_events()

    def _outstanding(self) -> int:
        return self._ask_coordinator("outstanding")

    def _ask_coordinator(self, method: str) -> Any:
        while True:
            try:
                return self.parts.ask(COORDINATOR, method)
            except PartLost as error:
                log.warning("%s is asked again: %s", COORDINATOR, error)
