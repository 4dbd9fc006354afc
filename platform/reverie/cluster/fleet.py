"""The actors of one run: launched under their names, called by role and index, ended in order."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (ray types neither remote classes nor their calls)
from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorAlreadyExistsError, RayTaskError

from reverie.cluster.connection import NAMESPACE
from reverie.cluster.links import actor_name
from reverie.errors import RunError

NAME_PATIENCE_S = 30.0
"""Seconds a dead actor's name may take to become free."""
READY = "__ray_ready__"
"""A method of every actor: it answers once the actor is built."""


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """One part of a run."""

    role: str
    index: int

    def __str__(self) -> str:
        return f"{self.role} {self.index}"


class Ask(NamedTuple):
    """A call to a part, not sent yet."""

    key: Key
    method: str
    arguments: tuple[Any, ...] = ()
    or_none: bool = False
    """Answer None where the part is being replaced or dies, instead of asking the next one."""


Steps = Generator[Ask | None, Any, None]
"""A procedure nobody waits for: it yields the call whose answer it wants sent back, or None to be
continued a little later. A call is repeated if its part dies and is replaced before it answered,
unless None will do."""


class Fleet:
    """Launches the actors of one run and calls them; knows neither what they are nor what for."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.actors: dict[Key, ActorHandle[Any]] = {}

    def launch(
        self, key: Key, maker: type, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Steps:
        """Launch an actor, in place of one that died, once the dead one's name is free."""
        name = actor_name(self._run_id, key.role, key.index)
        if key in self.actors:
            self.kill(key)  # one that is merely unreachable keeps its name otherwise
        deadline = time.monotonic() + NAME_PATIENCE_S
        remote: Any = ray.remote(maker).options(**options, name=name, namespace=NAMESPACE)
        while True:
            try:
                self.actors[key] = remote.remote(*arguments)
            except ActorAlreadyExistsError:
                if time.monotonic() > deadline:
                    raise
                yield None
            else:
                return

    def send(self, ask: Ask) -> ray.ObjectRef[Any]:
        """Call an actor; returns the future of its answer."""
        return getattr(self.actors[ask.key], ask.method).remote(*ask.arguments)

    def kill(self, key: Key) -> None:
        """End an actor at once; it stays known, to be launched again."""
        ray.kill(self.actors[key])

    def forget(self, key: Key) -> None:
        """Let go of an actor that is dead and not needed now."""
        del self.actors[key]

    def close(self, roles: Iterable[str]) -> None:
        """End all actors, role by role."""
        for role in roles:
            for key in [key for key in self.actors if key.role == role]:
                self.kill(key)
                self.forget(key)


def fetch(ref: ray.ObjectRef[Any]) -> Any:
    """`ray.get`, with our own errors, and a full disk, as themselves instead of wrapped in a remote
    traceback.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or isinstance(cause, RunError):
            raise cause from None
        raise
