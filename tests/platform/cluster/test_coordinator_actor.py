"""What is granted belongs to one life of a part, and outlives the coordinator that granted it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reverie.cluster.coordinator_actor import CoordinatorActor
from reverie.cluster.takeover import Known
from reverie.links import Report
from reverie.protocols import StreamSpec
from reverie.replay.coordinator import Quota, ReplayCoordinator

CHUNK, PREFILL, BUDGET = 8, 8, 1000
MASSES = {0: {"replay": 100.0}}


def make(life: int = 0) -> CoordinatorActor:
    return CoordinatorActor(
        ReplayCoordinator(
            {"replay": StreamSpec(4, 8)},
            ratio=4,
            prefill=PREFILL,
            pretrain_batches=0,
            budget=BUDGET,
            steps_ahead=CHUNK,
            envs_per_worker=1,
            num_workers=1,
            num_shards=1,
        ),
        life,
    )


async def request(actor: CoordinatorActor, number: int, life: int = 0) -> Quota:
    told = await actor.request_steps(life, 0, number, CHUNK)
    assert told is not None
    return told.value


async def fill(actor: CoordinatorActor) -> int:
    """Collect until the worker has to wait for training; returns the number of quotas."""
    count = 0
    while (quota := await request(actor, count)).steps:
        await actor.report(Report(0, 0, count, quota.steps, 0, MASSES, False))
        count += 1
    return count


async def train(actor: CoordinatorActor, life: int = 0) -> int:
    """Train what is due; returns the number of batches."""
    count = 0
    while (grant := (await actor.request_batch(life, count, count)).value) is not None:
        assert grant.number == count
        count += 1
        await actor.trained_up_to(life, count)
    return count


async def a_request_of_a_dead_worker_is_void() -> None:
    actor = make()
    filled = await fill(actor)
    waiting = asyncio.create_task(request(actor, filled))
    await asyncio.sleep(0.05)  # the worker waits, and is killed
    assert await actor.worker_lost(0, life=1) == 0
    assert await train(actor)
    assert (await waiting).steps == 0
    assert await actor.outstanding() == 0
    assert (await request(actor, 0, life=1)).steps == CHUNK


async def a_report_of_a_dead_worker_leaves_the_next_ones_quota_alone() -> None:
    actor = make()
    held = await request(actor, 0)
    assert await actor.worker_lost(0, life=1) == held.steps
    assert (await request(actor, 0, life=1)).steps == CHUNK
    await actor.report(Report(0, 0, 0, held.steps, 1, MASSES, False))
    assert await actor.outstanding() == CHUNK
    await actor.report(Report(1, 0, 0, CHUNK, 0, MASSES, False))
    assert (await actor.counters()).env_steps == held.steps + CHUNK


async def a_dead_learner_is_granted_nothing_and_confirms_nothing() -> None:
    actor = make()
    await fill(actor)
    assert (await actor.request_batch(0, 0, None)).value is not None
    assert await actor.learner_lost(life=1) == 0
    assert (await actor.request_batch(0, 0, 1)).value is None
    grant = (await actor.request_batch(1, 0, None)).value
    await actor.trained_up_to(0, grant.number + 1)
    await actor.refund(0, 0, 0)
    facts = await actor.facts()
    assert (facts["in_flight"], facts["trained_steps"]) == (1, 0)


async def a_repeated_call_changes_nothing() -> None:
    actor = make()
    first, again = await request(actor, 0), await request(actor, 0)
    assert first == again
    for _ in range(2):
        await actor.report(Report(0, 0, 0, first.steps, 1, MASSES, False))
    assert (await actor.counters()).env_steps == first.steps
    assert (await actor.facts())["late_reports"] == 0


async def nothing_is_granted_before_the_living_were_heard() -> None:
    actor = make(life=1)
    assert await actor.request_steps(0, 0, 0, CHUNK) is None
    assert await actor.report(Report(0, 0, 0, CHUNK, 0, MASSES, False)) is None
    assert await actor.request_batch(0, 0, None) is None
    assert (await actor.look()).snapshot is None
    await actor.take_over([], {}, False)
    assert (await request(actor, 0)).steps == PREFILL


async def what_the_living_know_is_counted_once() -> None:
    """Also what the dead one did not answer: a quota, a report, confirmations, a batch."""
    dead = make()
    filled = await fill(dead)
    learner = (await dead.request_batch(0, 0, None)).snapshot
    await dead.trained_up_to(0, 1)
    assert (await dead.request_batch(0, 1, 1)).value is not None  # granted, and never heard of
    worker = await dead.request_steps(0, 0, filled, CHUNK)
    assert worker.value.steps == CHUNK
    before = await dead.facts()

    actor = make(life=1)
    report = Report(0, 0, filled, CHUNK, 1, {}, False)
    known = [
        Known(report=report),  # as the supervisor heard of it from the worker's last result
        Known(snapshot=learner, trained=(0, 1)),
        Known(snapshot=worker.snapshot, report=report),
    ]
    await actor.take_over(known, MASSES, False)
    facts = await actor.facts()
    assert facts["env_steps"] == before["env_steps"] + CHUNK
    assert facts["trained_batches"] == 1
    assert (facts["outstanding"], facts["late_reports"], facts["in_flight"]) == (0, 0, 1)
    await actor.report(report)  # told again by the worker itself
    assert (await actor.facts())["env_steps"] == facts["env_steps"]
    # The unheard batch is granted again, from the masses of the shards that live.
    grant = (await actor.request_batch(0, 1, 1)).value
    assert (grant.number, grant.draws) == (1, {"replay": [4]})


async def confirmations_that_nobody_heard_are_counted() -> None:
    dead = make()
    await fill(dead)
    learner = (await dead.request_batch(0, 0, None)).snapshot
    actor = make(life=1)
    await actor.take_over([Known(snapshot=learner, trained=(0, 1))], {}, False)
    assert (await actor.facts())["trained_batches"] == 1


async def what_a_worker_held_that_died_with_the_coordinator_is_lost_once() -> None:
    dead = make()
    told = await dead.request_steps(0, 0, 0, CHUNK)
    actor = make(life=1)
    await actor.take_over([Known(snapshot=told.snapshot)], {}, False)
    assert (await request(actor, 0, life=1)).steps == CHUNK  # before the supervisor's own word
    assert await actor.worker_lost(0, life=1) == 0
    facts = await actor.facts()
    assert (facts["lost_steps"], facts["outstanding"]) == (told.value.steps, CHUNK)


async def a_run_at_rest_stays_so_with_another_coordinator() -> None:
    actor = make(life=1)
    await actor.take_over([], {}, True)
    assert (await request(actor, 0)).steps == 0
    await actor.unpause()
    assert (await request(actor, 0)).steps == PREFILL


async def no_stream_is_opened_twice() -> None:
    saved = make()._plain.state_dict()
    told = await make().request_steps(0, 0, 0, CHUNK)
    tickets = []
    for life in range(3):
        actor = make()
        actor._plain.load_state_dict(saved)
        actor = CoordinatorActor(actor._plain, life)
        tickets += [await actor.open_stream(0, 0) for _ in range(3)]
        await actor.take_over([Known(snapshot=told.snapshot)], {}, False)
        tickets.append(await actor.open_stream(0, 0))
        if life == 1:
            saved = await actor.state_dict()
    assert len({ticket.number for ticket in tickets}) == len(tickets)
    assert len({ticket.stream for ticket in tickets}) == len(tickets)
    assert max(ticket.number for ticket in tickets) < 1 << 31


async def a_look_says_of_whom_a_sign_of_life_came() -> None:
    actor = make()
    assert not (await actor.look()).silent
    await actor.beat("learner", 0)
    assert (await actor.look()).silent.keys() == {("learner", 0)}


@pytest.mark.ray
@pytest.mark.parametrize(
    "case",
    [
        a_request_of_a_dead_worker_is_void,
        a_report_of_a_dead_worker_leaves_the_next_ones_quota_alone,
        a_dead_learner_is_granted_nothing_and_confirms_nothing,
        a_repeated_call_changes_nothing,
        nothing_is_granted_before_the_living_were_heard,
        what_the_living_know_is_counted_once,
        confirmations_that_nobody_heard_are_counted,
        what_a_worker_held_that_died_with_the_coordinator_is_lost_once,
        a_run_at_rest_stays_so_with_another_coordinator,
        no_stream_is_opened_twice,
        a_look_says_of_whom_a_sign_of_life_came,
    ],
)
def test_grants(case: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(case())
