"""Files of a run folder: whole or absent, locally and in object stores."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from reverie import storage as storage_module
from reverie.storage import TMP_SUFFIX, Storage


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
    """Let the kernel refuse to grow any file of this process beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def remote_storages(tmp_path: Path) -> list[Storage]:
    (tmp_path / "below").mkdir()
    tree = fs.SubTreeFileSystem(str(tmp_path / "below"), fs.LocalFileSystem())
    return [Storage("bucket/run", fs._MockFileSystem()), Storage("bucket/run", tree)]


@pytest.fixture(params=["local", "file-uri", "mock", "subtree"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(tmp_path / "run")
    if request.param == "file-uri":
        return Storage((tmp_path / "a run").as_uri())
    return remote_storages(tmp_path)[request.param == "subtree"]


def test_what_is_written_is_read(storage: Storage) -> None:
    assert storage.list() == []
    storage.write_atomic("a/b/c.bin", b"12345")
    storage.write_atomic("top.bin", memoryview(bytearray(b"xy")))
    storage.write_atomic("top.bin", memoryview(b"newer"))
    assert storage.read("a/b/c.bin") == b"12345"
    assert storage.read("top.bin") == b"newer"
    assert storage.size("a/b/c.bin") == 5
    found = [storage.exists(name) for name in ("a/b/c.bin", "a/b", "z")]
    assert found == [True, False, False]
    assert storage.list() == ["a/b/c.bin", "top.bin"]
    assert storage.list("a") == ["a/b/c.bin"]
    assert storage.list("nothing/here") == []
    with storage.open_input("a/b/c.bin") as file:
        file.seek(2)
        assert file.read(2) == b"34"


def test_deleting_what_is_missing_is_fine(storage: Storage) -> None:
    storage.delete("no/such")
    storage.delete_folder("no")
    storage.write_atomic("a/x", b"1")
    storage.write_atomic("a/y", b"1")
    storage.delete("a/x")
    assert storage.list() == ["a/y"]
    storage.delete_folder("a")
    assert storage.list() == []


def test_missing_files_are_named(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/such\.bin"):
        storage.read("no/such.bin")
    with pytest.raises(FileNotFoundError, match=r"no/such\.bin"):
        storage.size("no/such.bin")


def test_child_is_a_folder_inside(storage: Storage) -> None:
    child = storage.child("replay/shard 0")
    child.write_atomic("x.arrow", b"1")
    assert storage.list() == ["replay/shard 0/x.arrow"]
    assert child.list() == ["x.arrow"]


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x"])
def test_names_stay_inside(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="relative name"):
        storage.write_atomic(name, b"")


@pytest.mark.parametrize("as_uri", [False, True])
def test_rebuilt_from_uri_and_pickle(tmp_path: Path, as_uri: bool) -> None:
    folder = tmp_path / "a b"
    first = Storage(folder.as_uri() if as_uri else folder).child("c d")
    first.write_atomic("x", b"1")
    for again in (Storage(first.uri), pickle.loads(pickle.dumps(first))):
        assert again.read("x") == b"1"
        assert again.local_path == folder / "c d"


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("runs/x")
    monkeypatch.chdir("/")
    storage.write_atomic("y", b"1")
    assert (tmp_path / "runs/x/y").read_bytes() == b"1"
    assert storage.uri == str(tmp_path / "runs/x")


def test_child_of_an_object_store_keeps_the_query() -> None:
    uri = "s3://bucket/runs?region=eu-west-1"
    child = Storage(uri).child("a")
    assert child.uri == "s3://bucket/runs/a?region=eu-west-1"
    assert child.local_path is None


def test_unknown_scheme_is_explained() -> None:
    with pytest.raises(ValueError, match="gopher"):
        Storage("gopher://host/x")


def test_full_disk_keeps_the_older_file_and_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.write_atomic("a/x.bin", b"old")
    with small_files_only(10_000), pytest.raises(OSError, match=r"a/x\.bin") as caught:
        storage.write_atomic("a/x.bin", bytes(100_000))
    assert caught.value.errno == errno.EFBIG
    assert "100000 bytes" in str(caught.value)
    assert storage.read("a/x.bin") == b"old"
    assert os.listdir(tmp_path / "a") == ["x.bin"]


def test_failed_remote_write_names_the_file(tmp_path: Path) -> None:
    storage = remote_storages(tmp_path)[1]
    with small_files_only(10_000), pytest.raises(OSError, match=r"x\.bin"):
        storage.write_atomic("x.bin", bytes(100_000))
    assert storage.list() == []


def test_local_write_is_durable_before_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"
        calls.append(f"sync {kind}")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Any:
        calls.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    storage = Storage(tmp_path)
    storage.write_atomic("new/x", b"1")
    assert calls == ["sync folder", "sync file", "rename", "sync folder"]


def test_temporary_files_are_no_files_of_the_run(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    fresh, stale = (tmp_path / f".x.{i}{TMP_SUFFIX}" for i in range(2))
    fresh.touch()
    stale.touch()
    old = time.time() - storage_module.STALE_S - 10
    os.utime(stale, (old, old))
    assert storage.list() == []
    storage.delete_stale("")
    assert os.listdir(tmp_path) == [fresh.name]


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write_atomic("a", b"1234")
    assert storage.read("a", at_most=4) == b"1234"
    with pytest.raises(OSError, match=f"at most 3 bytes.*{tmp_path}/a"):
        storage.read("a", at_most=3)
