"""Steps environments with a policy and turns what happens into chunks.

`EnvLoop` is the only place that builds rows. One call of `run` takes exactly the env steps it
was granted (fewer if an environment fails) and hands back every row it completed, so that
nothing is left open between two calls but the observations that wait for their action.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie import registry
from reverie.chunk import make_chunk
from reverie.config import EnvConfig
from reverie.errors import EnvFailed
from reverie.protocols import Agent, Carry, EnvSeed, Mode, VectorEnv
from reverie.replay_coordinator import StreamTicket
from reverie.types import LOG_PREFIX, Array, Chunk, Counters, EpisodeResult, Rows, Spaces

RANDOM_VERSION = -1
"""`policy_version` of rows whose action was drawn at random."""


class EnvTimeout(RuntimeError):
    """An environment did not come back in time; the message shows where it hangs."""


def derive_seed(*path: int) -> int:
    """Mix non-negative integers into one 31-bit seed; different paths give unrelated seeds."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] >> 1)


def make_env(name: str | EnvConfig, **options: Any) -> Any:
    """Build one environment, e.g. `make_env("atari100k/pong")`: a plain `gymnasium.Env`.

    Raises:
        ConfigError: an unknown suite, task or option.
    """
    from reverie.config import resolve_env

    config = name if isinstance(name, EnvConfig) else resolve_env(_env_tree(name, options))
    return registry.suite(config.suite).make(config.task, config.options)


def make_vector_env(config: EnvConfig, count: int, seeds: EnvSeed) -> VectorEnv:
    """Build `count` environments behind one `VectorEnv`, natively where the suite can."""
    suite = registry.suite(config.suite)
    if hasattr(suite, "make_vector"):
        return suite.make_vector(config.task, config.options, count, seeds)
    makers = [lambda: suite.make(config.task, config.options)] * count
    return registry.load(registry.VECTOR_ENV)(makers, seeds)


def spaces_of(config: EnvConfig) -> Spaces:
    """Read the spaces of an environment by building one and closing it again."""
    vector = make_vector_env(config, 1, lambda env, episode: 0)
    try:
        return vector.spaces
    finally:
        vector.close()


class EnvThread:
    """A daemon thread that runs calls with a time limit.

    Environments live in it from their construction on: some bind graphics contexts to a thread.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self.is_lost = timeout_s, False
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="env", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` there and wait for it.

        Raises:
            EnvTimeout: it took longer than the limit; the thread is lost.
        """
        self._calls.put(function)
        try:
            result, error = self._results.get(timeout=self._timeout_s or None)
        except queue.Empty:
            self.is_lost = True
            raise EnvTimeout(self._where_it_hangs()) from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self._calls.put(None)

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                self._results.put((function(), None))
            except BaseException as error:  # handed to the caller, whatever it is
                self._results.put((None, error))

    def _where_it_hangs(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        return f"no answer within env.step_timeout_s={self._timeout_s:g} s; it hangs at:\n{stack}"


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
        result = EpisodeResult(float(self._ret[env]), int(self._length[env]), logs)
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


@dataclass(frozen=True, slots=True)
class Collected:
    """What one grant of env steps brought."""

    chunks: list[tuple[int, Chunk]]
    """(shard, chunk) pairs in the order they were completed."""
    env_steps: int
    episodes: list[EpisodeResult]
    fault: str | None = None
    """Traceback of an environment that failed and was rebuilt."""


class EnvLoop:
    """N environments of one worker, stepped together with one policy.

    Args:
        open_streams: hands out a fresh stream ticket for each environment.
        seed: seed of the run; episode seeds depend on it, the environment's index in the whole
            run, the stream's incarnation and the episode number, on nothing else.
    """

    def __init__(
        self,
        config: EnvConfig,
        agent: Agent,
        open_streams: Callable[[], list[StreamTicket]],
        *,
        chunk_length: int,
        first_index: int,
        seed: int,
        max_restarts: int,
    ) -> None:
        self._config, self._agent, self._open_streams = config, agent, open_streams
        self._chunk_length, self._first_index, self._seed = chunk_length, first_index, seed
        self._max_restarts, self._restarts = max_restarts, 0
        try:
            self._build()
        except _EnvError as error:
            raise EnvFailed(f"environment {self._name} cannot be built:\n{error}") from error

    @property
    def num_envs(self) -> int:
        return len(self._tickets)

    @property
    def _name(self) -> str:
        return f"{self._config.suite}/{self._config.task}"

    @property
    def restarts(self) -> int:
        return self._restarts

    def run(self, quota: int, *, random: bool, version: int, counters: Counters) -> Collected:
        """Take `quota` env steps; fewer where an environment fails and has to be rebuilt.

        Raises:
            EnvFailed: an environment failed once more than `max_restarts` allows; the message
                ends with its own traceback.
        """
        steps, episodes, fault = 0, [], None
        try:
            while steps < quota:
                steps += self._decide(quota - steps, random, version, counters, episodes)
                self._advance(episodes)
        except _EnvError as error:
            fault = str(error)
        chunks = self._buffer.flush()
        if fault is not None:
            self._rebuild(fault)
        return Collected(chunks, steps, episodes, fault)

    def close(self) -> None:
        """Close the environments, unless they hang."""
        if not self._thread.is_lost:
            self._thread.call(self._vector.close)
        self._thread.stop()

    def _decide(
        self, limit: int, random: bool, version: int, counters: Counters, episodes: list[Any]
    ) -> int:
        """Choose and record actions for up to `limit` rows that wait for one."""
        if self._rows is None:
            self._mask = np.ones(self.num_envs, bool)
            self._actions = self._spaces.action.zeros(self.num_envs)
            self._advance(episodes)
        rows = self._rows
        assert rows is not None
        deciding = ~rows["is_last"]
        deciding &= np.cumsum(deciding) <= limit
        self._mask = deciding | rows["is_last"]
        self._actions = self._choose(rows, deciding, random, counters)
        chosen = RANDOM_VERSION if random else version
        self._record(rows, np.flatnonzero(deciding), self._actions, chosen)
        return int(np.count_nonzero(deciding))

    def _choose(self, rows: Rows, deciding: Array, random: bool, counters: Counters) -> Array:
        count = self.num_envs
        if random:
            self._carry = None
            return self._spaces.action.sample(self._rng, count)
        if self._carry is None:
            # Behind random actions the recurrent state is unknown: start as if an episode began.
            self._carry = self._agent.initial_carry(count)
            rows = rows | {"is_first": np.ones(count, bool)}
        actions = self._spaces.action.zeros(count)
        if deciding.any():
            actions[deciding], self._carry = act_where(
                self._agent, rows, self._carry, deciding, "train", counters
            )
        return actions

    def _advance(self, episodes: list[EpisodeResult]) -> None:
        """Step the environments of the current mask and record rows that need no action."""
        rows = self._call(lambda: self._vector.step(self._actions, self._mask))
        self._rows = rows
        finished = self._meter.add(rows, self._mask)
        episodes += [result for _, result in finished]
        if finished:
            envs = np.array([env for env, _ in finished])
            self._record(rows, envs, self._spaces.action.zeros(self.num_envs), RANDOM_VERSION)

    def _record(self, rows: Rows, envs: Array, actions: Array, version: int) -> None:
        versions = np.full(self.num_envs, version, np.int64)
        self._buffer.add(rows | {"action": actions, "policy_version": versions}, envs)

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return self._thread.call(function)
        except Exception as error:
            raise _EnvError(_own_traceback(error)) from error

    def _build(self) -> None:
        self._thread = EnvThread(self._config.step_timeout_s)
        self._tickets = self._open_streams()
        self._vector: VectorEnv = self._call(
            lambda: make_vector_env(self._config, len(self._tickets), self._episode_seed)
        )
        self._spaces = self._vector.spaces
        incarnation = self._tickets[0].stream.incarnation
        self._rng = np.random.default_rng([self._seed, self._first_index, incarnation, 1])
        self._buffer = RowBuffer(self._tickets, self._chunk_length)
        self._meter = EpisodeMeter(self.num_envs)
        self._rows: Rows | None = None
        self._carry: Carry | None = None

    def _rebuild(self, fault: str) -> None:
        while True:
            self._restarts += 1
            if self._restarts > self._max_restarts:
                raise EnvFailed(
                    f"environment {self._name} failed {self._restarts} times "
                    f"(run.max_env_restarts={self._max_restarts}); the last time:\n{fault}"
                )
            self._thread.stop()
            try:
                return self._build()
            except _EnvError as error:
                fault = str(error)

    def _episode_seed(self, env: int, episode: int) -> int:
        incarnation = self._tickets[env].stream.incarnation
        return derive_seed(self._seed, self._first_index + env, incarnation, episode)


class _EnvError(Exception):
    """An environment failed; the text is its own traceback."""


def act_where(
    agent: Agent, rows: Rows, carry: Carry, mask: Array, mode: Mode, counters: Counters
) -> tuple[Array, Carry]:
    """Act on the rows where `mask` is set; the others keep their recurrent state.

    Returns:
        Actions [count of mask, ...] and the carry of all environments.
    """
    if mask.all():
        return agent.act(rows, carry, mode, counters)
    index = np.flatnonzero(mask)
    part = {key: value[index] for key, value in carry.items()}
    actions, part = agent.act({k: v[index] for k, v in rows.items()}, part, mode, counters)
    return actions, {key: _scattered(carry[key], index, value) for key, value in part.items()}


def _scattered(old: Any, index: Array, new: Any) -> Any:
    """A copy of `old` [N, ...] (array or tensor) with `new` written at `index`."""
    copy = old.copy() if isinstance(old, np.ndarray) else old.clone()
    copy[index] = new
    return copy


def _own_traceback(error: BaseException) -> str:
    """The traceback of `error` without the frames of this file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    lines = traceback.format_list(own) + traceback.format_exception_only(error)
    return "".join(lines)


def _env_tree(name: str, options: dict[str, Any]) -> dict[str, Any]:
    suite, _, task = name.partition("/")
    return {"suite": suite, "task": task, **options}
