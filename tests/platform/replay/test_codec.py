"""Compression and files give every array back bit for bit, or say which file is broken."""

from __future__ import annotations

import os

import numpy as np
import pytest

from reverie.replay import codec
from reverie.replay.codec import Packed, decode, encode, read_records, write_records
from reverie.types import checksum


def rows():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 4, (5, 8, 8, 3), np.uint8),
        "depth": rng.normal(size=(5, 8, 8, 1)).astype(np.float32),
        "proprio": rng.normal(size=(5, 3)).astype(np.float32),
        "action": np.arange(5),
        "is_last": np.array([0, 0, 1, 0, 1], bool),
        "log/success": np.zeros(5, np.float32),
        "half": np.ones((5, 0), np.float16),
    }


@pytest.mark.parametrize("name", codec.CODECS)
def test_decoding_gives_the_rows_back(name):
    encoded = encode(rows(), name)
    assert checksum({key: decode(value) for key, value in encoded.items()}) == checksum(rows())


def test_only_images_are_compressed_and_none_keeps_the_arrays():
    encoded = encode(rows(), "lz4")
    assert [k for k, v in encoded.items() if isinstance(v, Packed)] == ["image", "depth"]
    assert encoded["image"].nbytes < rows()["image"].nbytes
    plain = rows()
    assert all(encode(plain, "none")[key] is array for key, array in plain.items())


def test_an_unknown_codec_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"'lz4', 'zstd'.*'gzip'"):
        codec.check_codec("gzip")


def test_files_keep_headers_dtypes_shapes_and_order(tmp_path):
    other = {"extra": np.arange(6, dtype=">i2").reshape(2, 3)}
    records = [({"at": 0}, rows()), ({"at": 1}, encode(rows(), "zstd")), ({"at": 2}, other)]
    info = write_records(tmp_path / "a.arrow", records)
    found = list(read_records(tmp_path, info))
    assert [header for header, _ in found] == [{"at": 0}, {"at": 1}, {"at": 2}]
    assert [checksum(data) for _, data in found] == [checksum(rows())] * 2 + [checksum(other)]
    assert info.num_bytes == (tmp_path / "a.arrow").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
def test_a_broken_file_is_named(tmp_path, damage):
    info = write_records(tmp_path / "shard0-000003.arrow", [({}, rows())])
    damage(tmp_path / info.name)
    with pytest.raises(ValueError, match=r"shard0-000003\.arrow"):
        list(read_records(tmp_path, info))


def test_an_array_of_any_size_is_not_made_on_a_file_s_word():
    with pytest.raises(ValueError, match="at most 4294967296 bytes, got 1000000000000"):
        decode(Packed(b"", "zstd", "|u1", (1000, 1000, 1000, 1000)))


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_records(tmp_path / "a.arrow", [({}, rows())])
    assert list(tmp_path.iterdir()) == []
