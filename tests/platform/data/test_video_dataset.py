"""A data set, opened: exact frames, copies, and what is wrong with a folder in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reverie.data.index import SHARDS
from reverie.data.shard import ShardReader, ShardWriter
from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError, DocumentError
from tests.platform.data.films import bring_in, names_of, numbered, shown, write_episode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, start in (("a", 0), ("b", 30), ("c", 60)):
        write_episode(tmp_path / f"npz/{name}.npz", range(start, start + 20))
    bring_in(tmp_path / "npz", tmp_path / "data", licence="CC0")
    return tmp_path / "data"


def test_what_a_data_set_says_of_itself(folder: Path) -> None:
    dataset = VideoDataset(folder)
    assert names_of(dataset) == ["a", "b", "c"]
    assert (dataset.shape, dataset.action_width) == ((32, 64, 3), 2)
    assert [clip.frames for clip in dataset.clips] == [20] * 3
    assert dataset.index.licence == "CC0"
    action = dataset.index.columns[0]
    assert (action.name, action.low, action.high) == ("action", (0, 0), (79, 79))
    source = folder.parent / "npz/a.npz"
    clip = dataset.clips[0]
    assert (clip.source_bytes, clip.source_time_ns) == (
        source.stat().st_size,
        source.stat().st_mtime_ns,
    )
    assert dataset.check() == 3


def test_a_window_is_exact_and_a_copy(folder: Path) -> None:
    dataset = VideoDataset(folder)
    window = dataset.window(1, 4, 6)
    np.testing.assert_array_equal(window["image"], numbered(range(34, 40)))
    np.testing.assert_array_equal(window["action"], [[n, n] for n in range(34, 40)])
    np.testing.assert_array_equal(window["reward"], range(34, 40))
    for value in window.values():
        value[:] = 0
    np.testing.assert_array_equal(dataset.window(1, 4, 1)["image"], numbered([34]))


@pytest.mark.parametrize(("start", "length"), [(-1, 3), (0, 21), (20, 1), (3, 0)])
def test_frames_of_another_clip_are_never_joined(folder: Path, start: int, length: int) -> None:
    with pytest.raises(IndexError, match=r"a: expected frames within 0\.\.20, got"):
        VideoDataset(folder).window(0, start, length)


@pytest.mark.parametrize("codec", ["raw", "lz4", "jpeg"])
def test_a_clip_in_several_record_batches_reads_like_one(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardWriter, "BATCH_BYTES", 7 * 32 * 64 * 3)
    write_episode(tmp_path / "npz/a.npz", range(50))
    bring_in(tmp_path / "npz", tmp_path / "data", codec=codec)
    dataset = VideoDataset(tmp_path / "data")
    file = tmp_path / "data" / SHARDS / dataset.clips[0].shard
    assert pa.ipc.open_file(pa.memory_map(str(file))).num_record_batches == 8
    assert shown(dataset, 0) == list(range(50))
    for start, length in ((0, 7), (5, 4), (6, 30), (49, 1)):
        window = dataset.window(0, start, length)
        assert window["reward"].tolist() == list(range(start, start + length))
        if codec != "jpeg":
            np.testing.assert_array_equal(window["image"], numbered(window["reward"].astype(int)))
    assert dataset.check() == 1


def test_a_shard_is_plain_arrow(folder: Path) -> None:
    clip = VideoDataset(folder).clips[2]
    table = pa.ipc.open_file(str(folder / SHARDS / clip.shard)).read_all()
    rows = table.slice(clip.row, clip.frames)
    assert rows.column("image")[3].as_py() == numbered([63]).tobytes()
    assert rows.column("action")[3].as_py() == [63, 63]
    assert table.schema.metadata == {b"shape": b"32x64x3", b"codec": b"raw"}


def test_what_was_dropped_early_leaves_nothing_and_what_comes_later_no_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = numbered(range(10))
    with (tmp_path / "s.arrow").open("wb") as file:
        writer = ShardWriter(file, (32, 64, 3), "raw", {})
        for frame in frames[:3]:
            writer.add(frame, {})
        writer.drop_clip()
        for frame in frames[3:5]:
            writer.add(frame, {})
        row, count, crc = writer.finish_clip()
        monkeypatch.setattr(ShardWriter, "HELD_BYTES", 0)
        monkeypatch.setattr(writer, "_per_batch", 1)
        writer.add(frames[0], {})
        writer.drop_clip()
        writer.add(frames[9], {})
        later = writer.finish_clip()
        writer.close()
    reader = ShardReader(tmp_path / "s.arrow", (32, 64, 3), "raw", {})
    assert (row, count, reader.num_rows, later[:2]) == (0, 2, 4, (3, 1))
    out = np.empty((1, 32, 64, 3), np.uint8)
    reader.images(3, out)
    np.testing.assert_array_equal(out, frames[9:])
    assert (reader.crc32(0, 2), reader.crc32(3, 1)) == (crc, later[2])


def test_a_checksum_that_fails_names_shard_and_clip(folder: Path) -> None:
    clip = VideoDataset(folder).clips[1]
    file = folder / SHARDS / clip.shard
    data = bytearray(file.read_bytes())
    data[data.index(numbered([35]).tobytes()) + 99] ^= 1
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=rf"shard {clip.shard}, clip b: expected CRC-32") as error:
        VideoDataset(folder).check()
    assert "1 of 3 clips are broken" in str(error.value)


def test_so_does_a_shard_that_was_cut_off(folder: Path) -> None:
    clip = VideoDataset(folder).clips[2]
    file = folder / SHARDS / clip.shard
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=rf"shard {clip.shard}, clip c: .*no Arrow file"):
        VideoDataset(folder).check()


def test_a_value_that_changed_is_found_as_well(folder: Path) -> None:
    clip = VideoDataset(folder).clips[0]
    file = folder / SHARDS / clip.shard
    data = bytearray(file.read_bytes())
    data[data.index(np.float32([7, 7, 8, 8]).tobytes())] ^= 1
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="clip a"):
        VideoDataset(folder).check()


def test_a_missing_shard_is_named(folder: Path) -> None:
    clip = VideoDataset(folder).clips[1]
    (folder / SHARDS / clip.shard).unlink()
    with pytest.raises(ConfigError, match=rf"1 of 3 shards are missing, .* {SHARDS}/{clip.shard}"):
        VideoDataset(folder)


def test_what_is_no_data_set_is_told_from_an_unfinished_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder with a data set, got none"):
        VideoDataset(folder / "nowhere")
    with pytest.raises(ConfigError, match=r"no data set \(no index.json\)"):
        VideoDataset(folder / SHARDS)
    (folder / "index.json").unlink()
    with pytest.raises(ConfigError, match="has not finished"):
        VideoDataset(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 9}, "expected format 1, got 9"),
        ({"shape": [32, 64]}, r"index.json.shape"),
        ({"clips": [{"name": 3}]}, r"index.json.clips.0"),
    ],
)
def test_an_index_of_another_form_says_where(folder: Path, change: object, words: str) -> None:
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))  # type: ignore[operator]
    with pytest.raises(DocumentError, match=words):
        VideoDataset(folder)
    path.write_text("{")
    with pytest.raises(DocumentError, match="expected the index of a data set"):
        VideoDataset(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [32, 64, 4]}, r"expected frames \[H, W, 3\]"),
        ({"shape": [32, 1 << 20, 3]}, "of at most 16384 pixels a side"),
        ({"shard": "../a.arrow"}, r"expected shards in shards/, got '\.\./a\.arrow'"),
    ],
)
def test_an_index_is_not_believed_too_much(
    change: dict[str, object], words: str, folder: Path
) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text())
    if "shard" in change:
        index["clips"][0] |= change
    path.write_text(json.dumps(index | change if "shape" in change else index))
    with pytest.raises(ConfigError, match=words):
        VideoDataset(folder)


def test_the_digest_is_that_of_the_index(folder: Path) -> None:
    before = VideoDataset(folder).digest
    assert VideoDataset(str(folder)).digest == before
    write_episode(folder.parent / "npz/d.npz", range(5))
    bring_in(folder.parent / "npz", folder)
    assert VideoDataset(folder).digest != before
