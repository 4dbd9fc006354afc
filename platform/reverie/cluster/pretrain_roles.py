"""The parts of a run that learns from video, as a table (see `reverie.cluster.role`)."""

from __future__ import annotations

from typing import Any

from reverie import pretrain_wiring as wiring
from reverie.cluster.actors import PretrainLearnerActor
from reverie.cluster.coordinator_actor import SourceActor
from reverie.cluster.fleet import Ask, Steps
from reverie.cluster.light_actors import VideoLoaderActor
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
from reverie.settings import PretrainConfig
from reverie.wiring import Events

PretrainSite = Site[PretrainConfig]
PretrainRole = Role[PretrainConfig]
LOADER = "video_loader"


def _make_source(site: PretrainSite, index: int) -> Built:
    source = wiring.make_source(site.config, site.specs)
    if site.checkpoint is not None:
        source.load_state_dict(site.checkpoint.document("coordinator"))
    return SourceActor, (source, site.launches[COORDINATOR])


def _mend_source(role: PretrainRole, site: PretrainSite, index: int) -> Steps:
    """The new one learns from the learner where the dead one was."""
    yield from site.launch(role, index)
    if not site.life(COORDINATOR):
        return
    told: Known | None = yield Ask(LEARNER, "known", or_none=True)
    known = [Known(snapshot=site.snapshot), *([told] if told is not None else [])]
    yield Ask(COORDINATOR, "take_over", (known, {}, site.quiet))


def _make_loader(site: PretrainSite, index: int) -> Built:
    arguments, numbers = wiring.loader_parts(site.config, site.specs, index)
    return VideoLoaderActor, (*arguments, *numbers.values())


def _loader_resources(config: PretrainConfig, device: str) -> Resources:
    return {"CPU": config.resources.num_cpus_per_loader}


def _take_nothing(site: PretrainSite, index: int, result: Any, events: Events) -> None:
    """A loader that answers lives; there is nothing else to know."""


def _make_learner(site: PretrainSite, index: int) -> Built:
    threads, incarnation = site.config.resources.learner_threads, site.launches[LEARNER]
    fixed = (site.run_id, site.config, site.spaces, site.placement.device, threads)
    return PretrainLearnerActor, (*fixed, incarnation)


def _mend_learner(role: PretrainRole, site: PretrainSite, index: int) -> Steps:
    """The new one begins at the last checkpoint, or afresh, and so does the source: what the dead
    one had trained since is trained again, on the same frames.
    """
    yield from site.launch(role, index)
    yield Ask(COORDINATOR, "learner_lost", (site.life(LEARNER),))
    state = site.checkpoint.tensors("learner") if site.checkpoint else None
    source = None if site.checkpoint else site.source
    batches = 0 if state is None else int(state["batches"])
    updates = yield Ask(LEARNER, "begin", (state, batches, source))
    yield Ask(COORDINATOR, "rewind", (batches,))
    site.lost[LEARNER]["lost_updates"] += max(0, site.grad_updates - updates)
    site.grad_updates = updates


def _train(site: PretrainSite, index: int) -> Work | None:
    return None if site.quiet else ("train", TRAIN_SLICE_S, TRAIN_SLICE_S)


ROLES: tuple[PretrainRole, ...] = (
    Role(
        name=COORDINATOR.role,
        make=_make_source,
        take=take_look,
        pinged="look",
        hang_after_s=lambda config: SILENT_S,
        mend=_mend_source,
    ),
    Role(
        name=LOADER,
        make=_make_loader,
        count=lambda config: config.resources.num_loaders,
        resources=_loader_resources,
        take=_take_nothing,
        pinged="stats",
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
)
"""In the order in which they are launched; they end in the opposite one, so that nobody waits for a
part that is gone."""
