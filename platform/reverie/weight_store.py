"""Versioned weights: the newest for the environment workers, pinned ones for evaluations."""

from __future__ import annotations

from typing import NamedTuple

from reverie.types import Array, Version

State = dict[str, Array]


class Pinned(NamedTuple):
    """Weights kept for one evaluation."""

    version: Version
    env_steps: int
    """Env steps taken when they were pinned: where the score stands on the curve."""
    state: State


class WeightStore:
    """Holds the bytes of the newest weights and of every pinned snapshot, as numpy arrays."""

    def __init__(self) -> None:
        self._newest: tuple[Version, State] | None = None
        self._pinned: dict[int, Pinned] = {}

    def publish(self, version: Version, state: State) -> None:
        """Make `state` the newest; an older version than the present one is ignored."""
        if self._newest is None or tuple(version) > tuple(self._newest[0]):
            self._newest = (version, state)

    def newer_than(self, version: Version | None) -> tuple[Version, State] | None:
        """Return the newest weights, or None if `version` is as new."""
        newest = self._newest
        if newest is None or (version is not None and tuple(newest[0]) <= tuple(version)):
            return None
        return newest

    def pin(self, version: Version, env_steps: int, state: State) -> None:
        """Keep a snapshot for the evaluation at `env_steps` until `unpin`."""
        self._pinned[env_steps] = Pinned(version, env_steps, state)

    def pinned(self, env_steps: int) -> Pinned | None:
        """What is pinned there, if anything: a store that was replaced has forgotten it."""
        return self._pinned.get(env_steps)

    def unpin(self, env_steps: int) -> None:
        self._pinned.pop(env_steps, None)

    def pins(self) -> list[int]:
        """Env steps of the snapshots that wait for their evaluation, oldest first."""
        return sorted(self._pinned)

    def stats(self) -> dict[str, Version | int | None]:
        return {"version": self._newest and self._newest[0], "pinned": len(self._pinned)}
