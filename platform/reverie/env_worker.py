"""One worker: asks for env steps, takes them with the newest weights, hands the rows on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from reverie.agent_actor import make_agent_actor
from reverie.config import TrainConfig
from reverie.env_loop import Collected, EnvLoop
from reverie.errors import ReplayLost
from reverie.links import Quotas, Report, Shards, Weights
from reverie.replay.coordinator import StreamTicket
from reverie.seeds import ACTING, derive_seed
from reverie.stop_signals import ShouldStop, never
from reverie.types import Chunk, EpisodeResult, Spaces


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectStats:
    """What one call of `collect` did."""

    worker: int
    env_steps: int
    episodes: list[EpisodeResult]
    waited_s: float
    """Seconds spent waiting for a quota."""
    worked_s: float
    done: bool
    """The budget holds no more steps for this worker."""
    fault: str | None = None
    """Traceback of an environment that failed and was rebuilt."""
    lost_rows: int = 0
    """Rows that no shard took in time."""
    untold: Report | None = None
    """What the coordinator could not be told yet of these steps."""


class EnvWorker:
    """Steps its environments and writes chunks to the shards its streams belong to.

    Owns no shared state: after a crash a fresh one goes on, with new streams.

    Args:
        coordinator, shards, weights: links to the other parts, plain objects in one process.
    """

    def __init__(
        self,
        config: TrainConfig,
        spaces: Spaces,
        worker_id: int,
        coordinator: Quotas,
        shards: Shards,
        weights: Weights,
    ) -> None:
        self.worker_id, self._config = worker_id, config
        self._coordinator, self._shards, self._weights = coordinator, shards, weights
        count = config.resources.envs_per_worker
        self._most = count * config.quota
        tickets = self._open_streams()
        seed = derive_seed(config.seed, worker_id, tickets[0].stream.incarnation, ACTING)
        self._actor = make_agent_actor(config, spaces, seed=seed, mode="train")
        self._fresh_tickets: list[StreamTicket] | None = tickets
        self._loop = EnvLoop(
            config.env,
            self._actor,
            self._next_streams,
            chunk_length=config.replay.chunk_length,
            first_index=worker_id * count,
            seed=config.seed,
            max_restarts=config.run.max_env_restarts,
        )

    def collect(self, should_stop: ShouldStop = never) -> CollectStats:
        """Take one quota of env steps, or as much as `should_stop` lets, and insert their rows.

        Waits until the coordinator grants a quota or its patience ends.

        Raises:
            EnvFailed: an environment failed too often.
        """
        begin = time.perf_counter()
        quota = self._coordinator.request_steps(self.worker_id, self._most)
        granted = time.perf_counter()
        if quota.steps == 0:
            return CollectStats(
                worker=self.worker_id,
                env_steps=0,
                episodes=[],
                waited_s=granted - begin,
                worked_s=0.0,
                done=quota.done,
            )
        self._refresh_weights()
        self._actor.counters = quota.counters
        if quota.random and self._config.run.prefill_actions == "policy":
            random = False  # before the first weights arrive its own are as fresh
        else:
            random = quota.random or self._actor.version is None
        found = self._loop.run(quota.steps, random=random, should_stop=should_stop)
        lost_rows = self._hand_over(found)
        worked = time.perf_counter() - granted
        return CollectStats(
            worker=self.worker_id,
            env_steps=found.env_steps,
            episodes=found.episodes,
            waited_s=granted - begin,
            worked_s=worked,
            done=quota.done,
            fault=found.fault,
            lost_rows=lost_rows,
        )

    def close(self) -> None:
        self._loop.close()

    def _hand_over(self, found: Collected) -> int:
        """Insert chunks and what belongs beside them, then report the steps with the new masses."""
        masses: dict[int, dict[str, float]] = {}
        lost = 0
        for shard in sorted({shard for shard, _ in found.chunks}):
            chunks = [chunk for at, chunk in found.chunks if at == shard]
            side = [rows for rows in found.side if rows.shard == shard]
            try:
                masses[shard] = self._shards[shard].insert(chunks, side)
            except ReplayLost:
                lost += _num_rows(chunks)
        failed = found.fault is not None
        self._coordinator.report(
            self.worker_id, found.env_steps, len(found.episodes), masses, failed
        )
        return lost

    def _refresh_weights(self) -> None:
        newer = self._weights.newer_than(self._actor.version)
        if newer is not None:
            self._actor.load(*newer)

    def _open_streams(self) -> list[StreamTicket]:
        envs = range(self._config.resources.envs_per_worker)
        return [self._coordinator.open_stream(self.worker_id, env) for env in envs]

    def _next_streams(self) -> list[StreamTicket]:
        tickets, self._fresh_tickets = self._fresh_tickets, None
        return tickets or self._open_streams()


def _num_rows(chunks: list[Chunk]) -> int:
    return int(np.sum([chunk.num_rows for chunk in chunks]))
