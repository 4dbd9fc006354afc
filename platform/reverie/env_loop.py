"""Steps environments with a policy and turns what happens into chunks.

`EnvLoop` is the only place that builds rows. One call of `run` takes exactly the env steps it
was granted (fewer if an environment fails) and hands back every row it completed, so that
nothing is left open between two calls but the observations that wait for their action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from reverie.env_factory import EnvFault, GuardedVectorEnv
from reverie.errors import EnvFailed
from reverie.links import Acted, Actor
from reverie.protocols import Carry
from reverie.replay.coordinator import StreamTicket
from reverie.row_buffer import EpisodeMeter, RowBuffer, SideBuffer
from reverie.seeds import RANDOM_ACTIONS, derive_seed, make_rng
from reverie.settings import EnvConfig
from reverie.stop_signals import ShouldStop, never
from reverie.types import Array, Chunk, EpisodeResult, Rows, SideRows

if TYPE_CHECKING:
    from torch import Tensor

Column = TypeVar("Column", Array, "Tensor")
RANDOM_VERSION = -1
"""`policy_version` of rows whose action was drawn at random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What one grant of env steps brought."""

    chunks: list[tuple[int, Chunk]]
    """(shard, chunk) pairs in the order they were completed."""
    env_steps: int
    episodes: list[EpisodeResult]
    side: list[SideRows] = field(default_factory=list[SideRows])
    """What the actor has for the side table; to be inserted with the chunks."""
    fault: str | None = None
    """Traceback of an environment that failed and was rebuilt."""


class EnvLoop:
    """N environments of one worker, stepped together with one policy.

    Args:
        actor: chooses the actions that are not random.
        open_streams: hands out a fresh stream ticket for each environment.
        seed: seed of the run; episode seeds depend on it, the environment's index in the whole
            run, the stream's incarnation and the episode number, on nothing else.
    """

    def __init__(
        self,
        config: EnvConfig,
        actor: Actor,
        open_streams: Callable[[], list[StreamTicket]],
        *,
        chunk_length: int,
        first_index: int,
        seed: int,
        max_restarts: int,
    ) -> None:
        self._config, self._actor, self._open_streams = config, actor, open_streams
        self._chunk_length, self._first_index, self._seed = chunk_length, first_index, seed
        self._max_restarts, self._restarts = max_restarts, 0
        try:
            self._build()
        except EnvFault as error:
            raise EnvFailed(f"environment {self._config.name} cannot be built:\n{error}") from error

    @property
    def num_envs(self) -> int:
        return len(self._tickets)

    @property
    def restarts(self) -> int:
        return self._restarts

    def run(self, quota: int, *, random: bool, should_stop: ShouldStop = never) -> Collected:
        """Take `quota` env steps; fewer where an environment fails and has to be rebuilt.

        With `random` the actor is not asked. `should_stop` is, before every step: what is left of
        the quota is then not taken.

        Raises:
            EnvFailed: an environment failed once more than `max_restarts` allows, or broke its
                contract in a way that a rebuild does not mend; the message ends with its own
                traceback.
        """
        episodes: list[EpisodeResult] = []
        steps, fault = 0, None
        try:
            while steps < quota and not should_stop():
                steps += self._decide(quota - steps, random, episodes)
                self._advance(episodes)
        except EnvFault as error:
            fault = error
        chunks, side = self._buffer.flush(), self._side.flush()
        if fault is not None:
            self._rebuild(fault)
        text = None if fault is None else str(fault)
        return Collected(chunks=chunks, env_steps=steps, episodes=episodes, side=side, fault=text)

    def close(self) -> None:
        """Close the environments, unless they hang."""
        self._vector.close()

    def _decide(self, limit: int, random: bool, episodes: list[EpisodeResult]) -> int:
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
        envs = np.flatnonzero(deciding)
        if random:
            self._carry, version = None, RANDOM_VERSION
            self._actions = self._spaces.action.sample(self._rng, self.num_envs)
        else:
            version = self._choose(rows, deciding, envs)
        self._record(rows, envs, self._actions, version)
        return len(envs)

    def _choose(self, rows: Rows, deciding: Array, envs: Array) -> int:
        """Let the actor choose for `envs`, where `deciding`; returns the version that chose."""
        count = self.num_envs
        if self._carry is None:
            # After random actions the recurrent state is unknown: start as if an episode began.
            self._carry = self._actor.initial_carry(count)
            rows = rows | {"is_first": np.ones(count, bool)}
        self._actions = self._spaces.action.zeros(count)
        if not len(envs):
            return RANDOM_VERSION
        acted = act_where(self._actor, rows, self._carry, deciding)
        self._actions[deciding], self._carry = acted.action, acted.carry
        if acted.side:
            self._side.add(self._buffer.next_ids(envs), self._buffer.shards[envs], acted.side)
        return acted.version

    def _advance(self, episodes: list[EpisodeResult]) -> None:
        """Step the environments of the current mask and record rows that need no action."""
        rows = self._vector.step(self._actions, self._mask)
        self._rows = rows
        finished = self._meter.add(rows, self._mask)
        episodes += [result for _, result in finished]
        if finished:
            envs = np.array([env for env, _ in finished])
            self._record(rows, envs, self._spaces.action.zeros(self.num_envs), RANDOM_VERSION)

    def _record(self, rows: Rows, envs: Array, actions: Array, version: int) -> None:
        versions = np.full(self.num_envs, version, np.int64)
        self._buffer.add(rows | {"action": actions, "policy_version": versions}, envs)

    def _build(self) -> None:
        self._tickets = self._open_streams()
        self._vector = GuardedVectorEnv(self._config, len(self._tickets), self._episode_seed)
        self._spaces = self._vector.spaces
        incarnation = self._tickets[0].stream.incarnation
        self._rng = make_rng(self._seed, self._first_index, incarnation, RANDOM_ACTIONS)
        self._buffer = RowBuffer(self._tickets, self._chunk_length)
        self._side = SideBuffer()
        self._meter = EpisodeMeter(self.num_envs)
        self._rows: Rows | None = None
        self._carry: Carry | None = None

    def _rebuild(self, fault: EnvFault) -> None:
        self._vector.close()
        while True:
            if fault.will_repeat:
                raise EnvFailed(
                    f"environment {self._config.name} would do the same again, it is not rebuilt:\n"
                    f"{fault}",
                    will_repeat=True,
                )
            self._restarts += 1
            if self._restarts > self._max_restarts:
                raise EnvFailed(
                    f"environment {self._config.name} failed {self._restarts} times "
                    f"(run.max_env_restarts={self._max_restarts}); the last time:\n{fault}"
                )
            try:
                return self._build()
            except EnvFault as error:
                fault = error

    def _episode_seed(self, env: int, episode: int) -> int:
        incarnation = self._tickets[env].stream.incarnation
        return derive_seed(self._seed, self._first_index + env, incarnation, episode)


def act_where(actor: Actor, rows: Rows, carry: Carry, mask: Array) -> Acted:
    """Act on the rows where `mask` is set; the others keep their recurrent state.

    Returns:
        Actions and side columns [count of mask, ...], and the carry of all environments.
    """
    if mask.all():
        return actor.act(rows, carry)
    index = np.flatnonzero(mask)
    part = {key: value[index] for key, value in carry.items()}
    acted = actor.act({key: value[index] for key, value in rows.items()}, part)
    whole = {key: _scattered(carry[key], index, value) for key, value in acted.carry.items()}
    return replace(acted, carry=whole)


def _scattered(old: Column, index: Array, new: Column) -> Column:
    """A copy of `old` [N, ...] with `new` written at `index`."""
    copy = old.copy() if isinstance(old, np.ndarray) else old.clone()
    copy[index] = new
    return copy
