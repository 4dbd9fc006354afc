"""Turns granted batches into tensors on the learner's device.

Windows arrive as pieces of chunks; here, and only here, they become arrays [B, T, ...].
"""

# torch.from_numpy has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from reverie.errors import ReplayLost
from reverie.links import Draws, Grants, Ready
from reverie.protocols import Feedback, StreamSpec
from reverie.replay.coordinator import Grant, Part
from reverie.types import LOG_PREFIX, STEP_ID, Array, Window, step_ids

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]
RETRY_S = 0.1
"""Seconds between two tries to get a batch from a shard that is gone."""


@dataclass(slots=True)
class _Pending:
    grant: Grant
    windows: dict[str, list[tuple[int, Callable[[], list[Window]]]]]
    """(shard, call that waits for its windows), by stream name."""


class Assembler:
    """Makes windows into batches on a device.

    The tensors of a batch are valid until the next but one is made: their memory is used again,
    because fresh pages cost more than the copy.
    """

    def __init__(self, specs: dict[str, StreamSpec], device: str) -> None:
        self._specs, self._device = specs, torch.device(device)
        self._buffers: dict[tuple[str, int], dict[str, Array]] = {}
        self._copied: dict[tuple[str, int], torch.cuda.Event] = {}
        self._turn = 0

    def batches(self, windows: dict[str, list[Window]]) -> dict[str, Batch]:
        """One batch of each of these streams.

        Raises:
            ReplayLost: fewer windows than the stream wants.
        """
        self._check(windows)
        self._turn = 1 - self._turn
        return {name: self._assemble(name, found) for name, found in windows.items()}

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
            event = self._copied[name, self._turn] = torch.cuda.Event()
            event.record()
        return batch

    def _allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        tensor = torch.from_numpy(np.zeros(shape, dtype))
        return (tensor.pin_memory() if self._device.type == "cuda" else tensor).numpy()

    def _to_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


class BatchStream:
    """The replay's `Batches`: keeps `prefetch` of them under way and assembles the oldest.

    The tensors of a batch are valid until the next but one call of `next`.
    """

    def __init__(
        self,
        specs: dict[str, StreamSpec],
        source: Grants,
        shards: Sequence[Draws],
        *,
        device: str,
        prefetch: int,
    ) -> None:
        self._specs, self._source, self._shards = specs, source, shards
        self._assembler, self._prefetch = Assembler(specs, device), prefetch
        self._pending: deque[_Pending] = deque()
        self._shard_of: dict[int, int] = {}
        self._trained = 0
        self._told = ""

    def next(self) -> Ready | None:
        """Return the next batch, or None where the limiter grants none now.

        Waits for the shards that hold its windows. A lost shard sends every granted batch
        back, to be granted anew.
        """
        self._fill()
        if not self._pending:
            return None
        pending = self._pending.popleft()
        try:
            windows = {name: self._arrived(waits) for name, waits in pending.windows.items()}
            batches = self._assembler.batches(windows)
        except ReplayLost as error:
            self._lost(pending.grant.number, str(error))
            return None
        self._told = ""
        grant = pending.grant
        return Ready(number=grant.number, batches=batches, counters=grant.counters)

    def wait(self, patience: float) -> bool:
        return patience > 0 and self._source.await_batch(patience)

    def trained(self, number: int, feedback: Feedback) -> None:
        """Confirm a batch and write `feedback` back to the shards that gave its rows.

        Raises:
            ValueError: step ids of a stream that no window came from.
        """
        self._source.batch_trained(number)
        self._trained = number + 1
        if feedback:
            arrays = {key: value.detach().cpu().numpy() for key, value in feedback.items()}
            self._write_back(arrays.pop(STEP_ID), arrays)

    def refund(self) -> int:
        return self._give_back(0)

    def settle(self) -> None:
        self._source.settle()

    def _lost(self, number: int, reason: str) -> None:
        """Give a batch back; say so once, and wait a moment where the shard is still gone."""
        if reason == self._told:
            time.sleep(RETRY_S)
        else:
            log.warning("batch %d is asked for again: %s", number, reason)
        self._told = reason
        self._give_back(1)

    def _give_back(self, returned: int) -> int:
        """Refund all batches under way, and the last `returned` ones that are so no more."""
        count = len(self._pending)
        self._pending.clear()
        if count + returned:
            self._source.refund(count + returned)
        return count

    def _write_back(self, ids: Array, values: Mapping[str, Array]) -> None:
        numbers, where = np.unique(ids >> 32, return_inverse=True)
        if unknown := set(numbers.tolist()) - self._shard_of.keys():
            raise ValueError(f"feedback: step ids of streams {unknown}, which gave no window")
        shards = np.array([self._shard_of[int(number)] for number in numbers])
        shards = shards[where].reshape(ids.shape)
        for shard in np.unique(shards):
            here = shards == shard
            own = {name: value[here] for name, value in values.items()}
            self._shards[int(shard)].write_back(ids[here], own)

    def _arrived(self, waits: list[tuple[int, Callable[[], list[Window]]]]) -> list[Window]:
        """Wait for the windows of a stream; note which shard has which stream's rows."""
        found: list[Window] = []
        for shard, wait in waits:
            windows = wait()
            self._shard_of.update((window[0].number, shard) for window in windows)
            found += windows
        return found

    def _fill(self) -> None:
        while len(self._pending) < self._prefetch:
            grant = self._source.request_batch()
            if grant is None:
                return
            windows = {
                name: [
                    (part.shard, self._ask(name, grant.number, part))
                    for part in grant.parts(name, range(self._specs[name].batch_size))
                ]
                for name in grant.draws
            }
            self._pending.append(_Pending(grant, windows))

    def _ask(self, name: str, number: int, part: Part) -> Callable[[], list[Window]]:
        shard = self._shards[part.shard]
        return shard.sample(name, part.of, number, self._trained, part.slots)


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
