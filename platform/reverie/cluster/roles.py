"""The parts of a training run as a table; `reverie.cluster.role` says what a row is."""

from __future__ import annotations

from reverie import wiring
from reverie.cluster.actors import EnvWorkerActor, EvaluatorActor, LearnerActor
from reverie.cluster.coordinator_actor import CoordinatorActor
from reverie.cluster.fleet import Ask, Key, Steps
from reverie.cluster.light_actors import ShardActor, WeightStoreActor
from reverie.cluster.placement import Resources
from reverie.cluster.role import (
    COMPILING_S,
    COORDINATOR,
    LEARNER,
    SILENT_S,
    TRAIN_SLICE_S,
    Built,
    Role,
    Site,
    Work,
    learner_resources,
    take_look,
    take_trained,
)
from reverie.cluster.takeover import Known
from reverie.config import TrainConfig
from reverie.env_worker import CollectStats
from reverie.evaluator import EvalResult
from reverie.types import Version
from reverie.wiring import Events, Fault

TrainSite = Site[TrainConfig]
TrainRole = Role[TrainConfig]
WEIGHT_STORE = Key("weight_store", 0)
EVALUATOR = Key("evaluator", 0)
SHARD, ENV_WORKER = "replay_shard", "env_worker"
OVERDUE_S = 300.0
"""Seconds a worker may hold a piece of work before it counts as hung, at least."""


def _make_coordinator(site: TrainSite, index: int) -> Built:
    coordinator = wiring.make_coordinator(site.config, site.specs)
    if site.checkpoint is not None:
        coordinator.load_state_dict(site.checkpoint.document("coordinator"))
    return CoordinatorActor, (coordinator, site.launches[COORDINATOR])


def _mend_coordinator(role: TrainRole, site: TrainSite, index: int) -> Steps:
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


def _make_weight_store(site: TrainSite, index: int) -> Built:
    return WeightStoreActor, ()


def _mend_weight_store(role: TrainRole, site: TrainSite, index: int) -> Steps:
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


def _take_pins(site: TrainSite, index: int, result: list[int], events: Events) -> None:
    site.pins = result


def _make_shard(site: TrainSite, index: int) -> Built:
    """It loads while it is built: workers find it by name and would fill an empty one."""
    fragment = site.checkpoint.document("replay")[index] if site.checkpoint else None
    shard = wiring.make_shard(site.config, site.specs, index)
    return ShardActor, (shard, site.replay_folder, fragment)


def _mend_shard(role: TrainRole, site: TrainSite, index: int) -> Steps:
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


def _take_rows(site: TrainSite, index: int, result: dict[str, int], events: Events) -> None:
    site.rows[index] = result["rows"]


def _make_learner(site: TrainSite, index: int) -> Built:
    threads, incarnation = site.config.resources.learner_threads, site.launches[LEARNER]
    fixed = (site.run_id, site.config, site.spaces, site.placement.device, threads)
    return LearnerActor, (*fixed, incarnation)


def _mend_learner(role: TrainRole, site: TrainSite, index: int) -> Steps:
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


def _train(site: TrainSite, index: int) -> Work | None:
    if site.config.run.lockstep:
        return ("train",)
    return None if site.quiet else ("train", TRAIN_SLICE_S, TRAIN_SLICE_S)


def _make_env_worker(site: TrainSite, index: int) -> Built:
    life = site.launches[Key(ENV_WORKER, index)]
    return EnvWorkerActor, (site.run_id, site.config, site.spaces, index, life)


def _worker_resources(config: TrainConfig, device: str) -> Resources:
    return {"CPU": config.resources.num_cpus_per_env_worker}


def _mend_env_worker(role: TrainRole, site: TrainSite, index: int) -> Steps:
    """Count the quota it held as consumed; the new one opens new streams."""
    yield from site.launch(role, index)
    key = Key(ENV_WORKER, index)
    lost = yield Ask(COORDINATOR, "worker_lost", (index, site.life(key)))
    site.lost[key]["lost_steps"] += lost


def _collect(site: TrainSite, index: int) -> Work | None:
    return None if site.quiet or index in site.done_workers else ("collect",)


def _take_collected(site: TrainSite, index: int, result: CollectStats, events: Events) -> None:
    events.collected.append(result)
    site.untold[index] = result.untold
    if result.fault:
        events.faults.append(Fault(role="env", index=index, text=result.fault))
    if result.done:
        site.done_workers.add(index)


def _make_evaluator(site: TrainSite, index: int) -> Built:
    return EvaluatorActor, (site.run_id, site.config, site.spaces)


def _evaluate(site: TrainSite, index: int) -> Work | None:
    return ("evaluate", site.pins[0]) if site.pins else None


def _take_evaluated(site: TrainSite, index: int, result: EvalResult | None, events: Events) -> None:
    """None: the weights went with the store that held them."""
    site.pins = [at for at in site.pins if result is not None and at != result.env_steps]
    if result is not None:
        events.evaluated.append(result)


ROLES: tuple[TrainRole, ...] = (
    Role(
        name=COORDINATOR.role,
        make=_make_coordinator,
        take=take_look,
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
        resources=learner_resources,
        work=_train,
        take=take_trained,
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
