"""What becomes of the rows of a worker: chunks for the replay and results of episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reverie.replay.chunk import make_chunk
from reverie.replay.coordinator import StreamTicket
from reverie.types import LOG_PREFIX, Array, Chunk, EpisodeResult, Rows, SideRows, step_ids


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

    def cut(self, limit: int) -> list[tuple[int, EpisodeResult]]:
        """End the episodes that took `limit` decisions; return (env, result) of them."""
        found = [int(env) for env in np.flatnonzero(self._length >= limit)]
        return [(env, replace(self._pop(env), is_cut=True)) for env in found]

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
        self.shards = np.array([ticket.shard for ticket in tickets])
        """Shard [N] each environment's rows go to."""
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

    def next_ids(self, envs: Array) -> Array:
        """Step ids int64 [count of envs] of the rows that `add` would take next."""
        rows = (self._rows_before + self._counts)[envs]
        numbers = [self._tickets[int(env)].number for env in envs]
        return np.concatenate(
            [step_ids(number, int(row), 1) for number, row in zip(numbers, rows, strict=True)]
        )

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


class SideBuffer:
    """Side columns of rows that are on their way into the shards."""

    def __init__(self) -> None:
        self._parts: list[tuple[Array, Array, Rows]] = []

    def add(self, step_ids: Array, shards: Array, values: Rows) -> None:
        """Keep columns [n, ...] of the rows `step_ids` [n], whose shards are `shards` [n]."""
        self._parts.append((step_ids, shards, values))

    def flush(self) -> list[SideRows]:
        """Everything kept, by shard; columns that not every part has are kept apart."""
        parts, self._parts = self._parts, []
        found: list[SideRows] = []
        for names in {tuple(sorted(values)) for _, _, values in parts}:
            own = [part for part in parts if tuple(sorted(part[2])) == names]
            ids = np.concatenate([part[0] for part in own])
            shards = np.concatenate([part[1] for part in own])
            columns = {name: np.concatenate([part[2][name] for part in own]) for name in names}
            for shard in np.unique(shards):
                here = shards == shard
                values = {name: column[here] for name, column in columns.items()}
                found.append(SideRows(int(shard), ids[here], values))
        return found
