"""What a kind of part is to the supervisor of a run: how it is built, placed, fed and mended.

A row is all that is known of a part. A run is a table of rows: `reverie.cluster.roles` for one that
trains, `reverie.cluster.pretrain_roles` for one that learns from video.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.cluster.fleet import READY, Ask, Fleet, Key, Steps
from reverie.cluster.links import give_signs_of_life
from reverie.cluster.placement import Placement, Resources, Room, choose_device, plan_placement
from reverie.cluster.signs_of_life import Listener
from reverie.cluster.takeover import Look, Snapshot
from reverie.init_from import Source
from reverie.learner import TrainStats
from reverie.links import Report
from reverie.protocols import StreamSpec
from reverie.settings import ExperimentConfig
from reverie.types import Spaces
from reverie.wiring import Events, Fault

COORDINATOR = Key("coordinator", 0)
LEARNER = Key("learner", 0)
TRAIN_SLICE_S = 1.0
"""Seconds the learner trains between two returns to the supervisor."""
SILENT_S = 60.0
"""A process that runs gives a sign of life every 5 s."""
COMPILING_S = 1800.0
"""Seconds one slice of training may take: its first update may compile for minutes."""
Work = tuple[Any, ...]
"""A method's name and its arguments."""
ConfigT = TypeVar("ConfigT", bound=ExperimentConfig)
Built = tuple[type, tuple[Any, ...]]
"""An actor's class and what it is built with."""


@dataclass(slots=True)
class Site(Generic[ConfigT]):
    """What the rows work with: the run's configuration, its actors, and what is known of them."""

    config: ConfigT
    spaces: Spaces
    specs: dict[str, StreamSpec]
    run_id: str
    source: Source | None
    """Weights to start from where there is no checkpoint."""
    replay_folder: str
    checkpoints: CheckpointStore
    checkpoint: Checkpoint | None
    """What a part that is launched now goes on from."""
    placement: Placement
    fleet: Fleet
    quiet: bool = False
    """Quotas and training are held back."""
    launches: Counter[Key] = field(default_factory=Counter[Key])
    lost: dict[Key, Counter[str]] = field(default_factory=dict[Key, Counter[str]])
    """What went with a part that is being mended: fields of `Fault`."""
    rows: Counter[int] = field(default_factory=Counter[int])
    """Rows in each shard when it was asked last."""
    faults: list[Fault] = field(default_factory=list[Fault])
    """What was mended without a part's death, until the next events take it along."""
    grad_updates: int = 0
    done_workers: set[int] = field(default_factory=set[int])
    """Workers whose budget is spent."""
    snapshot: Snapshot | None = None
    """What the coordinator counted when it was looked at last."""
    untold: dict[int, Report | None] = field(default_factory=dict[int, "Report | None"])
    """By worker: what it has done, as its last result says, and could not tell the coordinator."""
    ready_at: dict[Key, float] = field(default_factory=dict[Key, float])
    """When each part that is there was built, in monotonic seconds."""
    listener: Listener = field(default_factory=Listener)
    silent: dict[Key, float] = field(default_factory=dict[Key, float])
    """Seconds without a sign of life of each part, as of the last look at the coordinator."""
    pins: list[int] = field(default_factory=list[int])
    """Env steps of the weights that wait for their evaluation; an evaluated one may still show."""

    def launch(self, role: Role[ConfigT], index: int) -> Steps:
        """Launch a part and wait until it is built."""
        key = Key(role.name, index)
        if self.launches[key]:
            self.checkpoint = self.checkpoints.latest()
        maker, arguments = role.make(self, index)
        self.launches[key] += 1
        self.ready_at.pop(key, None)
        yield from self.fleet.launch(key, maker, arguments, self.placement.options(role.name))
        yield Ask(key, READY)
        self.ready_at[key] = time.monotonic()
        if key != COORDINATOR:
            told = give_signs_of_life, self.run_id, role.name, index
            self.tell(key, "__ray_call__", *told)

    def life(self, key: Key) -> int:
        """How many actors stood in a part's place before the present one."""
        return self.launches[key] - 1

    def tell(self, key: Key, method: str, *arguments: Any) -> None:
        """Call a part, if it is there, without asking for an answer."""
        if key in self.fleet.actors:
            self.fleet.send(Ask(key, method, arguments))


def _launch(role: Role[ConfigT], site: Site[ConfigT], index: int) -> Steps:
    yield from site.launch(role, index)


def _one(config: ExperimentConfig) -> int:
    return 1


def _nothing(config: ExperimentConfig, device: str) -> Resources:
    return {}


def _no_work(site: Site[ConfigT], index: int) -> Work | None:
    return None


def _ignore(site: Site[ConfigT], index: int, result: Any, events: Events) -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Role(Generic[ConfigT]):
    """One kind of part. None of its functions waits for an actor; `mend` yields what it awaits."""

    name: str
    make: Callable[[Site[ConfigT], int], Built]
    """How part `index` is built."""
    count: Callable[[ConfigT], int] = _one
    """How many of it a run has."""
    resources: Callable[[ConfigT, str], Resources] = _nothing
    """What each reserves, by the device the learner trains on; CPUs are scaled to the room."""
    work: Callable[[Site[ConfigT], int], Work | None] = _no_work
    """The next piece of work of a part that has none; None: there is none now."""
    take: Callable[[Site[ConfigT], int, Any, Events], None] = _ignore
    """Take what a piece of work, or a ping, returned."""
    pinged: str | None = None
    """Method asked once a second whether the part lives, where no work shows it."""
    hang_after_s: Callable[[ConfigT], float] | None = None
    """Seconds after which a part that has not returned from its work, or a ping, is ended."""
    silent_after_s: float = SILENT_S
    """Seconds without a sign of life after which a part is ended, whatever it is at."""
    mend: Callable[[Role[ConfigT], Site[ConfigT], int], Steps] = _launch
    """Launch the part, at first or in place of one that died, and give it what it needs.

    Begun anew where the part dies meanwhile; what is lost, it adds to `site.lost`.
    """
    on_demand: bool = False
    """Launched when it first has work, and after a death when it has work again."""
    remedy: str = ""
    """What its user can do when it dies again and again."""


# What the tables share


def take_look(site: Site[ConfigT], index: int, result: Look, events: Events) -> None:
    site.snapshot = result.snapshot or site.snapshot
    now, ready = time.monotonic(), dict(site.ready_at)
    heard = {Key(*part): seconds for part, seconds in result.silent.items()}
    coordinator_at = ready.pop(COORDINATOR, now)  # which is asked once a second itself
    site.silent = site.listener.silent(heard, ready, coordinator_at, now)


def learner_resources(config: ExperimentConfig, device: str) -> Resources:
    wanted = config.resources
    gpus = {"GPU": wanted.num_gpus_per_learner} if device == "cuda" else {}
    return {"CPU": wanted.num_cpus_per_learner} | gpus


def take_trained(site: Site[ConfigT], index: int, result: TrainStats, events: Events) -> None:
    site.grad_updates = result.grad_updates
    events.trained.append(result)


def place_roles(config: ConfigT, roles: Sequence[Role[ConfigT]], room: Room) -> Placement:
    """Fit what all parts reserve into the room there is.

    Raises:
        PlacementError: what is asked for can never be placed.
    """
    device = choose_device(config, room)
    parts = [(role.name, role.count(config), role.resources(config, device)) for role in roles]
    return plan_placement(room, device, parts)
