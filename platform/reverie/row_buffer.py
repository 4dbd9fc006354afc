"""What becomes of the rows of a worker: chunks for the replay and results of episodes."""

from __future__ import annotations

import numpy as np

from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import StreamTicket
from reverie.types import LOG_PREFIX, Array, Chunk, EpisodeResult, Rows


class EpisodeMeter:
    """Adds up returns, lengths and log keys of N environments, episode by episode."""

    def __init__(self, count: int) -> None:
        self._ret = np.zeros(count)
        self._length = np.zeros(count, np.int64)
        self._sums: dict[str, Array] = {}
        self._maxima: dict[str, Array] = {}

    def add(self, rows: Rows, mask: Array) -> list[tuple[int, EpisodeResult]]:
        """Take in rows [N, ...] where `mask` is set; return (env, result) of finished episodes."""
        self._ret[mask] += rows["reward"][mask]
        self._length[mask] += ~rows["is_first"][mask]
        for key in rows:
            if key.startswith(LOG_PREFIX):
                self._add_log(key.removeprefix(LOG_PREFIX), rows[key], mask)
        finished = np.flatnonzero(mask & rows["is_last"])
        return [(int(env), self._pop(int(env))) for env in finished]

    def _add_log(self, name: str, values: Array, mask: Array) -> None:
        sums = self._sums.setdefault(name, np.zeros(len(self._ret)))
        maxima = self._maxima.setdefault(name, np.full(len(self._ret), -np.inf))
        sums[mask] += values[mask]
        maxima[mask] = np.maximum(maxima[mask], values[mask])

    def _pop(self, env: int) -> EpisodeResult:
        logs = {f"{name}_sum": float(sums[env]) for name, sums in self._sums.items()}
        logs |= {f"{name}_max": float(maxima[env]) for name, maxima in self._maxima.items()}
        result = EpisodeResult(ret=float(self._ret[env]), length=int(self._length[env]), logs=logs)
        self.reset(env)
        return result

    def reset(self, env: int) -> None:
        self._ret[env] = self._length[env] = 0
        for sums in self._sums.values():
            sums[env] = 0
        for maxima in self._maxima.values():
            maxima[env] = -np.inf


class RowBuffer:
    """Rows of N environments on their way into chunks of at most `length` rows."""

    def __init__(self, tickets: list[StreamTicket], length: int) -> None:
        self._tickets, self._length = tickets, length
        self._arrays: Rows = {}
        self._counts = np.zeros(len(tickets), np.int64)
        self._rows_before = np.zeros(len(tickets), np.int64)
        self._sequences = np.zeros(len(tickets), np.int64)
        self._ready: list[tuple[int, Chunk]] = []

    def add(self, rows: Rows, envs: Array) -> None:
        """Append one row for each environment index in `envs`; the values are copied."""
        if not self._arrays:
            self._arrays = {key: self._allocate(value) for key, value in rows.items()}
        at = self._counts[envs]
        for key, array in self._arrays.items():
            array[envs, at] = rows[key][envs]
        self._counts[envs] += 1
        for env in envs[self._counts[envs] == self._length]:
            self._cut(int(env))

    def flush(self) -> list[tuple[int, Chunk]]:
        """Close every open chunk; return (shard, chunk) of all that are complete."""
        for env in np.flatnonzero(self._counts):
            self._cut(int(env))
        ready, self._ready = self._ready, []
        return ready

    def _allocate(self, values: Array) -> Array:
        return np.zeros((len(self._tickets), self._length, *values.shape[1:]), values.dtype)

    def _cut(self, env: int) -> None:
        ticket, count = self._tickets[env], int(self._counts[env])
        chunk = make_chunk(
            ticket.stream,
            ticket.number,
            int(self._sequences[env]),
            int(self._rows_before[env]),
            {key: array[env, :count] for key, array in self._arrays.items()},
        )
        self._ready.append((ticket.shard, chunk))
        self._sequences[env] += 1
        self._rows_before[env] += count
        self._counts[env] = 0
