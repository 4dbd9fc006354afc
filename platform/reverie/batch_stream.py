"""Turns granted batches into tensors on the learner's device.

Windows arrive as pieces of chunks; here, and only here, they become arrays [B, T, ...].
"""

# torch.from_numpy has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reverie.errors import ReplayLost
from reverie.protocols import StreamSpec
from reverie.replay.coordinator import Grant
from reverie.types import LOG_PREFIX, STEP_ID, Array, Counters, Window, step_ids

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]


class ShardLink(Protocol):
    """How the learner reaches one shard, wherever it lives."""

    def sample(
        self, name: str, count: int, batch_number: int, trained_batches: int
    ) -> Callable[[], list[Window]]:
        """Ask for `count` windows; the returned call waits for them.

        Raises (from the returned call): ReplayLost, if the shard is gone.
        """
        ...

    def write_back(self, ids: Array, values: Mapping[str, Array]) -> None: ...


class BatchSource(Protocol):
    """The part of the coordinator that hands out batches."""

    def request_batch(self) -> Grant | None: ...
    def refund(self, count: int) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """One granted batch of every due stream, on the device."""

    number: int
    batches: dict[str, Batch]
    counters: Counters


@dataclass(slots=True)
class _Pending:
    grant: Grant
    windows: dict[str, list[Callable[[], list[Window]]]]


class BatchStream:
    """Keeps `prefetch` granted batches under way and assembles the oldest.

    The tensors of a batch are valid until the next but one call of `next`: their memory is
    used again, because fresh pages cost more than the copy.
    """

    def __init__(
        self,
        specs: dict[str, StreamSpec],
        source: BatchSource,
        shards: Sequence[ShardLink],
        *,
        device: str,
        prefetch: int,
    ) -> None:
        self._specs, self._source, self._shards = specs, source, shards
        self._device, self._prefetch = torch.device(device), prefetch
        self._pending: deque[_Pending] = deque()
        self._buffers: dict[tuple[str, int], dict[str, Array]] = {}
        self._copied: dict[tuple[str, int], Any] = {}
        self._turn = 0

    def next(self, trained_batches: int) -> Ready | None:
        """Return the next batch, or None where the limiter grants none now.

        Waits for the shards that hold its windows. A lost shard sends every granted batch
        back, to be granted anew.
        """
        self._fill(trained_batches)
        if not self._pending:
            return None
        pending = self._pending.popleft()
        try:
            windows = {
                name: [window for wait in waits for window in wait()]
                for name, waits in pending.windows.items()
            }
            self._check(windows)
        except ReplayLost as error:
            log.warning("batch %d is asked for again: %s", pending.grant.number, error)
            self._source.refund(1 + self.drop())
            return None
        self._turn = 1 - self._turn
        batches = {name: self._assemble(name, found) for name, found in windows.items()}
        grant = pending.grant
        return Ready(number=grant.number, batches=batches, counters=grant.counters)

    def drop(self) -> int:
        """Forget all granted batches that are under way; return how many."""
        count = len(self._pending)
        self._pending.clear()
        return count

    def _fill(self, trained_batches: int) -> None:
        while len(self._pending) < self._prefetch:
            grant = self._source.request_batch()
            if grant is None:
                return
            windows = {
                name: [
                    self._shards[shard].sample(name, count, grant.number, trained_batches)
                    for shard, count in enumerate(counts)
                    if count
                ]
                for name, counts in grant.draws.items()
            }
            self._pending.append(_Pending(grant, windows))

    def _check(self, windows: dict[str, list[Window]]) -> None:
        for name, found in windows.items():
            wanted = self._specs[name].batch_size
            if len(found) != wanted:
                raise ReplayLost(f"stream {name!r}: {len(found)} of {wanted} windows are left")

    def _assemble(self, name: str, windows: list[Window]) -> Batch:
        shape = (len(windows), self._specs[name].window_length)
        buffers = self._buffers.setdefault((name, self._turn), {})
        if (copied := self._copied.get((name, self._turn))) is not None:
            copied.synchronize()  # the GPU may still be reading what lay in these buffers
        for piece in (piece for window in windows for piece in window):
            for key in piece.data.keys() - buffers.keys():
                value = piece.data[key]
                if not key.startswith(LOG_PREFIX):
                    buffers[key] = self._allocate((*shape, *value.shape[1:]), value.dtype)
        if STEP_ID not in buffers:
            buffers[STEP_ID] = self._allocate(shape, np.int64)
        for row, window in enumerate(windows):
            _copy_window(window, {key: array[row] for key, array in buffers.items()})
        batch = {key: self._to_device(array) for key, array in buffers.items()}
        if self._device.type == "cuda":
            self._copied[name, self._turn] = torch.cuda.current_stream().record_event()
        return batch

    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> Array:
        tensor = torch.from_numpy(np.zeros(shape, dtype))
        return (tensor.pin_memory() if self._device.type == "cuda" else tensor).numpy()

    def _to_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


def _copy_window(window: Window, out: dict[str, Array]) -> None:
    at = 0
    for piece in window:
        count = len(piece.data["is_last"])
        for key, array in out.items():
            if key == STEP_ID:
                array[at : at + count] = step_ids(piece.number, piece.start_row, count)
            else:
                # Side values are missing from shards that nothing was written back to yet.
                array[at : at + count] = piece.data.get(key, 0)
        at += count
