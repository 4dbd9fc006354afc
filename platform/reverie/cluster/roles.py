"""The parts of a run as a table: how each is built, placed, fed, watched and mended.

A row is all that the supervisor knows of a part. Another kind of part (a loader of videos, an
inference server) is another row, given to `RayRun` beside `ROLES`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from reverie import wiring
from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.cluster.actors import EnvWorkerActor, EvaluatorActor, LearnerActor
from reverie.cluster.coordinator_actor import CoordinatorActor
from reverie.cluster.fleet import READY, Ask, Fleet, Key, Steps
from reverie.cluster.light_actors import ShardActor, WeightStoreActor
from reverie.cluster.links import give_signs_of_life
from reverie.cluster.placement import Placement, Resources, Room, choose_device, plan_placement
from reverie.cluster.signs_of_life import Listener
from reverie.cluster.takeover import Known, Look, Snapshot
from reverie.config import TrainConfig
from reverie.env_worker import CollectStats
from reverie.evaluator import EvalResult
from reverie.init_from import Source
from reverie.learner import TrainStats
from reverie.links import Report
from reverie.protocols import StreamSpec
from reverie.types import Spaces, Version
from reverie.wiring import Events, Fault

COORDINATOR = Key("coordinator", 0)
WEIGHT_STORE = Key("weight_store", 0)
LEARNER = Key("learner", 0)
EVALUATOR = Key("evaluator", 0)
SHARD, ENV_WORKER = "replay_shard", "env_worker"
TRAIN_SLICE_S = 1.0
"""Seconds the learner trains between two returns to the supervisor."""
SILENT_S = 60.0
"""A process that runs gives a sign of life every 5 s."""
OVERDUE_S = 300.0
"""Seconds a worker may hold a piece of work before it counts as hung, at least."""
COMPILING_S = 1800.0
"""Seconds one slice of training may take: its first update may compile for minutes."""
Work = tuple[Any, ...]
"""A method's name and its arguments."""
Built = tuple[type, tuple[Any, ...]]
"""An actor's class and what it is built with."""


@dataclass(slots=True)
class Site:
    """What the rows work with: the run's configuration, its actors, and what is known of them."""

    config: TrainConfig
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

    def launch(self, role: Role, index: int) -> Steps:
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


def _launch(role: Role, site: Site, index: int) -> Steps:
    yield from site.launch(role, index)


def _one(config: TrainConfig) -> int:
    return 1


def _nothing(config: TrainConfig, device: str) -> Resources:
    return {}


def _no_work(site: Site, index: int) -> Work | None:
    return None


def _ignore(site: Site, index: int, result: Any, events: Events) -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """One kind of part. None of its functions waits for an actor; `mend` yields what it awaits."""

    name: str
    make: Callable[[Site, int], Built]
    """How part `index` is built."""
    count: Callable[[TrainConfig], int] = _one
    """How many of it a run has."""
    resources: Callable[[TrainConfig, str], Resources] = _nothing
    """What each reserves, by the device the learner trains on; CPUs are scaled to the room."""
    work: Callable[[Site, int], Work | None] = _no_work
    """The next piece of work of a part that has none; None: there is none now."""
    take: Callable[[Site, int, Any, Events], None] = _ignore
    """Take what a piece of work, or a ping, returned."""
    pinged: str | None = None
    """Method asked once a second whether the part lives, where no work shows it."""
    hang_after_s: Callable[[TrainConfig], float] | None = None
    """Seconds after which a part that has not returned from its work, or a ping, is ended."""
    silent_after_s: float = SILENT_S
    """Seconds without a sign of life after which a part is ended, whatever it is at."""
    mend: Callable[[Role, Site, int], Steps] = _launch
    """Launch the part, at first or in place of one that died, and give it what it needs.

    Begun anew where the part dies meanwhile; what is lost, it adds to `site.lost`.
    """
    on_demand: bool = False
    """Launched when it first has work, and after a death when it has work again."""
    remedy: str = ""
    """What its user can do when it dies again and again."""


def _make_coordinator(site: Site, index: int) -> Built:
    coordinator = wiring.make_coordinator(site.config, site.specs)
    if site.checkpoint is not None:
        coordinator.load_state_dict(site.checkpoint.document("coordinator"))
    return CoordinatorActor, (coordinator, site.launches[COORDINATOR])


def _mend_coordinator(role: Role, site: Site, index: int) -> Steps:
    """The new one learns from the living where the dead one was; nobody waits for it meanwhile.

    A part that is being replaced itself knows nothing: its mending asks the new coordinator.
    """
    yield from site.launch(role, index)
    if not site.life(COORDINATOR):
        return
    shards = [Key(SHARD, index) for index in range(site.config.resources.num_shards)]
    masses: dict[int, dict[str, float]] = {}
    for key in shards:
        found: dict[str, float] | None = yield Ask(key, "masses", or_none=True)
        masses |= {key.index: found} if found is not None else {}
    known = [Known(snapshot=site.snapshot)]
    known += [Known(report=report) for report in site.untold.values() if report is not None]
    workers = [Key(ENV_WORKER, index) for index in range(site.config.resources.num_env_workers)]
    for key in (LEARNER, *workers):
        told: Known | None = yield Ask(key, "known", or_none=True)
        known += [told] if told is not None else []
    yield Ask(COORDINATOR, "take_over", (known, masses, site.quiet))


def _take_look(site: Site, index: int, result: Look, events: Events) -> None:
    site.snapshot = result.snapshot or site.snapshot
    now, ready = time.monotonic(), dict(site.ready_at)
    heard = {Key(*part): seconds for part, seconds in result.silent.items()}
    coordinator_at = ready.pop(COORDINATOR, now)  # which is asked once a second itself
    site.silent = site.listener.silent(heard, ready, coordinator_at, now)


def _make_weight_store(site: Site, index: int) -> Built:
    return WeightStoreActor, ()


def _mend_weight_store(role: Role, site: Site, index: int) -> Steps:
    """Pin again what the checkpoint says is still to be evaluated; the learner publishes anew."""
    first = not site.launches[WEIGHT_STORE]
    yield from site.launch(role, index)
    if first and site.checkpoint is not None and "pins.pt" in site.checkpoint.parts:
        states = site.checkpoint.tensors("pins")
        for incarnation, grad_updates, env_steps in site.checkpoint.document("pins"):
            state = {name: value.numpy() for name, value in states[str(env_steps)].items()}
            version = Version(incarnation, grad_updates)
            yield Ask(WEIGHT_STORE, "pin", (version, env_steps, state))
    # A learner that is not there yet publishes as it begins.
    site.tell(LEARNER, "publish_first")


def _take_pins(site: Site, index: int, result: list[int], events: Events) -> None:
    site.pins = result


def _make_shard(site: Site, index: int) -> Built:
    """It loads while it is built: workers find it by name and would fill an empty one."""
    fragment = site.checkpoint.document("replay")[index] if site.checkpoint else None
    shard = wiring.make_shard(site.config, site.specs, index)
    return ShardActor, (shard, site.replay_folder, fragment)


def _mend_shard(role: Role, site: Site, index: int) -> Steps:
    """Draw nothing from the dead one; the new one holds what the last checkpoint kept."""
    key = Key(SHARD, index)
    site.tell(COORDINATOR, "shard_lost", index)
    yield from site.launch(role, index)
    masses = yield Ask(key, "masses")
    yield Ask(COORDINATOR, "set_masses", (index, masses))
    damage = yield Ask(key, "damage")
    kept = (yield Ask(key, "stats"))["rows"]
    # Rows that are known to have been there count once, whatever they were lost by.
    lost = 0 if index in site.rows else damage.lost_rows
    site.faults += wiring.damage_faults(index, damage, lost)
    site.lost[key]["lost_steps"] += max(0, site.rows[index] - kept)
    site.rows[index] = kept


def _take_rows(site: Site, index: int, result: dict[str, int], events: Events) -> None:
    site.rows[index] = result["rows"]


def _make_learner(site: Site, index: int) -> Built:
    threads, incarnation = site.config.resources.learner_threads, site.launches[LEARNER]
    fixed = (site.run_id, site.config, site.spaces, site.placement.device, threads)
    return LearnerActor, (*fixed, incarnation)


def _learner_resources(config: TrainConfig, device: str) -> Resources:
    wanted = config.resources
    gpus = {"GPU": wanted.num_gpus_per_learner} if device == "cuda" else {}
    return {"CPU": wanted.num_cpus_per_learner} | gpus


def _mend_learner(role: Role, site: Site, index: int) -> Steps:
    """Take the batches in flight back; the new one begins at the last checkpoint, or afresh.

    It publishes its weights as it begins, so that workers act with them.
    """
    yield from site.launch(role, index)
    batches = yield Ask(COORDINATOR, "learner_lost", (site.life(LEARNER),))
    state = site.checkpoint.tensors("learner") if site.checkpoint else None
    source = None if site.checkpoint else site.source
    updates = yield Ask(LEARNER, "begin", (state, batches, source))
    site.lost[LEARNER]["lost_updates"] += max(0, site.grad_updates - updates)
    site.grad_updates = updates


def _train(site: Site, index: int) -> Work | None:
    if site.config.run.lockstep:
        return ("train",)
    return None if site.quiet else ("train", TRAIN_SLICE_S, TRAIN_SLICE_S)


def _take_trained(site: Site, index: int, result: TrainStats, events: Events) -> None:
    site.grad_updates = result.grad_updates
    events.trained.append(result)


def _make_env_worker(site: Site, index: int) -> Built:
    life = site.launches[Key(ENV_WORKER, index)]
    return EnvWorkerActor, (site.run_id, site.config, site.spaces, index, life)


def _worker_resources(config: TrainConfig, device: str) -> Resources:
    return {"CPU": config.resources.num_cpus_per_env_worker}


def _mend_env_worker(role: Role, site: Site, index: int) -> Steps:
    """Count the quota it held as consumed; the new one opens new streams."""
    yield from site.launch(role, index)
    key = Key(ENV_WORKER, index)
    lost = yield Ask(COORDINATOR, "worker_lost", (index, site.life(key)))
    site.lost[key]["lost_steps"] += lost


def _collect(site: Site, index: int) -> Work | None:
    return None if site.quiet or index in site.done_workers else ("collect",)


def _take_collected(site: Site, index: int, result: CollectStats, events: Events) -> None:
    events.collected.append(result)
    site.untold[index] = result.untold
    if result.fault:
        events.faults.append(Fault(role="env", index=index, text=result.fault))
    if result.done:
        site.done_workers.add(index)


def _make_evaluator(site: Site, index: int) -> Built:
    return EvaluatorActor, (site.run_id, site.config, site.spaces)


def _evaluate(site: Site, index: int) -> Work | None:
    return ("evaluate", site.pins[0]) if site.pins else None


def _take_evaluated(site: Site, index: int, result: EvalResult | None, events: Events) -> None:
    """None: the weights went with the store that held them."""
    site.pins = [at for at in site.pins if result is not None and at != result.env_steps]
    if result is not None:
        events.evaluated.append(result)


ROLES: tuple[Role, ...] = (
    Role(
        name=COORDINATOR.role,
        make=_make_coordinator,
        take=_take_look,
        pinged="look",
        hang_after_s=lambda config: SILENT_S,
        mend=_mend_coordinator,
    ),
    Role(
        name=WEIGHT_STORE.role,
        make=_make_weight_store,
        take=_take_pins,
        pinged="pins",
        mend=_mend_weight_store,
    ),
    Role(
        name=SHARD,
        make=_make_shard,
        count=lambda config: config.resources.num_shards,
        take=_take_rows,
        pinged="stats",
        mend=_mend_shard,
    ),
    Role(
        name=LEARNER.role,
        make=_make_learner,
        resources=_learner_resources,
        work=_train,
        take=_take_trained,
        hang_after_s=lambda config: COMPILING_S,
        mend=_mend_learner,
    ),
    Role(
        name=ENV_WORKER,
        make=_make_env_worker,
        count=lambda config: config.resources.num_env_workers,
        resources=_worker_resources,
        work=_collect,
        take=_take_collected,
        hang_after_s=lambda config: max(OVERDUE_S, 10 * config.env.step_timeout_s),
        mend=_mend_env_worker,
        remedy="; if an environment ends its process, run it in one of its own:"
        " env.isolated.factory=module:function",
    ),
    Role(
        name=EVALUATOR.role,
        make=_make_evaluator,
        work=_evaluate,
        take=_take_evaluated,
        on_demand=True,
    ),
)
"""In the order in which they are launched; they end in the opposite one, so that nobody waits
for a part that is gone."""


def place_roles(config: TrainConfig, roles: Sequence[Role], room: Room) -> Placement:
    """Fit what all parts reserve into the room there is.

    Raises:
        PlacementError: what is asked for can never be placed.
    """
    device = choose_device(config, room)
    parts = [(role.name, role.count(config), role.resources(config, device)) for role in roles]
    return plan_placement(room, device, parts)
