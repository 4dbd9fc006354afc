"""The data every part of Reverie exchanges: rows, chunks, spaces and counters.

A row is one flat dict entry per key. Row t holds what the agent saw, how that came about,
and what the agent then did:

    <image keys>   uint8 [H, W, C]        as the environment drew it, channel-last
    <vector keys>  float32 [n] / int64    a plain vector observation is called `proprio`
    reward         float32                came WITH this observation, 0 on a first row
    is_first, is_last, is_terminal  bool  terminal implies last; a time-out is last only
    action         float32 [A] | int64 [] | int64 [k]   chosen AFTER this observation
    policy_version int64                  grad updates of the weights that chose it, -1 if random
    log/*          float32                kept for metrics, never trained on

An episode of N decisions has N + 1 rows; the last row carries a zero action.
This file imports numpy only, and so does what it imports: replay, environments and algorithms can
all build on it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.native_spaces import NativeSpaces

if TYPE_CHECKING:
    from pydantic import ConfigDict
    from torch import Tensor

Array = NDArray[Any]
Rows = dict[str, Array]
Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | float | bool | None"
"""What JSON and YAML can hold."""
JsonTree = dict[str, Json]
Tensors: TypeAlias = (
    "Mapping[str, Tensors] | Sequence[Tensors] | Tensor | str | float | bytes | None"
)
"""What a checkpoint's state dicts can hold; see `checkpoint_format.check_loadable`."""

FLAG_KEYS = ("is_first", "is_last", "is_terminal")
ROW_KEYS = ("reward", *FLAG_KEYS, "action", "policy_version")
RESERVED_KEYS = ("task_id", "action_mask")
LOG_PREFIX = "log/"
STEP_ID = "step_id"
"""Batches carry this key: int64 [B, T], `stream number << 32 | row in the stream`."""

STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
"""`__pydantic_config__` of every config dataclass: an unknown key is an error, and so is a number
that is not finite."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of one observation key (without a batch axis)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def size(self) -> int:
        return math.prod(self.shape)


ActionKind = Literal["box", "discrete", "multidiscrete"]


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """An action space, normalised: Box actions always run from -1 to 1.

    `num` holds the number of choices per component (one entry for `discrete`, none for `box`);
    `width` is the number of components of a `box` action.
    """

    kind: ActionKind
    num: tuple[int, ...] = ()
    width: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return {"box": (self.width,), "discrete": (), "multidiscrete": (len(self.num),)}[self.kind]

    @property
    def dtype(self) -> str:
        return "float32" if self.kind == "box" else "int64"

    @property
    def flat_size(self) -> int:
        """Width of the action as one vector, discrete components as one-hot."""
        return self.width if self.kind == "box" else sum(self.num)

    def zeros(self, count: int) -> Array:
        return np.zeros((count, *self.shape), self.dtype)

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Draw `count` uniformly random actions [count, *shape]."""
        if self.kind == "box":
            return rng.uniform(-1, 1, (count, self.width)).astype(np.float32)
        draws = rng.integers(0, self.num, (count, len(self.num)))
        return draws[:, 0] if self.kind == "discrete" else draws


@dataclass(frozen=True, slots=True)
class Spaces:
    """What an agent sees and may do; plain data, so that it can be saved as JSON."""

    obs: dict[str, ArraySpec]
    action: ActionSpec
    native: NativeSpaces | None = field(default=None, compare=False)
    """What the environment itself gives and takes; None where that is not known. Spaces that
    differ in it alone are the same to an agent."""

    def to_json(self) -> JsonTree:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Spaces:
        """Raises: DocumentError, where `data` is not what `to_json` returned."""
        from reverie.documents import parse

        return parse(cls, data, "spaces")

    def row_spec(self) -> dict[str, ArraySpec]:
        """Specs of every key of a row, log keys apart."""
        flags = {key: ArraySpec((), "bool") for key in FLAG_KEYS}
        return {
            **self.obs,
            "reward": ArraySpec((), "float32"),
            **flags,
            "action": ArraySpec(self.action.shape, self.action.dtype),
            "policy_version": ArraySpec((), "int64"),
        }


class StreamId(NamedTuple):
    """One uninterrupted life of one environment; a restart gets the next incarnation."""

    worker: int
    env: int
    incarnation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Up to `chunk_length` consecutive rows of one stream; immutable once inserted."""

    stream: StreamId
    number: int
    """The stream's number, unique in the run; the upper half of a step id."""
    sequence: int
    """Position of this chunk in its stream, from 0."""
    start_row: int
    """Row index in the stream of the first row here."""
    data: Rows
    """Arrays [T, ...], one entry per row key."""
    checksum: int

    @property
    def key(self) -> tuple[StreamId, int]:
        return self.stream, self.sequence

    @property
    def num_rows(self) -> int:
        return len(self.data["is_last"])

    @property
    def stop_row(self) -> int:
        return self.start_row + self.num_rows

    @property
    def num_env_steps(self) -> int:
        """Decisions in this chunk: rows that are not last."""
        return int(np.count_nonzero(~self.data["is_last"]))


class Piece(NamedTuple):
    """A run of rows of one chunk; a window is a list of pieces of one stream."""

    number: int
    """Stream number."""
    start_row: int
    """Row index in the stream of the first row here."""
    data: Rows
    """Views [t, ...] into the chunk's arrays (or freshly decoded arrays)."""


Window = list[Piece]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """How far a run is, in decisions, frames and updates."""

    env_steps: int = 0
    """Decisions taken, lost ones included."""
    env_frames: int = 0
    """env_steps x action repeat."""
    trained_steps: int = 0
    """batch_size x batch_length per update, context rows not counted."""
    grad_updates: int = 0
    episodes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeResult:
    """What one finished episode amounted to."""

    ret: float
    """Undiscounted sum of rewards."""
    length: int
    """Decisions."""
    logs: dict[str, float] = field(default_factory=dict[str, float])
    """For each `log/x` key of the environment: `x_max` and `x_sum` over the episode."""
    is_cut: bool = False
    """An evaluation ended it at `eval.max_steps`, not the environment."""


class SideRows(NamedTuple):
    """Side columns of some rows of one shard."""

    shard: int
    step_ids: Array
    """int64 [n]."""
    values: Rows
    """Columns [n, ...] by name."""


class Version(NamedTuple):
    """Identity of published weights; a restarted learner gets the next incarnation."""

    incarnation: int
    grad_updates: int


def step_ids(number: int, start_row: int, count: int) -> NDArray[np.int64]:
    """Step ids int64 [count] of consecutive rows of stream `number`."""
    return (np.int64(number) << 32) + np.arange(start_row, start_row + count, dtype=np.int64)


def checksum(rows: Mapping[str, Array]) -> int:
    """CRC-32 over keys, dtypes, shapes and bytes of the arrays, in key order."""
    crc = 0
    for key in sorted(rows):
        array = np.ascontiguousarray(rows[key])
        crc = zlib.crc32(f"{key}{array.dtype.str}{array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc) if array.size else crc
    return crc
