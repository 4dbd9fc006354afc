"""Checkpoints that a crash, a full disk or a flipped bit cannot take away.

    checkpoints/00000007/<name>.pt      tensors: torch.save, read back with weights_only=True
    checkpoints/00000007/<name>.json    documents
    checkpoints/00000007/manifest.json  written last: sizes and crc32 of the parts, and the further
                                        files of the run (replay chunks) that belong to it

Without its manifest a checkpoint does not exist. A file under `replay/` is deleted only when no
kept manifest names it. One process saves; any number may read. This file imports torch only when
tensors are saved or loaded.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reverie.checkpoint_format import (
    FOLDER,
    FORMAT,
    MANIFEST,
    REPLAY,
    SET_ASIDE,
    CheckpointError,
    FileEntry,
    Manifest,
    check_loadable,
    compare,
    decode_tensors,
    encode_documents,
    encode_tensors,
    folder_of,
    measure,
)
from reverie.documents import MAX_BYTES, from_json
from reverie.storage import Storage
from reverie.types import Json, Tensors

__all__ = ["Checkpoint", "CheckpointError", "CheckpointStore", "FileEntry"]

logger = logging.getLogger(__name__)


class Checkpoint:
    """One complete, verified checkpoint."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self._storage, self.manifest = storage, manifest

    @property
    def number(self) -> int:
        return self.manifest.number

    @property
    def parts(self) -> list[str]:
        """File names of its own parts, `<name>.pt` and `<name>.json`."""
        return [entry.name for entry in self.manifest.parts]

    @property
    def files(self) -> list[str]:
        """Names of the further files of the run that belong to it, from the run's root."""
        return [entry.name for entry in self.manifest.files]

    def tensors(self, name: str, map_location: str = "cpu") -> dict[str, Any]:
        """Load the state dict saved as `name`.

        Raises:
            KeyError: there is none.
            CheckpointError: it is damaged, holds more than tensors and plain values, or a tensor
                that is not finite.
        """
        from reverie.finite import first_not_finite

        state = decode_tensors(self._part(f"{name}.pt"), self._where(name), map_location)
        if (spoiled := first_not_finite(state, name)) is not None:
            raise CheckpointError(
                f"{self._where(name)}: tensor {spoiled} is NaN or infinite; choose an earlier"
                " checkpoint: --checkpoint NUMBER"
            )
        return state

    def _where(self, name: str) -> str:
        return f"{self._storage.uri}/{folder_of(self.number)}/{name}.pt"

    def document(self, name: str) -> Any:
        """Load the document saved as `name`. Raises: KeyError, CheckpointError."""
        data = self._part(f"{name}.json")
        try:
            return from_json(data)
        except ValueError as error:
            where = f"{folder_of(self.number)}/{name}.json"
            raise CheckpointError(
                f"{where}: {error}; choose another checkpoint: --checkpoint NUMBER"
            ) from None

    def read_file(self, name: str) -> bytes:
        """Read one of `files`, verified. Raises: KeyError, CheckpointError."""
        return self._read(name, {entry.name: entry for entry in self.manifest.files})

    def _part(self, name: str) -> bytes:
        folder = folder_of(self.number)
        entries = {f"{folder}/{entry.name}": entry for entry in self.manifest.parts}
        return self._read(f"{folder}/{name}", entries)

    def _read(self, name: str, entries: Mapping[str, FileEntry]) -> bytes:
        if name not in entries:
            raise KeyError(f"checkpoint {self.number}: no {name!r}; there are {sorted(entries)}")
        try:
            data = self._storage.read(name)
        except OSError as error:
            raise CheckpointError(f"{name}: cannot be read: {error}") from error
        compare(name, entries[name], len(data), zlib.crc32(data))
        return data


class CheckpointStore:
    """Saves, finds and thins out the checkpoints of one run.

    Args:
        storage: the run's folder.
        keep: usable checkpoints kept; at least 1.
    """

    def __init__(self, storage: Storage, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}")
        self._storage, self._keep = storage, keep
        self._usable: dict[int, Manifest] = {}
        self._broken: set[int] = set()

    def numbers(self) -> list[int]:
        """Numbers of the checkpoints that have a manifest, oldest first."""
        return self._folders(MANIFEST)

    def newest(self) -> int | None:
        """The newest checkpoint that has a manifest and is not known to be broken; reads none."""
        return max((n for n in self.numbers() if n not in self._broken), default=None)

    def next_number(self) -> int:
        """A number above that of every checkpoint there is, broken ones included."""
        return max(self._folders(".*"), default=0) + 1

    def save(
        self,
        number: int,
        tensors: Mapping[str, Mapping[str, Tensors]],
        documents: Mapping[str, Json],
        files: Iterable[str | FileEntry] = (),
        *,
        provisional: bool = False,
    ) -> None:
        """Write a checkpoint, then delete what it makes superfluous.

        Waits until everything is durable. Afterwards only the newest `keep` usable checkpoints
        are left, and of the files that lay under `replay/` when the call began only those that
        a kept manifest names.

        Args:
            number: above that of every usable checkpoint.
            tensors: state dicts of tensors and plain scalars, by part name.
            documents: whatever JSON can hold, by part name.
            files: further files of the run, already durable and never changed again. A bare name
                is read once for its crc32; an entry is believed.
            provisional: it takes no other one's place (it does not count towards `keep`) and
                goes with the next save: what it holds may be of no use, or is soon saved again.

        Raises:
            CheckpointError: from the OSError of a full or failing disk; the checkpoints before
                it are untouched and its own partial folder is removed.
            ValueError: a number that is taken.
            TypeError: a value that could not be loaded again, with its place.
        """
        self._check_number(number)
        encoded = encode_documents(documents)
        for name, state in tensors.items():
            check_loadable(state, name)
        try:
            before = self._storage.list(REPLAY)
            self._delete(number)
            self._usable[number] = self._write(number, tensors, encoded, files, provisional)
        except BaseException as error:
            self._remove_partial(number)
            if isinstance(error, OSError):
                raise CheckpointError(self._save_failed(number, error)) from error
            raise
        self._broken.discard(number)
        self._tidy(number, before)

    def latest(self, parts: Collection[str] | None = None) -> Checkpoint | None:
        """Find the newest checkpoint that is complete and uncorrupted; None where there is none.

        Reads every part, or those of the file names `parts`, once to verify it. Further files
        are not looked at: the replay does without those that are damaged. Each newer checkpoint
        that is not usable is logged as an error.

        Raises:
            CheckpointError: there are checkpoints, but each is broken; names the broken files.
        """
        faults: list[str] = []
        for number in reversed(self.numbers()):
            try:
                found = self.load(number, parts)
            except CheckpointError as error:
                faults.append(str(error))
                continue
            for fault in faults:
                logger.error("%s; checkpoint %d is used instead", fault, number)
            return found
        if faults:
            where = f"{self._storage.uri}: no usable checkpoint"
            raise CheckpointError("; ".join([where, *faults]))
        return None

    def load(self, number: int, parts: Collection[str] | None = None) -> Checkpoint:
        """Verify and open one checkpoint, or just `parts` of it.

        Raises:
            CheckpointError: naming the broken file, or the checkpoints there are.
        """
        if number not in (numbers := self.numbers()):
            raise CheckpointError(
                f"{self._storage.uri}: no checkpoint {number}; there are {numbers}"
            )
        try:
            manifest = self._read_manifest(number)
            entries = _wanted(manifest, parts)
            for entry in entries:
                name = f"{folder_of(number)}/{entry.name}"
                found = measure(self._storage, name)
                compare(name, entry, found.size, found.crc32)
        except (CheckpointError, OSError) as error:
            self._broken.add(number)
            raise CheckpointError(f"checkpoint {number} is broken: {error}") from error
        if len(entries) == len(manifest.parts):
            self._usable[number] = manifest
        self._broken.discard(number)
        return Checkpoint(self._storage, manifest)

    def set_aside(self, above: int) -> list[int]:
        """Unmake the checkpoints above `above`, from which the run does not go on.

        Their files stay until the next save; renamed back to `manifest.json`, the manifest makes
        such a checkpoint usable again. Returns their numbers.
        """
        numbers = [number for number in self.numbers() if number > above]
        for number in numbers:
            folder = folder_of(number)
            manifest = self._storage.read(f"{folder}/{MANIFEST}")
            self._storage.write_atomic(f"{folder}/{SET_ASIDE}", manifest)
            self._storage.delete(f"{folder}/{MANIFEST}")
            self._usable.pop(number, None)
        return numbers

    def _check_number(self, number: int) -> None:
        taken = [n for n in self.numbers() if n >= number and n not in self._broken]
        if taken:
            raise ValueError(
                f"checkpoint {number}: {max(taken)} exists already; "
                f"expected {self.next_number()} or above (CheckpointStore.next_number)"
            )

    def _write(
        self,
        number: int,
        tensors: Mapping[str, Mapping[str, Tensors]],
        documents: Mapping[str, bytes],
        files: Iterable[str | FileEntry],
        provisional: bool,
    ) -> Manifest:
        entries = self._entries(files)
        parts = [self._write_part(number, f"{n}.json", data) for n, data in documents.items()]
        for name, state in tensors.items():
            parts.append(self._write_part(number, f"{name}.pt", encode_tensors(state)))
        manifest = Manifest(
            format=FORMAT,
            number=number,
            time=time.time(),
            parts=tuple(parts),
            files=entries,
            provisional=provisional,
        )
        self._storage.write_atomic(f"{folder_of(number)}/{MANIFEST}", manifest.to_bytes())
        return manifest

    def _write_part(self, number: int, name: str, data: bytes | memoryview) -> FileEntry:
        self._storage.write_atomic(f"{folder_of(number)}/{name}", data)
        return FileEntry(name, len(data), zlib.crc32(data))

    def _entries(self, files: Iterable[str | FileEntry]) -> tuple[FileEntry, ...]:
        """Entries of `files`; what a usable checkpoint names already is not read again."""
        known = {entry.name: entry for m in self._usable.values() for entry in m.files}
        return tuple(
            file if isinstance(file, FileEntry) else known.get(file) or measure(self._storage, file)
            for file in files
        )

    def _save_failed(self, number: int, error: OSError) -> str:
        return (
            f"checkpoint {number} could not be saved to {self._storage.uri}: {error}; the "
            "checkpoints before it are untouched. Free space or lower run.keep_checkpoints"
        )

    def _remove_partial(self, number: int) -> None:
        try:
            self._delete(number)
        except OSError as error:
            # Without a manifest it is no checkpoint; the next successful save removes it.
            logger.warning("checkpoint %d: partial folder left behind: %s", number, error)

    def _tidy(self, number: int, candidates: list[str]) -> None:
        """Thin out checkpoints and `candidates` under replay/; `number` is durable by now."""
        try:
            kept = self._thin_out(number)
            named = {entry.name for n in kept for entry in self._named_files(n)}
            for name in candidates:
                if name not in named:
                    self._storage.delete(name)
            self._storage.delete_stale(REPLAY)
            self._storage.delete_stale(FOLDER)
        except OSError as error:
            logger.warning("checkpoint %d is saved, but old files are left: %s", number, error)

    def _thin_out(self, newest: int) -> list[int]:
        """Delete all but `keep` usable checkpoints up to `newest`; return what is left.

        A broken one between them stays until it is older than all of them: perhaps its disk was
        only out of reach. Newer ones are broken too, and what they led to was not used. One that
        is provisional counts for nothing and stays only while it is the newest.
        """
        complete = [n for n in reversed(self.numbers()) if n <= newest]
        kept: list[int] = []
        usable = 0
        for number in complete:
            if number != newest and self._is_provisional(number):
                continue
            if usable < self._keep:
                kept.append(number)
                usable += self._is_usable(number) and not self._is_provisional(number)
        for number in self._folders(".*"):
            if number not in kept:
                self._delete(number)
        return kept

    def _is_usable(self, number: int) -> bool:
        if number not in self._usable and number not in self._broken:
            try:
                self.load(number)
            except CheckpointError as error:
                logger.warning("not counted as kept: %s", error)
        return number in self._usable

    def _is_provisional(self, number: int) -> bool:
        if number in self._usable:
            return self._usable[number].provisional
        try:
            return self._read_manifest(number).provisional
        except CheckpointError:
            return False

    def _named_files(self, number: int) -> tuple[FileEntry, ...]:
        if number in self._usable:
            return self._usable[number].files
        try:
            return self._read_manifest(number).files
        except CheckpointError:
            return ()

    def _delete(self, number: int) -> None:
        self._storage.delete(f"{folder_of(number)}/{MANIFEST}")
        self._storage.delete_folder(folder_of(number))
        self._usable.pop(number, None)

    def _folders(self, file: str) -> list[int]:
        """Numbers of the folders that hold a file matching the pattern `file`."""
        pattern = re.compile(rf"{FOLDER}/(\d{{8,}})/{file}")
        matches = map(pattern.fullmatch, self._storage.list(FOLDER))
        return sorted({int(match[1]) for match in matches if match})

    def _read_manifest(self, number: int) -> Manifest:
        name = f"{folder_of(number)}/{MANIFEST}"
        data = self._storage.read(name, at_most=MAX_BYTES)
        try:
            manifest = Manifest.from_bytes(data)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{name}: no manifest: {error!r}") from error
        if manifest.number != number:
            raise CheckpointError(f"{name}: expected number {number}, got {manifest.number}")
        return manifest


def _wanted(manifest: Manifest, parts: Collection[str] | None) -> list[FileEntry]:
    """The entries of `parts`, or of all."""
    if parts is None:
        return list(manifest.parts)
    entries = {entry.name: entry for entry in manifest.parts}
    for name in parts:
        if name not in entries:
            raise CheckpointError(f"{folder_of(manifest.number)}/{name}: no such part")
    return [entries[name] for name in parts]
