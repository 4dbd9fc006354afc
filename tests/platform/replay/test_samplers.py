"""Every window start is as likely as the sampler promises, whatever came and went before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.samplers import make_sampler
from reverie.replay.store import ChunkStore
from reverie.types import StreamId


def spec(length=4, sampler="uniform", **options):
    return StreamSpec(batch_size=1, batch_length=length, sampler=sampler, **options)


def chunk(number, sequence, start, is_last, worker=0, incarnation=0, begins=True):
    is_last = np.asarray(is_last, bool)
    is_first = np.concatenate([[begins], is_last[:-1]])
    rows = {"is_first": is_first, "is_last": is_last, "is_terminal": is_last & False}
    return make_chunk(StreamId(worker, 0, incarnation), number, sequence, start, rows)


def build(the_spec, capacity=10**6, evict="chunks"):
    sampler = make_sampler(the_spec)
    return sampler, ChunkStore(capacity, evict=evict, listeners=[sampler])


def fill(store, number, lengths, **names):
    """Insert one chunk per length; every chunk ends an episode."""
    start = 0
    for sequence, length in enumerate(lengths):
        store.insert(chunk(number, sequence, start, np.arange(length) == length - 1, **names))
        start += length


def names(draws):
    return [(segment.number, row) for segment, row in draws]


def assert_uniform(draws, outcomes):
    counts = Counter(draws)
    assert set(counts) <= set(outcomes)
    assert stats.chisquare([counts[one] for one in outcomes]).pvalue > 1e-3


def test_uniform_draws_every_window_start_alike_over_streams_restarts_and_gaps():
    sampler, store = build(spec(4))
    fill(store, 0, [5, 5, 5])
    fill(store, 1, [4], incarnation=1)
    fill(store, 2, [3], worker=1)
    for sequence, start in [(0, 0), (2, 20)]:
        store.insert(chunk(3, sequence, start, np.zeros(7), worker=2))
    outcomes = [(0, r) for r in range(12)] + [(1, 0)]
    outcomes += [(3, r) for r in [0, 1, 2, 3, 20, 21, 22, 23]]
    assert sampler.mass() == len(outcomes)
    assert_uniform(names(sampler.sample(np.random.default_rng(3), 8000)), outcomes)


def window_starts(store, length):
    found = []
    for number, state in sorted(store.streams.items()):
        for segment in state.segments:
            stop = segment.stop_row - length + 1
            found += [(number, row) for row in range(segment.start_row, stop)]
    return found


@pytest.mark.parametrize("evict", ["chunks", "episodes"])
def test_incremental_masses_equal_a_full_scan(evict):
    rng = np.random.default_rng(11)
    uniform, episodes = make_sampler(spec(5)), make_sampler(spec(5, "episodes"))
    store = ChunkStore(120, evict=evict, listeners=[uniform, episodes])
    sequences, rows, begins = Counter(), Counter(), dict.fromkeys(range(6), True)
    for _ in range(300):
        number = int(rng.integers(6))
        sequences[number] += 1 + (rng.random() < 0.1)
        gap = 3 * (rng.random() < 0.1)
        flags = rng.random(int(rng.integers(1, 9))) < 0.15
        one = chunk(number, sequences[number], rows[number] + gap, flags, number, 0, begins[number])
        store.insert(one)
        rows[number], begins[number] = one.stop_row, bool(flags[-1])
        starts = window_starts(store, 5)
        assert uniform.mass() == len(starts)
        assert episodes.mass() == len(eligible_episodes(store, 5))
    draws = uniform.sample(rng, 50 * len(starts))
    assert_uniform(names(draws), starts)


def eligible_episodes(store, length):
    """Episodes of at least `length` rows, found from the flags of all rows still stored."""
    found = []
    for state in store.streams.values():
        for segment in state.segments:
            first = last = np.zeros(0, bool)
            for piece in store.window(segment, segment.start_row, segment.num_rows):
                first = np.append(first, piece.data["is_first"])
                last = np.append(last, piece.data["is_last"])
            begin = None
            for row, (is_first, is_last) in enumerate(zip(first, last, strict=True)):
                begin = row if is_first else begin
                if is_last and begin is not None:
                    found += [begin] * (row + 1 - begin >= length)
                    begin = None
    return found


def test_ends_of_episodes_are_prioritised_as_dreamer_v2_does():
    sampler, store = build(spec(50, "episodes", prioritize_ends=True), evict="episodes")
    fill(store, 0, [501])
    starts = [row for _, row in names(sampler.sample(np.random.default_rng(0), 40_000))]
    share = np.mean(np.array(starts) == 451)
    assert abs(share - 51 / 502) < 4 * np.sqrt(51 / 502 / 40_000)
    assert set(starts) == set(range(452))


def test_episodes_are_drawn_alike_and_short_or_unfinished_ones_never():
    sampler, store = build(spec(4, "episodes"), evict="episodes")
    fill(store, 0, [4, 3, 40])
    store.insert(chunk(0, 3, 47, np.zeros(30)))
    fill(store, 1, [6], worker=1)
    assert sampler.mass() == 3
    draws = names(sampler.sample(np.random.default_rng(0), 6000))
    episodes = [(n, min(row, 7)) if n == 0 else (n, 0) for n, row in draws]
    assert_uniform(episodes, [(0, 0), (0, 7), (1, 0)])
    assert {row for n, row in draws if n == 1} == {0, 1, 2}


def test_context_rows_belong_to_the_window():
    sampler, store = build(spec(4, context=2))
    fill(store, 0, [7])
    assert sampler.mass() == 2


def test_freshest_serves_each_new_window_once_and_then_any():
    sampler, store = build(spec(4, "freshest"))
    rng = np.random.default_rng(0)
    fill(store, 0, [6, 3])
    fill(store, 1, [4], worker=1)
    assert sampler.mass() == 6 + 1
    assert names(sampler.sample(rng, 2, 0, 0)) == [(0, 0), (0, 4)]
    draws = names(sampler.sample(rng, 500, 1, 1))
    assert draws[0] == (1, 0)
    assert set(draws) == {(0, row) for row in range(6)} | {(1, 0)}
    store.insert(chunk(0, 2, 9, np.zeros(4)))
    assert names(sampler.sample(rng, 1, 2, 2)) == [(0, 8)]


def test_untrained_fresh_windows_come_first_again():
    sampler, store = build(spec(4, "freshest"))
    rng = np.random.default_rng(0)
    fill(store, 0, [24])
    drawn = [names(sampler.sample(rng, 2, number, 0)) for number in range(2)]
    assert drawn == [[(0, 0), (0, 4)], [(0, 8), (0, 12)]]
    # Batch 0 was trained, batch 1 refunded: its windows are served again before new ones.
    assert names(sampler.sample(rng, 3, 1, 1)) == [(0, 8), (0, 12), (0, 16)]
    assert names(sampler.sample(rng, 1, 2, 2)) == [(0, 20)]
    assert sampler.state_dict() == {"queue": [], "pending": [[2, [[0, 20]]]], "next": [[0, 0, 24]]}


def test_evicted_fresh_windows_are_not_served():
    sampler, store = build(spec(4, "freshest"), capacity=8)
    fill(store, 0, [4, 4, 4])
    assert names(sampler.sample(np.random.default_rng(0), 2)) == [(0, 4), (0, 8)]


def test_an_unknown_sampler_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"uniform.*'newest'"):
        make_sampler(spec(sampler="newest"))
