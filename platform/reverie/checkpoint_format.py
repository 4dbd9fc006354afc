"""What the files of a checkpoint look like: parts, manifest, and how damage is found."""

from __future__ import annotations

import io
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from reverie.documents import from_json, json_text
from reverie.errors import RunError
from reverie.storage import Storage
from reverie.tensor_file import check_tensor_file
from reverie.types import Json, Tensors

FORMAT = 1
FOLDER = "checkpoints"
REPLAY = "replay"
MANIFEST = "manifest.json"
SET_ASIDE = "manifest.set_aside.json"
"""Name of the manifest of a checkpoint that the run was taken back behind."""
BLOCK = 8 << 20
"""Bytes read at once when a file is verified."""


class CheckpointError(RunError):
    """A checkpoint that cannot be saved or loaded; the message names the file."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as a manifest knows it."""

    name: str
    size: int
    """Bytes."""
    crc32: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What belongs to one checkpoint."""

    format: int
    number: int
    time: float
    """Seconds since the epoch."""
    parts: tuple[FileEntry, ...]
    """Files of the checkpoint's own folder, named within it."""
    files: tuple[FileEntry, ...]
    """Further files of the run, named from its root."""
    provisional: bool = False
    """It counts for nothing beside others, and goes with the next one."""

    def to_bytes(self) -> bytes:
        return json_text(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises: ValueError, KeyError or TypeError where `data` is no manifest of this format."""
        tree: Any = from_json(data)
        if tree["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {tree['format']}")
        parts, files = (tuple(FileEntry(**e) for e in tree[key]) for key in ("parts", "files"))
        for entry in parts:
            _check_inside(entry.name, len(PurePosixPath(entry.name).parts) == 1)
        for entry in files:
            _check_inside(entry.name, entry.name.startswith(f"{REPLAY}/"))
        number, seconds = int(tree["number"]), float(tree["time"])
        return cls(
            format=FORMAT,
            number=number,
            time=seconds,
            parts=parts,
            files=files,
            provisional=bool(tree.get("provisional")),
        )


def _check_inside(name: str, is_right_folder: bool) -> None:
    if not is_right_folder or ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise ValueError(f"expected names of parts and of files in {REPLAY}/, got {name!r}")


def folder_of(number: int) -> str:
    """Folder of a checkpoint, from the run's root."""
    return f"{FOLDER}/{number:08d}"


def compare(name: str, entry: FileEntry, size: int, crc32: int) -> None:
    """Raises: CheckpointError naming the file where size (bytes) or crc32 differ."""
    if size != entry.size:
        raise CheckpointError(f"{name}: expected {entry.size} bytes, got {size}")
    if crc32 != entry.crc32:
        raise CheckpointError(f"{name}: expected crc32 {entry.crc32:08x}, got {crc32:08x}")


def measure(storage: Storage, name: str) -> FileEntry:
    """Read the file `name` for its size and crc32."""
    size = crc = 0
    with storage.open_input(name) as file:
        while block := file.read(BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return FileEntry(name, size, crc)


def encode_documents(documents: Mapping[str, Json]) -> dict[str, bytes]:
    """Encode each as JSON. Raises: TypeError naming the document; ValueError: a taken name."""
    encoded: dict[str, bytes] = {}
    for name, document in documents.items():
        if f"{name}.json" == MANIFEST:
            raise ValueError(f"document {name!r}: this name belongs to the checkpoint itself")
        try:
            encoded[name] = json_text(document).encode()
        except TypeError as error:
            raise TypeError(f"document {name!r}: {error}") from None
    return encoded


def encode_tensors(state: Mapping[str, Tensors]) -> memoryview:
    """Encode a state dict as `torch.save` does."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def decode_tensors(data: bytes, where: str, map_location: str) -> dict[str, Any]:
    """Read what `encode_tensors` wrote.

    Raises:
        CheckpointError: it holds something else, or asks for more memory than it has bytes; none
            of it is executed.
    """
    import torch

    try:
        check_tensor_file(data)
        return torch.load(io.BytesIO(data), map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{where}: expected tensors and plain values only, got something else ({reason});"
            " use a checkpoint that this program wrote"
        ) from error


def check_loadable(value: Any, where: str) -> None:
    """Refuse what `weights_only=True` could not load: better now than when it is needed.

    Exact types: a numpy float is a `float` too, but is pickled as numpy.
    """
    import torch

    kind = value.__class__
    if kind in (dict, OrderedDict):
        for key, item in value.items():
            check_loadable(key, f"{where}: key {key!r}")
            check_loadable(item, f"{where}.{key}")
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            check_loadable(item, f"{where}[{index}]")
    elif value is not None and kind not in (
        *(bool, int, float, str, bytes),
        *(torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype, torch.device),
    ):
        raise TypeError(
            f"{where}: expected a tensor, a plain scalar or dicts and lists of them, "
            f"got {kind.__module__}.{kind.__qualname__}"
        )
