"""One folder of a run, on a local disk, on NFS or in an object store.

A file is either as it was or complete: readers never see half of one. Names are relative to the
folder, with forward slashes. A storage travels to actors as its `uri`.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import BinaryIO, Protocol, overload
from urllib.parse import quote, urlsplit, urlunsplit

import pyarrow.fs  # pyright: ignore[reportMissingTypeStubs]

from reverie.paths import place

fs: ModuleType = pyarrow.fs

TMP_SUFFIX = ".reverie-tmp"
STALE_S = 3600.0
"""Age in seconds from which a temporary file counts as left behind by a killed writer."""
FLAT_STORES = ("s3", "gcs", "abfs")
"""Object stores: no folders to make, and a file appears only when its writing succeeded."""


class FileInfo(Protocol):
    """`pyarrow.fs.FileInfo`."""

    path: str
    """Within the file system, without a scheme."""
    type: int
    """One of `fs.FileType`."""
    size: int
    """Bytes, of a file."""


class FileSystem(Protocol):
    """What is used here of `pyarrow.fs.FileSystem`, which has no types."""

    type_name: str

    @overload
    def get_file_info(self, paths_or_selector: str, /) -> FileInfo: ...
    @overload
    def get_file_info(self, paths_or_selector: Selector, /) -> list[FileInfo]: ...
    def open_input_file(self, path: str, /) -> BinaryIO: ...
    def open_output_stream(self, path: str, /) -> BinaryIO: ...
    def create_dir(self, path: str, /, *, recursive: bool) -> None: ...
    def delete_dir(self, path: str, /) -> None: ...
    def delete_file(self, path: str, /) -> None: ...


class Selector(Protocol):
    """`pyarrow.fs.FileSelector`."""

    base_dir: str


class Storage:
    """Reads and writes files below one folder.

    Args:
        uri: a local path (made absolute), or what `pyarrow.fs.FileSystem.from_uri` takes, such as
            `s3://bucket/runs/x?region=eu-west-1` or `gs://bucket/runs/x`.
        filesystem: where `uri` is a path of a file system made elsewhere; None works it out.

    Raises:
        ValueError: a URI that cannot be read or whose scheme is unknown.
    """

    def __init__(self, uri: str | os.PathLike[str], filesystem: FileSystem | None = None) -> None:
        text = os.fspath(uri)
        self._given = filesystem
        if filesystem is None and "://" not in text:
            text = str(place(text))
            self._filesystem: FileSystem = fs.LocalFileSystem()
            self._root = text
        elif filesystem is None:
            self._filesystem, self._root = _from_uri(text)
        else:
            self._filesystem, self._root = filesystem, text.strip("/")
        self._uri = text
        self._local = self._filesystem.type_name == "local"

    def __reduce__(self) -> tuple[type[Storage], tuple[str, FileSystem | None]]:
        return Storage, (self._uri, self._given)

    def __repr__(self) -> str:
        return f"Storage({self._uri!r})"

    @property
    def uri(self) -> str:
        """What `Storage(uri)` rebuilds this storage from, on any machine that sees the folder."""
        return self._uri

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine's file system; None in an object store."""
        return Path(self._root) if self._local else None

    def child(self, name: str) -> Storage:
        """The storage of a folder inside this one; the folder need not exist."""
        path = _check_name(name)
        if "://" not in self._uri:
            return Storage(f"{self._uri}/{path}", self._given)
        parts = urlsplit(self._uri)
        whole = f"{parts.path.rstrip('/')}/{quote(path)}"
        return Storage(urlunsplit(parts._replace(path=whole)), self._given)

    def write_atomic(self, name: str, data: bytes | memoryview) -> None:
        """Write a file whole, over an older one of that name, and make it durable.

        Locally: a temporary file in the same folder, fsync, rename, fsync of the folder. In an
        object store: one PUT. Waits until the disk or the store has confirmed.

        Raises:
            OSError: naming the file; an older file is unharmed, a temporary one removed.
        """
        view = memoryview(data).cast("B")
        path = self._path(name)
        try:
            if self._local:
                _write_local(Path(path), view)
            else:
                self._write_remote(path, view)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"{reason}: could not write {view.nbytes} bytes"
            raise OSError(error.errno or errno.EIO, message, self._where(name)) from error

    def read(self, name: str, at_most: int | None = None) -> bytes:
        """Read a whole file, of no more than `at_most` bytes.

        Raises:
            FileNotFoundError: there is none.
            OSError: it is larger.
        """
        with self.open_input(name) as file:
            if at_most is None:
                return file.read()
            data = file.read(at_most + 1)
        if len(data) > at_most:
            message = f"expected a file of at most {at_most} bytes"
            raise OSError(errno.EFBIG, message, self._where(name))
        return data

    def open_input(self, name: str) -> BinaryIO:
        """Open a file as a seekable `pyarrow.NativeFile`. Raises: FileNotFoundError."""
        return self._filesystem.open_input_file(self._path(name))

    def exists(self, name: str) -> bool:
        """Whether there is a file (not a folder) of that name."""
        return self._info(name).type == fs.FileType.File

    def size(self, name: str) -> int:
        """Size of a file in bytes. Raises: FileNotFoundError."""
        info = self._info(name)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, "no such file", self._where(name))
        return info.size

    def list(self, folder: str = "") -> list[str]:
        """Names of all files below `folder`, sorted, relative to the root of this storage.

        Folders and temporary files are left out; a missing folder holds nothing.
        """
        return sorted(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Sizes in bytes of the files that `list` names, with one listing of the folder."""
        start = len(self._root.rstrip("/")) + 1 if self._root else 0
        return {
            info.path[start:]: info.size
            for info in self._walk(folder)
            if not info.path.endswith(TMP_SUFFIX)
        }

    def delete(self, name: str) -> None:
        """Delete a file; a missing one is fine."""
        try:
            self._filesystem.delete_file(self._path(name))
        except FileNotFoundError:
            return

    def delete_folder(self, name: str) -> None:
        """Delete a folder with all that is in it; a missing one is fine."""
        path = self._path(name)
        try:
            if self._local:
                shutil.rmtree(path)
            else:
                self._filesystem.delete_dir(path)
        except FileNotFoundError:
            return

    def delete_stale(self, folder: str) -> None:
        """Delete temporary files that writers killed over an hour ago left below `folder`."""
        if not self._local:
            return
        for path in (info.path for info in self._walk(folder)):
            if path.endswith(TMP_SUFFIX) and _age_s(path) > STALE_S:
                Path(path).unlink(missing_ok=True)

    def _write_remote(self, path: str, view: memoryview) -> None:
        flat = self._filesystem.type_name in FLAT_STORES
        if not flat:
            self._filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
        try:
            with self._filesystem.open_output_stream(path) as stream:
                stream.write(view)
        except OSError:
            if not flat:
                self._filesystem.delete_file(path)
            raise

    def _walk(self, folder: str) -> list[FileInfo]:
        """All files below `folder`, with full paths."""
        path = self._path(folder) if folder else self._root
        selector: Selector = fs.FileSelector(path, allow_not_found=True, recursive=True)
        return [
            info
            for info in self._filesystem.get_file_info(selector)
            if info.type == fs.FileType.File
        ]

    def _info(self, name: str) -> FileInfo:
        return self._filesystem.get_file_info(self._path(name))

    def _path(self, name: str) -> str:
        path = _check_name(name)
        return f"{self._root.rstrip('/')}/{path}" if self._root else path

    def _where(self, name: str) -> str:
        return self._path(name) if self._local else f"{self._uri}: {name}"


def _from_uri(uri: str) -> tuple[FileSystem, str]:
    try:
        return fs.FileSystem.from_uri(uri)
    except ValueError as error:
        raise ValueError(
            f"storage: expected a local path, s3:// or gs://, got {uri!r}: {error}"
        ) from None


def _check_name(name: str) -> str:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"storage: expected a relative name inside the folder, got {name!r}")
    return str(path)


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Give errors of a file that is open its name, and a full disk its remedy."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some space, then start or resume again" if full else ""
        raise OSError(error.errno, f"{error.strerror}{remedy}", str(path)) from error


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Open a new local file that takes the name `path` when the block ends without an error.

    It is written under a temporary name, synced, then renamed: a crash leaves either no file of
    that name or a whole one. Waits for the disk.
    """
    tmp = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TMP_SUFFIX}")
    try:
        with naming(path), tmp.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write_local(path: Path, view: memoryview) -> None:
    _make_folder(path.parent)
    with whole_file(path) as file:
        file.write(view)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder and say so with EINVAL.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _age_s(path: str) -> float:
    try:
        return time.time() - Path(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0
