"""Grants env steps to workers and batches to learners; knows streams and masses, sees no data.

Plain, synchronous, and it never waits: where nothing can be granted the answer says so, and the
caller asks again after the next change.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reverie.documents import parse
from reverie.protocols import StreamSpec
from reverie.replay.rate_limiter import Granted, RateLimiter
from reverie.seeds import SHARES, make_rng
from reverie.types import Counters, Json, JsonTree, StreamId

log = logging.getLogger(__name__)


STREAMS_PER_LIFE = 1 << 20
"""More streams than one coordinator opens; the numbers of all of them have 31 bits."""


class StreamTicket(NamedTuple):
    """Leave to write one new stream, and to which shard."""

    stream: StreamId
    number: int
    """Unique in the run; the upper half of step ids."""
    shard: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """Env steps a worker may take. 0 steps and not done: ask again later."""

    steps: int
    random: bool
    """Act at random: these steps belong to the prefill."""
    done: bool
    """The budget is spent; nothing will ever be granted again."""
    counters: Counters


class Part(NamedTuple):
    """Windows of one batch that one shard has."""

    shard: int
    slots: range
    """Which of the windows that the shard draws for this batch."""
    of: int
    """How many it draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Leave to train one batch."""

    number: int
    """Position of this batch in the run, from 0; refunded numbers are granted again."""
    counters: Counters
    """As if every earlier batch were trained."""
    draws: dict[str, list[int]]
    """Windows to ask of each shard, by stream name; only the streams due at `number`.

    The slots of a batch go round the shards once: shard 0 fills the first ones.
    """

    def parts(self, name: str, slots: range) -> list[Part]:
        """Where the windows of these slots of the batch come from, in their order."""
        found: list[Part] = []
        begin = 0
        for shard, count in enumerate(self.draws[name]):
            start, stop = max(slots.start - begin, 0), min(slots.stop - begin, count)
            if start < stop:
                found.append(Part(shard, range(start, stop), count))
            begin += count
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counted:
    """What `ReplayCoordinator.counts` returned."""

    limiter: dict[str, int]
    episodes: int
    env_failures: int
    late_reports: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved(_Counted):
    """What `ReplayCoordinator.state_dict` returned."""

    incarnations: list[tuple[int, int, int]]
    """(worker, env, incarnations handed out)."""
    streams: int


class ReplayCoordinator:
    """The run's limiter, stream registry and masses of the shards.

    Args:
        specs: the agent's streams; the first one's steps are what the ratio counts.
        ratio, prefill, pretrain_batches, budget, steps_ahead: as for `RateLimiter`.
        seed: of the draws over shards.
        action_repeat: env frames per env step.

    Raises:
        ValueError: no streams, a first stream that is not drawn every update, or a bad count.
    """

    def __init__(
        self,
        specs: Mapping[str, StreamSpec],
        *,
        ratio: float,
        prefill: int,
        pretrain_batches: int,
        budget: int,
        steps_ahead: int,
        envs_per_worker: int,
        num_workers: int,
        num_shards: int,
        seed: int = 0,
        action_repeat: int = 1,
    ) -> None:
        self._specs = dict(specs)
        batch_steps = _batch_steps(self._specs)
        self.limiter = RateLimiter(
            ratio=ratio,
            prefill=prefill,
            pretrain_batches=pretrain_batches,
            budget=budget,
            batch_steps=batch_steps,
            steps_ahead=steps_ahead,
            num_streams=envs_per_worker * num_workers,
        )
        self._num_workers, self._envs_per_worker = num_workers, envs_per_worker
        self._num_shards = num_shards
        self._seed, self._action_repeat = seed, action_repeat
        self._masses: list[dict[str, float]] = [{} for _ in range(num_shards)]
        self._incarnations: dict[tuple[int, int], int] = {}
        self._num_streams = self._episodes = self._failures = self._late_reports = 0
        self._paused = False

    def open_stream(self, worker: int, env: int) -> StreamTicket:
        """Start the next incarnation of environment `env` of `worker`.

        Its shard is that of every earlier incarnation: environments go round the shards in turn.
        """
        incarnation = self._incarnations.get((worker, env), 0)
        self._incarnations[worker, env] = incarnation + 1
        number, self._num_streams = self._num_streams, self._num_streams + 1
        shard = (worker * self._envs_per_worker + env) % self._num_shards
        return StreamTicket(StreamId(worker, env, incarnation), number, shard)

    def request_steps(self, worker: int, most: int) -> Quota:
        """Grant `worker` up to `most` env steps.

        Raises:
            ValueError: `most` below 1, or the worker has not reported its last quota.
        """
        held = None
        if not self._paused:
            held = self.limiter.request_steps(worker, most, can_sample=self._can_sample())
        if held is None:
            return Quota(
                steps=0, random=False, done=self.limiter.is_spent(), counters=self.counters()
            )
        return Quota(steps=held.steps, random=held.random, done=False, counters=self.counters())

    def report(
        self,
        worker: int,
        env_steps: int,
        episodes: int,
        masses: Mapping[int, Mapping[str, float]],
        failed: bool = False,
    ) -> None:
        """Take what `worker` did with its quota, after its rows were inserted.

        Fewer steps than granted give the rest back to the budget. `episodes` ended among them;
        `masses` is what the shards answered, by shard and stream name; `failed` environments are
        counted in `facts`. A report without a quota (its worker was declared lost meanwhile, its
        steps are counted) only updates the masses.

        Raises:
            ValueError: more steps than were granted.
        """
        in_time = self.limiter.report(worker, env_steps)
        for shard, found in masses.items():
            self.set_masses(shard, found)
        self._failures += failed
        if in_time:
            self._episodes += episodes
        elif env_steps:
            self._late_reports += 1
            log.warning("worker %d reported %d steps it held no quota for", worker, env_steps)

    def worker_lost(self, worker: int) -> int:
        """Count the worker's quota as consumed; returns the env steps lost."""
        return self.limiter.worker_lost(worker)

    def outstanding(self) -> int:
        """Env steps granted and not reported."""
        return self.limiter.outstanding()

    def can_grant(self) -> bool:
        """Whether `request_batch` would grant one now."""
        return self.limiter.may_train() and self._can_sample()

    def await_batch(self, patience: float) -> bool:
        """As `can_grant`: nothing changes while this object is asked, so waiting is useless."""
        return self.can_grant()

    def request_batch(self) -> Grant | None:
        """Grant the next batch; None where none is due or a due stream has nothing to draw."""
        if not self.can_grant():
            return None
        counters = self._counters_ahead()
        number = self.limiter.grant_batch()
        return Grant(number=number, counters=counters, draws=self._draws(number))

    def batch_trained(self, number: int) -> None:
        """Confirm a granted batch; in order of their numbers.

        Raises:
            ValueError: another batch is next, or none is in flight.
        """
        self.limiter.batch_trained(number)

    def settle(self) -> None:
        """Nothing is ever under way to this object."""

    def refund(self, count: int) -> None:
        """Take the newest `count` granted batches back. Raises: ValueError, fewer are in flight."""
        self.limiter.refund(count)

    def learner_lost(self) -> int:
        """Take back all batches in flight; returns the batches trained, which stay counted."""
        self.limiter.refund(self.limiter.in_flight)
        return self.limiter.trained_batches

    def set_masses(self, shard: int, masses: Mapping[str, float]) -> None:
        """What `shard` has to draw, by stream name."""
        self._masses[shard] = dict(masses)

    def shard_lost(self, shard: int) -> None:
        """Draw nothing from `shard` until it reports masses again."""
        self._masses[shard] = {}

    def pause(self) -> None:
        """Grant no env steps until `unpause`; batches are still granted."""
        self._paused = True

    def unpause(self) -> None:
        self._paused = False

    def finished(self) -> bool:
        """Whether the budget is consumed and everything owed for it was trained."""
        limiter = self.limiter
        return limiter.is_spent() and not limiter.in_flight and not limiter.may_train()

    def stalled(self) -> bool:
        """Whether the run can end only once a shard gets its rows back.

        The budget is consumed and batches are owed, but nothing is left to draw them from.
        """
        limiter = self.limiter
        return limiter.is_spent() and limiter.may_train() and not self._can_sample()

    def counters(self) -> Counters:
        """How far the run is, confirmed batches only."""
        return self._counters(self.limiter.trained_batches, self.limiter.trained_steps)

    def facts(self) -> dict[str, int | float]:
        """What was counted, for logs and the summary; `target_lag` in trained steps."""
        limiter = self.limiter
        return {
            "env_steps": limiter.env_steps,
            **limiter.state_dict(),
            "in_flight": limiter.in_flight,
            "outstanding": limiter.outstanding(),
            "target_lag": float(limiter.target - limiter.trained_steps),
            "episodes": self._episodes,
            "env_failures": self._failures,
            "late_reports": self._late_reports,
        }

    def counts(self) -> JsonTree:
        """What it has counted, JSON-able; the part of `state_dict` that does not grow."""
        return {
            "limiter": self.limiter.state_dict(),
            "episodes": self._episodes,
            "env_failures": self._failures,
            "late_reports": self._late_reports,
        }

    def state_dict(self) -> JsonTree:
        """JSON-able state. Pause and drain first: what is outstanding counts as never granted."""
        return self.counts() | {
            "incarnations": [[*env, count] for env, count in self._incarnations.items()],
            "streams": self._num_streams,
        }

    def load_state_dict(self, state: Mapping[str, Json]) -> None:
        """Go on from `state`; masses are the shards' to tell, by `set_masses`.

        Raises:
            DocumentError: a state that lacks something.
        """
        saved = parse(_Saved, state, "coordinator")
        self.take_over(state, Granted())
        self._incarnations = {(worker, env): count for worker, env, count in saved.incarnations}
        self._num_streams = saved.streams

    def take_over(self, counts: Mapping[str, Json], granted: Granted) -> None:
        """Count on from where another coordinator was, which had granted this.

        Streams go on being opened as before the call.

        Raises:
            DocumentError: counts that lack something.
        """
        counted = parse(_Counted, counts, "coordinator")
        self.limiter.load_state_dict(counted.limiter, granted)
        self._episodes, self._failures = counted.episodes, counted.env_failures
        self._late_reports = counted.late_reports

    def skip_streams(self, lives: int) -> None:
        """Leave out the stream numbers and incarnations that `lives` coordinators may have given
        to environments since the loaded state: none is ever given twice.
        """
        envs = range(self._envs_per_worker)
        pairs = {(worker, env) for worker in range(self._num_workers) for env in envs}
        for pair in pairs | self._incarnations.keys():
            self._incarnations[pair] = _skip(self._incarnations.get(pair, 0), lives)
        self._num_streams = _skip(self._num_streams, lives)

    def _counters(self, grad_updates: int, trained_steps: int) -> Counters:
        steps = self.limiter.env_steps
        return Counters(
            env_steps=steps,
            env_frames=steps * self._action_repeat,
            trained_steps=trained_steps,
            grad_updates=grad_updates,
            episodes=self._episodes,
        )

    def _counters_ahead(self) -> Counters:
        limiter = self.limiter
        ahead = limiter.in_flight * limiter.batch_steps
        return self._counters(limiter.next_batch, limiter.trained_steps + ahead)

    def _due(self, number: int) -> list[str]:
        return [name for name, spec in self._specs.items() if number % spec.every == 0]

    def _can_sample(self) -> bool:
        """Whether every stream due in the next batch has something to draw."""
        due = self._due(self.limiter.next_batch)
        return all(any(masses.get(name, 0.0) for masses in self._masses) for name in due)

    def _draws(self, number: int) -> dict[str, list[int]]:
        """Windows per shard, multinomial in the masses: the union is drawn from as one store."""
        rng = make_rng(self._seed, SHARES, number)
        draws: dict[str, list[int]] = {}
        for name in self._due(number):
            masses = np.array([shard.get(name, 0.0) for shard in self._masses])
            # Only shards with mass take part: rounding could give the last one a draw at mass 0.
            held = np.flatnonzero(masses)
            counts = np.zeros(len(masses), np.int64)
            shares = masses[held] / masses.sum()
            counts[held] = rng.multinomial(self._specs[name].batch_size, shares)
            draws[name] = [int(count) for count in counts]
        return draws


def _skip(number: int, lives: int) -> int:
    """The first number of the block that is `lives` further on."""
    return (number // STREAMS_PER_LIFE + lives) * STREAMS_PER_LIFE if lives else number


def _batch_steps(specs: Mapping[str, StreamSpec]) -> int:
    """Trained steps per batch: those of the first stream."""
    first = next(iter(specs.items()), None)
    if first is None or first[1].every != 1:
        raise ValueError(f"agent streams: expected a first one with every=1, got {dict(specs)}")
    return first[1].trained_steps
