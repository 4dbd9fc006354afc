"""A shard keeps, draws and saves; a restored one goes on exactly as the saved one would have."""

from __future__ import annotations

import itertools
import json
import zlib

import numpy as np
import pytest

from reverie.errors import DocumentError, ReplayLost
from reverie.protocols import StreamSpec
from reverie.replay.chunk import make_chunk
from reverie.replay.shard import ReplayShard
from reverie.types import StreamId, step_ids

LENGTH = 6


def shard(sampler="uniform", capacity=200, codec="none", shard_id=0, seed=1, length=LENGTH, grow=0):
    specs = {"main": StreamSpec(4, length, sampler=sampler), "rare": StreamSpec(2, 2, every=3)}
    return ReplayShard(shard_id, specs, capacity, codec, seed, grow)


def chunks(seed, count, streams=5):
    """A random history: gaps, episode ends, and a restart of every stream after a third."""
    rng = np.random.default_rng(seed)
    state, made = {}, []
    for at in range(count):
        env = int(rng.integers(streams))
        life = int(at > count // 3)
        sequence, row, ended = state.get((env, life), (0, 0, True))
        sequence, row = (sequence + 1, row + 5) if rng.random() < 0.05 else (sequence, row)
        is_last = rng.random(int(rng.integers(1, 9))) < 0.1
        number = env + streams * life
        rows = {
            "image": rng.integers(0, 255, (len(is_last), 4, 4, 3), np.uint8),
            "action": rng.integers(0, 9, len(is_last)),
            "reward": rng.normal(size=len(is_last)).astype(np.float32),
            "is_first": np.concatenate([[ended], is_last[:-1]]),
            "is_last": is_last,
            "is_terminal": is_last,
        }
        made.append(make_chunk(StreamId(env, 0, life), number, sequence, row, rows))
        state[env, life] = sequence + 1, row + len(is_last), bool(is_last[-1])
    return made


def plain(windows):
    """Windows as comparable values, every byte of them."""
    return [
        [(p.number, p.start_row, {k: v.tobytes() for k, v in p.data.items()}) for p in window]
        for window in windows
    ]


def saved(one, folder):
    """Save, and pass the fragment through JSON as a manifest would."""
    return json.loads(json.dumps(one.save(folder)))


def chunk_files(folder):
    return sorted(path.name for path in folder.glob("*.arrow") if "side" not in path.name)


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("sampler", ["uniform", "freshest", "episodes"])
@pytest.mark.parametrize("grow", [0, 12])
def test_a_restored_shard_goes_on_exactly_as_the_saved_one(tmp_path, sampler, codec, grow):
    one, history = shard(sampler, codec=codec, grow=grow), chunks(5, 220)
    number = 0
    for at, chunk in enumerate(history[:150]):
        one.insert([chunk])
        if at % 5 == 0 and one.masses()["main"]:
            one.sample("main", 3, number, max(0, number - 2))
            number += 1
        if at % 40 == 0:
            one.save(tmp_path)
        if at % 7 == 0:
            ids = step_ids(chunk.number, chunk.start_row, chunk.num_rows)
            one.write_back(ids, {"latent": np.full((len(ids), 2), at, np.float16)})
    two = shard(sampler, codec=codec, grow=grow)
    two.load(tmp_path, saved(one, tmp_path))
    assert one.stats()["evicted"] > 100
    assert two.stats() == one.stats()
    # Batches `number - 1` on were not trained: they are drawn again.
    for at, chunk in enumerate(history[150:]):
        assert two.insert([chunk]) == one.insert([chunk])
        for name in ("main", "rare"):
            draws = [s.sample(name, 3, number - 1 + at, number - 1 + at) for s in (one, two)]
            assert plain(draws[0]) == plain(draws[1])
    assert two.stats() == one.stats()
    assert two.save(tmp_path)["samplers"] == one.save(tmp_path)["samplers"]


def test_a_draw_depends_on_nothing_but_the_batch_number_and_the_names():
    history = chunks(0, 60)
    one, two = shard(), shard()
    one.insert(history)
    two.insert(history)
    one.sample("main", 8, 3, 0)
    assert plain(one.sample("main", 8, 7, 0)) == plain(two.sample("main", 8, 7, 0))
    others = [shard(seed=2), shard(shard_id=1), two]
    for other, number in zip(others, (7, 7, 8), strict=True):
        other.insert(history)
        assert plain(other.sample("main", 8, number, 0)) != plain(one.sample("main", 8, 7, 0))


def test_a_second_save_writes_only_the_new_chunks(tmp_path):
    one, history = shard(capacity=10_000), chunks(0, 40)
    one.insert(history[:30])
    first = saved(one, tmp_path)
    size = (tmp_path / "shard0-000000.arrow").stat().st_size
    one.insert(history[30:])
    second = saved(one, tmp_path)
    assert chunk_files(tmp_path) == ["shard0-000000.arrow", "shard0-000001.arrow"]
    assert [f["name"] for f in second["files"]] == chunk_files(tmp_path)
    assert first["files"] == second["files"][:1]
    assert second["chunks"] == {"shard0-000000.arrow": [[0, 30]], "shard0-000001.arrow": [[0, 10]]}
    assert (tmp_path / "shard0-000001.arrow").stat().st_size < size
    assert saved(one, tmp_path)["files"] == second["files"]


def test_files_without_stored_chunks_are_named_no_longer_and_never_written_over(tmp_path):
    one, history = shard(capacity=40), chunks(0, 60, streams=1)
    one.insert(history[:20])
    old = saved(one, tmp_path)
    one.insert(history[20:])
    new = saved(one, tmp_path)
    assert [f["name"] for f in new["files"]] == ["shard0-000001.arrow"]
    # A shard that goes on from the older state must not touch the newer one's files.
    two = shard(capacity=40)
    two.load(tmp_path, old)
    two.insert(history[20:30])
    assert "shard0-000002.arrow" in two.save(tmp_path)["chunks"]
    three = shard(capacity=40)
    three.load(tmp_path, new)
    assert three.stats() == one.stats()


def test_saving_to_another_folder_writes_everything_anew(tmp_path):
    one = shard()
    one.insert(chunks(0, 20))
    one.save(tmp_path / "a")
    fragment = saved(one, tmp_path / "b")
    two = shard()
    two.load(tmp_path / "b", fragment)
    assert plain(two.sample("main", 4, 0, 0)) == plain(one.sample("main", 4, 0, 0))


def test_the_side_table_is_saved_whole_and_restored(tmp_path):
    one, history = shard(), chunks(0, 20)
    one.insert(history)
    ids = step_ids(history[0].number, history[0].start_row, history[0].num_rows)
    one.save(tmp_path)
    one.write_back(ids, {"latent": np.ones((len(ids), 2), np.float16)})
    fragment = saved(one, tmp_path)
    assert [f["name"] for f in fragment["files"]] == ["shard0-000000.arrow", fragment["side"]]
    two = shard()
    two.load(tmp_path, fragment)
    assert plain(two.sample("main", 20, 0, 0)) == plain(one.sample("main", 20, 0, 0))
    assert two.write_back(ids, {"latent": np.zeros((len(ids), 2), np.float16)}) == 0


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize("sampler", ["uniform", "freshest", "episodes"])
def test_without_a_damaged_file_the_shard_goes_on(tmp_path, sampler, damage):
    one, history = shard(sampler, capacity=10_000), chunks(5, 120)
    number = 0
    for begin in (0, 30, 60):
        one.insert(history[begin : begin + 30])
        fragment = saved(one, tmp_path)
        one.sample("main", 3, number, number)
        number += 1
    fragment = saved(one, tmp_path)
    damage(tmp_path / "shard0-000001.arrow")
    two = shard(sampler, capacity=10_000)
    found = two.load(tmp_path, fragment)
    lost = sum(chunk.num_rows for chunk in history[30:60])
    assert found.lost_rows == lost == one.stats()["rows"] - two.stats()["rows"]
    assert len(found.texts) == 1
    assert "shard0-000001.arrow" in found.texts[0]
    # Every window is one of consecutive rows that are left.
    gone = {(c.number, c.start_row + i) for c in history[30:60] for i in range(c.num_rows)}
    for batch in range(number, number + 40):
        for window in two.sample("main", 8, batch, batch):
            rows = [
                (p.number, p.start_row + i) for p in window for i in range(len(p.data["reward"]))
            ]
            assert rows == [(rows[0][0], rows[0][1] + i) for i in range(LENGTH)]
            assert not gone.intersection(rows)
    # It goes on as any shard, and its next state is whole.
    two.insert(history[90:])
    three = shard(sampler, capacity=10_000)
    assert three.load(tmp_path, saved(two, tmp_path)).texts == []
    assert three.stats() == two.stats()
    draws = [s.sample("main", 8, 99, 99) for s in (two, three)]
    assert plain(draws[0]) == plain(draws[1])


def test_a_damaged_record_is_left_out_alone(tmp_path):
    one, history = shard(capacity=10_000), chunks(0, 20)
    one.insert(history)
    stored = [*one._store]
    stored[7].checksum ^= 1  # as if memory had changed before it was written
    found = shard(capacity=10_000).load(tmp_path, saved(one, tmp_path))
    assert found.lost_rows == history[7].num_rows
    assert "shard0-000000.arrow: record 7" in found.texts[0]


def test_without_its_side_table_a_shard_keeps_its_rows(tmp_path):
    one, history = shard(), chunks(0, 20)
    one.insert(history)
    ids = step_ids(history[0].number, history[0].start_row, 1)
    one.write_back(ids, {"x": np.ones(1)})
    fragment = saved(one, tmp_path)
    flip(tmp_path / "shard0-side-000000.arrow")
    two = shard()
    found = two.load(tmp_path, fragment)
    assert "shard0-side-000000.arrow" in found.texts[0]
    assert found.lost_rows == 0
    assert two.stats()["rows"] == one.stats()["rows"]
    pieces = [piece for window in two.sample("main", 50, 0, 0) for piece in window]
    assert not any(piece.data["side/valid"].any() for piece in pieces)


def test_rows_are_counted_where_the_fragment_does_not_tell_them(tmp_path):
    one = shard(capacity=100)
    one.insert([each for each in chunks(0, 60) if each.number == 0])
    fragment = saved(one, tmp_path)
    del fragment["rows"]
    delete(tmp_path / "shard0-000000.arrow")
    assert shard(capacity=100).load(tmp_path, fragment).lost_rows == one.stats()["rows"]


def test_a_file_outside_the_folder_is_not_read(tmp_path):
    one = shard()
    one.insert(chunks(0, 20))
    text = json.dumps(one.save(tmp_path / "a"))
    (tmp_path / "a/shard0-000000.arrow").rename(tmp_path / "shard0-000000.arrow")
    fragment = json.loads(text.replace("shard0-0", "../shard0-0"))
    found = shard().load(tmp_path / "a", fragment)
    assert found.lost_rows == one.stats()["rows"]
    assert "'../shard0-000000.arrow'" in found.texts[0]


def test_duplicates_are_known_after_a_restart_even_if_they_were_evicted(tmp_path):
    one, history = shard(capacity=40), chunks(0, 60)
    one.insert(history)
    two = shard(capacity=40)
    two.load(tmp_path, saved(one, tmp_path))
    two.insert(history)
    assert two.stats()["duplicates"] == len(history)
    assert two.stats()["rows"] == one.stats()["rows"]


def test_only_an_empty_shard_can_be_loaded(tmp_path):
    one = shard()
    one.insert(chunks(0, 20))
    with pytest.raises(ValueError, match="a new shard"):
        one.load(tmp_path, one.save(tmp_path))


def test_a_fragment_that_lacks_something_is_refused(tmp_path):
    one = shard()
    one.insert(chunks(0, 20))
    fragment = saved(one, tmp_path)
    del fragment["streams"][0]["stop_row"]
    with pytest.raises(DocumentError, match=r"replay fragment\.streams\.0\.stop_row"):
        shard().load(tmp_path, fragment)
    with pytest.raises(ValueError, match="expected format 1, got None"):
        shard().load(tmp_path, {})


def test_a_smaller_capacity_after_a_restart_evicts(tmp_path):
    one = shard()
    one.insert(chunks(0, 40))
    two = shard(capacity=50)
    two.load(tmp_path, saved(one, tmp_path))
    assert 40 < two.stats()["rows"] <= 50


def test_an_empty_shard_saves_loads_and_says_that_it_has_nothing(tmp_path):
    one = shard()
    one.load(tmp_path, saved(shard(), tmp_path))
    assert one.masses() == {"main": 0.0, "rare": 0.0}
    assert one.sample("main", 0, 0, 0) == []
    with pytest.raises(ReplayLost, match=r"'main'.*0 rows"):
        one.sample("main", 1, 0, 0)


def test_a_capacity_below_one_window_is_refused():
    with pytest.raises(ValueError, match=r"replay\.capacity.*'main' \(6 rows\).*got 5"):
        shard(capacity=5)


def test_a_thousand_streams():
    one = shard(capacity=100_000)
    flags = np.zeros(8, bool)
    rows = {"is_first": flags, "is_last": flags, "is_terminal": flags}
    for sequence in range(2):
        for env in range(1024):
            stream = StreamId(env // 8, env % 8, 0)
            one.insert([make_chunk(stream, env, sequence, 8 * sequence, rows)])
    assert one.masses()["main"] == 1024 * (16 - LENGTH + 1)
    windows = one.sample("main", 2000, 0, 0)
    assert len({window[0].number for window in windows}) > 800
    assert all(sum(len(p.data["is_last"]) for p in w) == LENGTH for w in windows)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("sampler", ["uniform", "freshest", "episodes"])
def test_slices_of_a_batch_are_one_draw_whatever_is_inserted_meanwhile(sampler, parts):
    one, two, history = shard(sampler, length=3), shard(sampler, length=3), chunks(3, 160)
    cuts, compared = [12 * at // parts for at in range(parts + 1)], 0
    for at, chunk in enumerate(history):
        one.insert([chunk])
        two.insert([chunk])
        if at < 20 or at % 4:
            continue
        number = at // 4
        whole = two.sample("main", 12, number, number)
        found = []
        for start, stop in itertools.pairwise(cuts):
            found += one.sample("main", 12, number, number, range(start, stop))
            if at + 1 < len(history) and stop < 12:
                # Both shards hold the same rows when the next batch is drawn.
                one.insert([history[at + 1]])
        two.insert(history[at + 1 : at + 2])
        assert plain(found) == plain(whole)
        compared += 1
    assert compared > 30


def test_askers_far_apart_get_their_slices_of_every_batch_and_each_new_window_comes_once():
    one, two = shard("freshest"), shard("freshest")
    for chunk in chunks(4, 60):
        one.insert([chunk])
        two.insert([chunk])
    whole = [plain(two.sample("main", 4, number, 0)) for number in range(5)]
    ahead = [plain(one.sample("main", 4, number, 0, range(1))) for number in range(5)]
    behind = [plain(one.sample("main", 4, number, 0, range(1, 4))) for number in range(5)]
    assert [a + b for a, b in zip(ahead, behind, strict=True)] == whole
    assert one._samplers["main"].state_dict() == two._samplers["main"].state_dict()
    assert not one._open


def test_slots_beyond_the_draw_are_refused():
    one = shard()
    one.insert(chunks(4, 60))
    with pytest.raises(ValueError, match=r"expected slots within 0\.\.4, got range\(2, 5\)"):
        one.sample("main", 4, 0, 0, range(2, 5))


DRAWS = {
    ("uniform", 1): ([1240, 1223, 1147, 1221, 1163, 1237, 1153, 1198], 2110612789),
    ("uniform", 5): ([237, 222, 276, 220, 210, 234, 201, 272], 2647254491),
    ("freshest", 1): ([1139, 1145, 1151, 1157, 1163, 1169, 1175, 1181], 2156843145),
    ("freshest", 5): ([233, 239, 206, 261, 252, 258, 267, 264], 316655657),
    ("episodes", 1): ([1250, 1238, 1146, 1238, 1210, 1252, 1153, 1231], 3692204597),
    ("episodes", 5): ([232, 270, 278, 272, 203, 233, 278, 261], 260116090),
}
"""First rows of two batches' windows and the crc32 of all bytes of three, by (sampler, streams):
noted when segments still kept their chunks in plain lists."""


@pytest.mark.parametrize(("sampler", "streams"), DRAWS)
def test_draws_are_those_ever_drawn_to_the_last_number(sampler, streams):
    one = shard(sampler, capacity=150, seed=2)
    for at, part in enumerate(chunks(4, 400, streams)):
        one.insert([part])
        if at % 40 == 39:
            one.sample("main", 4, at // 40, 0)
    drawn = [one.sample("main", 4, batch, 3) for batch in (20, 21, 27)]
    rows = [window[0].start_row for windows in drawn[:2] for window in windows]
    everything = zlib.crc32(repr([plain(windows) for windows in drawn]).encode())
    assert (rows, everything) == DRAWS[sampler, streams]
