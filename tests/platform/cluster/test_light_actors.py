"""What is granted belongs to one life of a part: a dead caller's calls change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reverie.cluster.light_actors import CoordinatorActor
from reverie.protocols import StreamSpec
from reverie.replay.coordinator import ReplayCoordinator

CHUNK, PREFILL, BUDGET = 8, 8, 1000
MASSES = {0: {"replay": 100.0}}


def make() -> CoordinatorActor:
    return CoordinatorActor(
        ReplayCoordinator(
            {"replay": StreamSpec(4, 8)},
            ratio=4,
            prefill=PREFILL,
            pretrain_batches=0,
            budget=BUDGET,
            chunk_length=CHUNK,
            envs_per_worker=1,
            num_workers=1,
            num_shards=1,
        )
    )


async def fill(actor: CoordinatorActor) -> None:
    """Collect until the worker has to wait for training."""
    while (quota := await actor.request_steps(0, 0, CHUNK)).steps:
        await actor.report(0, 0, quota.steps, 0, MASSES)


async def train(actor: CoordinatorActor, life: int = 0) -> int:
    """Train what is due; returns the number of batches."""
    count = 0
    while (grant := await actor.request_batch(life)) is not None:
        await actor.trained_up_to(life, grant.number + 1)
        count += 1
    return count


async def a_request_of_a_dead_worker_is_void() -> None:
    actor = make()
    await fill(actor)
    waiting = asyncio.create_task(actor.request_steps(0, 0, CHUNK))
    await asyncio.sleep(0.05)  # the worker waits, and is killed
    assert await actor.worker_lost(0, life=1) == 0
    assert await train(actor)
    assert (await waiting).steps == 0
    assert await actor.outstanding() == 0
    assert (await actor.request_steps(1, 0, CHUNK)).steps == CHUNK


async def a_report_of_a_dead_worker_leaves_the_next_ones_quota_alone() -> None:
    actor = make()
    held = await actor.request_steps(0, 0, CHUNK)
    assert await actor.worker_lost(0, life=1) == held.steps
    assert (await actor.request_steps(1, 0, CHUNK)).steps == CHUNK
    await actor.report(0, 0, held.steps, 1, MASSES)
    assert await actor.outstanding() == CHUNK
    await actor.report(1, 0, CHUNK, 0, MASSES)
    assert (await actor.counters()).env_steps == held.steps + CHUNK


async def a_dead_learner_is_granted_nothing_and_confirms_nothing() -> None:
    actor = make()
    await fill(actor)
    assert (await actor.request_batch(0)) is not None
    assert await actor.learner_lost(life=1) == 0
    assert await actor.request_batch(0) is None
    grant = await actor.request_batch(1)
    await actor.trained_up_to(0, grant.number + 1)
    await actor.refund(0, 1)
    facts = await actor.facts()
    assert (facts["in_flight"], facts["trained_steps"]) == (1, 0)


@pytest.mark.ray
@pytest.mark.parametrize(
    "case",
    [
        a_request_of_a_dead_worker_is_void,
        a_report_of_a_dead_worker_leaves_the_next_ones_quota_alone,
        a_dead_learner_is_granted_nothing_and_confirms_nothing,
    ],
)
def test_what_is_granted_belongs_to_one_life(case: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(case())
