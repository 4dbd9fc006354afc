"""Grants follow the limiter and the masses; what a run has used up survives a restart."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from reverie.errors import DocumentError
from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import Grant, ReplayCoordinator, StreamTicket
from reverie.replay.shard import ReplayShard
from reverie.types import Counters, StreamId

SPECS = {"main": StreamSpec(4, 8), "rare": StreamSpec(6, 2, every=3)}


def coordinator(specs=SPECS, ratio=4.0, prefill=16, pretrain=0, budget=200, **changes):
    names = {"steps_ahead": 8, "envs_per_worker": 3, "num_workers": 2, "num_shards": 2}
    names |= {"ratio": ratio, "prefill": prefill, "pretrain_batches": pretrain, "budget": budget}
    return ReplayCoordinator(specs, **(names | changes))


def full(value=10.0):
    return {"main": value, "rare": value}


def prefilled(**changes):
    one = coordinator(**changes)
    while one.counters().env_steps < 48:
        quota = one.request_steps(0, 16)
        one.report(0, quota.steps, 1, {0: full(), 1: full()})
    return one


def test_streams_go_round_the_shards_and_keep_theirs_after_a_restart():
    one = coordinator()
    tickets = [one.open_stream(worker, env) for worker in range(2) for env in range(3)]
    assert [t.shard for t in tickets] == [0, 1, 0, 1, 0, 1]
    assert [t.number for t in tickets] == list(range(6))
    assert one.open_stream(1, 0) == StreamTicket(StreamId(1, 0, 1), 6, 1)


def test_incarnations_and_counts_survive_a_checkpoint():
    one = prefilled()
    one.open_stream(1, 0)
    grant = one.request_batch()
    one.batch_trained(grant.number)
    one.request_batch()
    one.request_steps(1, 8)
    two = coordinator()
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.counters() == one.counters()
    assert two.outstanding() == 0
    assert two.open_stream(1, 0) == StreamTicket(StreamId(1, 0, 1), 1, 1)
    assert two.request_batch() is None, "masses are the shards' to tell"
    two.set_masses(0, full())
    assert two.request_batch().number == 1


def test_a_state_that_lacks_something_is_refused():
    state = coordinator().state_dict()
    with pytest.raises(DocumentError, match=r"coordinator\.episodes: .*got 'many'"):
        coordinator().load_state_dict(state | {"episodes": "many"})


def test_quotas_say_random_done_and_wait():
    one = coordinator(budget=40)
    first = one.request_steps(0, 10)
    assert (first.steps, first.random, first.done) == (10, True, False)
    assert one.request_steps(1, 10).steps == 6
    assert one.request_steps(2, 10).random is False
    one.worker_lost(0)
    one.report(1, 6, 0, {0: full()})
    one.report(2, 10, 0, {})
    assert one.request_steps(0, 50).steps == 14
    assert one.request_steps(1, 1).done is False, "worker 0 may still give steps back"
    one.report(0, 14, 0, {})
    last = one.request_steps(1, 1)
    assert (last.steps, last.done) == (0, True)
    assert last.counters.env_steps == 40
    assert one.facts()["lost_steps"] == 10


def test_pause_holds_quotas_back_and_keeps_training():
    one = prefilled()
    one.pause()
    assert one.request_steps(0, 8).steps == 0
    assert one.request_batch() is not None
    one.unpause()
    assert one.request_steps(0, 8).steps > 0


def test_counters_of_a_grant_count_the_batches_before_it():
    one = prefilled(action_repeat=4)
    grants = [one.request_batch() for _ in range(2)]
    assert [g.number for g in grants] == [0, 1]
    counters = Counters(env_steps=48, env_frames=192, episodes=3)
    later = dataclasses.replace(counters, trained_steps=32, grad_updates=1)
    assert grants[1].counters == later
    assert one.counters() == counters
    one.batch_trained(0)
    assert one.counters() == later


def test_only_due_streams_are_drawn_and_numbers_come_again_after_a_refund():
    one = prefilled()
    grants = [one.request_batch() for _ in range(4)]
    assert [list(g.draws) for g in grants] == [
        ["main", "rare"],
        ["main"],
        ["main"],
        ["main", "rare"],
    ]
    assert [sum(grants[0].draws[name]) for name in SPECS] == [4, 6]
    one.batch_trained(0)
    assert one.learner_lost() == 1
    again = [one.request_batch() for _ in range(3)]
    assert [(g.number, g.draws) for g in again] == [(g.number, g.draws) for g in grants[1:]]


def test_a_batch_waits_for_mass_in_every_due_stream():
    one = prefilled()
    one.set_masses(0, {"main": 5.0, "rare": 0.0})
    one.shard_lost(1)
    assert one.request_batch() is None
    one.set_masses(1, {"main": 0.0, "rare": 2.0})
    assert one.request_batch().draws == {"main": [4, 0], "rare": [0, 6]}
    one.shard_lost(1)
    assert [one.request_batch().number for _ in range(2)] == [1, 2]
    assert one.request_batch() is None


def test_a_lost_shard_lets_workers_go_on_uncounted():
    one = prefilled()
    for shard in range(2):
        one.shard_lost(shard)
    for _ in range(5):
        one.report(0, one.request_steps(0, 16).steps, 0, {})
    assert one.facts()["uncounted_steps"] == 80
    assert one.facts()["target_lag"] == 4.0 * (48 - 16)


def test_the_run_stalls_rather_than_ends_when_the_last_rows_are_gone():
    one = prefilled(budget=48)
    assert not one.finished()
    for shard in range(2):
        one.shard_lost(shard)
    assert one.stalled()
    assert not one.finished()
    one.set_masses(0, full())
    assert not one.stalled()
    while grant := one.request_batch():
        assert not one.finished()
        one.batch_trained(grant.number)
    assert one.finished()


def test_a_late_report_changes_masses_only():
    one = coordinator()
    one.request_steps(0, 4)
    one.worker_lost(0)
    one.report(0, 4, 2, {0: full()})
    assert (one.counters().env_steps, one.counters().episodes) == (4, 0)
    assert one.facts()["late_reports"] == 1


def test_a_first_stream_that_skips_updates_is_refused():
    with pytest.raises(ValueError, match="every=1"):
        coordinator({"rare": SPECS["rare"]})


@pytest.mark.parametrize("num_shards", [1, 3])
def test_the_union_of_unequal_shards_is_drawn_from_as_one_store(num_shards):
    specs = {"main": StreamSpec(50, 4)}
    one = coordinator(specs, ratio=10_000.0, prefill=1, num_shards=num_shards)
    shards = [ReplayShard(i, specs, 1000, seed=4) for i in range(num_shards)]
    starts = []
    for env, length in enumerate([5, 30, 4, 9, 3, 14]):
        ticket = one.open_stream(env // 3, env % 3)
        flags = np.zeros(length, bool)
        rows = {"is_first": flags, "is_last": flags, "is_terminal": flags}
        chunk = make_chunk(ticket.stream, ticket.number, 0, 0, rows)
        one.set_masses(ticket.shard, shards[ticket.shard].insert([chunk]))
        starts += [(ticket.number, row) for row in range(length - 3)]
    one.report(0, one.request_steps(0, 1).steps, 0, {})
    one.report(0, one.request_steps(0, 8).steps, 0, {})
    counts = Counter()
    for number in range(160):
        grant = one.request_batch()
        for shard, count in enumerate(grant.draws["main"]):
            for window in shards[shard].sample("main", count, number, number):
                counts[window[0].number, window[0].start_row] += 1
        one.batch_trained(number)
    assert set(counts) <= set(starts)
    assert stats.chisquare([counts[start] for start in starts]).pvalue > 1e-3


def test_a_whole_run_with_faults_keeps_the_bound_and_ends():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        one = coordinator(prefill=5, pretrain=2, budget=400)
        held, flying, fed = {}, [], 0
        for _ in range(20_000):
            worker, kind = int(rng.integers(2)), rng.random()
            if kind < 0.3 and worker not in held:
                held[worker] = one.request_steps(worker, 24).steps
                held = {w: steps for w, steps in held.items() if steps}
            elif kind < 0.6 and worker in held:
                steps = held.pop(worker)
                fed += steps
                one.report(worker, steps, 0, {worker: full(max(0.0, fed - 8.0))})
            elif kind < 0.8 and (grant := one.request_batch()):
                flying.append(grant.number)
            elif kind < 0.95 and flying:
                one.batch_trained(flying.pop(0))
            elif kind < 0.96:
                one.worker_lost(worker)
                held.pop(worker, None)
            elif kind < 0.97:
                one.learner_lost()
                flying.clear()
            elif kind < 0.975:
                one.shard_lost(worker)
            elif kind < 0.99:
                one.set_masses(worker, full(max(0.0, fed - 8.0)))
            facts = one.facts()
            owed = max(0, 2 * 32 - facts["trained_steps"])
            assert 0 <= facts["target_lag"] <= 4 * 8 * 6 + (len(flying) + 1) * 32 + owed
            if one.finished():
                break
        assert one.finished()
        assert one.counters().env_steps == 400
        assert facts["target_lag"] < 32


def test_a_grant_tells_which_slots_of_the_batch_each_shard_fills():
    grant = Grant(number=3, counters=Counters(), draws={"main": [3, 0, 4]})
    assert grant.parts("main", range(7)) == [(0, range(3), 3), (2, range(4), 4)]
    assert grant.parts("main", range(2, 5)) == [(0, range(2, 3), 3), (2, range(2), 4)]
    assert grant.parts("main", range(4, 6)) == [(2, range(1, 3), 4)]
