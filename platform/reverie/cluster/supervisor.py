"""Keeps the parts of a run at work: sends, takes, watches, mends, and never waits for one of them.

What is under way is one table of futures. `pump` waits for any of them and deals with all that
are there: a result goes to the part's row in `reverie.cluster.roles`, an answer to whoever asked,
a death starts the row's `mend`. Every death is the same event, that of a part being mended too.
"""

# Ray's futures are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from reverie.cluster.connection import lost_process
from reverie.cluster.fleet import Ask, Key, Steps, fetch
from reverie.cluster.links import GONE
from reverie.cluster.role import Role, Site
from reverie.errors import ClusterLost, PartLost, WorkerLost
from reverie.wiring import Events, Fault

log = logging.getLogger(__name__)

DEATHS = (*GONE, OutOfMemoryError, WorkerCrashedError, NodeDiedError)
"""What Ray raises for a call whose actor is gone. A part that failed because one that it called is
gone raises the same and is replaced too: what it had been granted is then settled.
"""
NAMED_S = 30.0
"""Seconds after which a part that seems to hang is named in the log."""
CHECK_EVERY_S = 1.0
"""Seconds between two looks at parts that only answer, and at those that may hang."""
CLUSTER_EVERY_S = 5.0
"""Seconds between two looks at Ray itself, which asks its head about all nodes."""
POLL_S = 0.1
"""Seconds until a mending that waits for no call is gone on with."""


@dataclass(eq=False, slots=True)
class Mending:
    """A part on its way (back) to life."""

    key: Key
    steps: Steps
    reason: str | None
    """What it died of; None at its first launch."""
    wanted: Ask | None = None
    """The call it waits for."""


@dataclass(eq=False, slots=True)
class Answer:
    """Where an asked part's answer comes to lie."""

    value: Any = None
    error: Exception | None = None
    is_there: bool = False


@dataclass(eq=False, frozen=True, slots=True)
class Call:
    """A call that is under way."""

    ask: Ask
    launch: int
    """Which actor was asked; another may have taken its place since."""
    receiver: Mending | Answer | None
    """Who waits for it; None: it is a piece of work or a ping."""
    sent: float = field(default_factory=time.monotonic)


class Supervisor:
    """The parts of one run, launched, fed and mended by their rows.

    Args:
        feeds: give parts their work as soon as they have none; otherwise they are only asked.
    """

    def __init__(self, site: Site[Any], roles: Sequence[Role[Any]], *, feeds: bool) -> None:
        self._site, self._fleet, self._feeds = site, site.fleet, feeds
        self._roles = {role.name: role for role in roles}
        self._under_way: dict[ray.ObjectRef[Any], Call] = {}
        self._mending: dict[Key, Mending] = {}
        self._polled: list[Mending] = []
        self._idle: dict[Key, None] = {}
        self._deaths: Counter[Key] = Counter()
        self._given_up: dict[Key, WorkerLost] = {}
        self._named: set[tuple[str, Key, int]] = set()
        self._ended: set[tuple[Key, int]] = set()
        """Parts, by launch, that seem to hang and that were ended for it."""
        self._events = Events()
        self._next_check = self._next_cluster_check = 0.0
        self.cluster_is_lost = False
        """Nothing can be asked of the parts any more."""

    def start(self) -> None:
        """Launch all parts at once and wait until they live: processes take seconds to import."""
        for role in self._roles.values():
            for index in range(role.count(self._site.config)):
                if role.on_demand:
                    self._idle[Key(role.name, index)] = None
                else:
                    self._mend(Key(role.name, index), None)
        while self._mending:
            self.pump(1.0)

    def pop_events(self) -> Events:
        """What happened since the last call."""
        events, self._events = self._events, Events()
        events.faults += self._site.faults
        self._site.faults = []
        return events

    def is_busy(self) -> bool:
        """Whether a part works, or is being mended; those on demand apart."""
        keys = {call.ask.key for call in self._under_way.values()} | self._mending.keys()
        return any(not self._roles[key.role].on_demand for key in keys)

    def is_whole(self) -> bool:
        """Whether every part lives or is on its way back."""
        return not self._given_up

    def works(self, key: Key) -> bool:
        """Whether this part works or is being mended."""
        return key in self._mending or any(key == c.ask.key for c in self._under_way.values())

    def ask(self, key: Key, method: str, *arguments: Any) -> Any:
        """Call a part and return its answer; everything else goes on meanwhile.

        Raises:
            RunError: the part's own, as it was raised there.
            PartLost: it died before it answered; it is being replaced.
            WorkerLost: it died too often before.
        """
        return self.ask_all([Ask(key, method, arguments)])[0]

    def ask_all(self, asks: Sequence[Ask]) -> list[Any]:
        """Call several parts at once and return their answers. Raises: as `ask`."""
        answers = [Answer() for _ in asks]
        for ask, answer in zip(asks, answers, strict=True):
            while ask.key in self._mending:
                self.pump(1.0)
            if ask.key in self._given_up:
                raise self._given_up[ask.key]
            self._send(ask, answer)
        while not all(answer.is_there for answer in answers):
            self.pump(1.0)
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        return [answer.value for answer in answers]

    def do(self, key: Key) -> None:
        """Have a part do its work once, if there is any; return when its row took the result.

        Raises: as `ask`.
        """
        role = self._roles[key.role]
        work = role.work(self._site, key.index)
        if work is not None:
            if key not in self._fleet.actors:
                self._mend(key, None)
            method, *arguments = work
            role.take(self._site, key.index, self.ask(key, method, *arguments), self._events)

    def pump(self, timeout: float) -> None:
        """Take every result that is there, waiting up to `timeout` seconds for the first.

        Raises:
            RunError: a part's own.
            WorkerLost: a part died too often.
            ClusterLost: Ray itself is gone.
        """
        self._check()
        if self._feeds:
            self._feed()
        polled, self._polled = self._polled, []
        for mending in polled:
            self._go_on(mending)
        refs = [*self._under_way]
        timeout = min(timeout, POLL_S) if self._polled else timeout
        if not refs:
            time.sleep(min(timeout, POLL_S))
            return
        ray.wait(refs, num_returns=1, timeout=timeout)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            self._take(ref, self._under_way.pop(ref))

    def close(self) -> None:
        """End all parts, those that call others first."""
        self._fleet.close([*self._roles][::-1])
        for ref in self._under_way:  # so that Ray does not report them later
            try:
                ray.get(ref, timeout=5)
            except RayError as error:
                log.debug("%s", error)
        self._under_way.clear()

    def _send(self, ask: Ask, receiver: Mending | Answer | None) -> None:
        call = Call(ask, self._site.launches[ask.key], receiver)
        self._under_way[self._fleet.send(ask)] = call

    def _take(self, ref: ray.ObjectRef[Any], call: Call) -> None:
        """Hand a result to the mending or the caller that waits for it, or to the part's row."""
        key, receiver = call.ask.key, call.receiver
        try:
            result = fetch(ref)
        except DEATHS as error:
            self._lost(call, error)
            return
        except Exception as error:
            self._check_cluster()  # which may be why
            if not isinstance(receiver, Answer):
                raise
            receiver.error, receiver.is_there = error, True
            return
        if isinstance(receiver, Answer):
            receiver.value, receiver.is_there = result, True
        elif receiver is None:
            self._idle[key] = None
            self._roles[key.role].take(self._site, key.index, result, self._events)
        elif self._mending.get(receiver.key) is receiver:
            self._advance(receiver, result)

    def _feed(self) -> None:
        """Give every part that has nothing to do its next piece of work."""
        for key in [*self._idle]:
            work = self._roles[key.role].work(self._site, key.index)
            if work is None:
                continue
            del self._idle[key]
            if key in self._fleet.actors:
                method, *arguments = work
                self._send(Ask(key, method, tuple(arguments)), None)
            else:
                self._mend(key, None)

    def _check(self) -> None:
        """Ask parts that only answer whether they live; name and end those that hang."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_EVERY_S
        if now >= self._next_cluster_check:
            self._next_cluster_check = now + CLUSTER_EVERY_S
            self._check_cluster()
        for call in [*self._under_way.values()]:
            limit = self._roles[call.ask.key.role].hang_after_s
            if limit is not None and call.receiver is None and self._is_of_now(call):
                text = f"has not returned from {call.ask.method!r}"
                self._judge(call.ask.key, text, now - call.sent, limit(self._site.config))
        silent, self._site.silent = self._site.silent, {}
        for key, seconds in silent.items():
            if key in self._site.ready_at and key in self._fleet.actors:
                text, limit = "gave no sign of life", self._roles[key.role].silent_after_s
                self._judge(key, text, seconds, limit)
        for key in [*self._idle]:
            method = self._roles[key.role].pinged
            if method is not None:
                del self._idle[key]
                self._send(Ask(key, method), None)

    def _check_cluster(self) -> None:
        if not self.cluster_is_lost and (lost := lost_process()) is not None:
            self.cluster_is_lost = True
            raise ClusterLost(f"{lost} is gone, and nothing can go on or be saved without it")

    def _judge(self, key: Key, text: str, seconds: float, limit: float) -> None:
        """Name a part that seems to hang, once; end it when it has done so for too long."""
        at = key, self._site.launches[key]
        if seconds > limit and at not in self._ended:
            self._ended.add(at)
            log.warning("%s %s for %.0f s: ended, to be replaced", key, text, seconds)
            self._fleet.kill(key)
        elif seconds > NAMED_S and (text, *at) not in self._named:
            self._named.add((text, *at))
            log.warning("%s %s for %.0f s; replaced after %.0f s", key, text, seconds, limit)

    # Mending

    def _is_of_now(self, call: Call) -> bool:
        return call.launch == self._site.launches[call.ask.key]

    def _lost(self, call: Call, error: Exception) -> None:
        """Replace the part that a call died with, and tell who waits for the answer."""
        key, receiver = call.ask.key, call.receiver
        if isinstance(receiver, Answer):
            receiver.error = PartLost(f"{key} died: {_first_line(error)}")
            receiver.is_there = True
        if self._is_of_now(call) and key not in self._given_up:
            self._replace(key, error)
        if isinstance(receiver, Mending) and self._mending.get(receiver.key) is receiver:
            self._polled.append(receiver)  # it asks the next one of that part, or does without

    def _replace(self, key: Key, error: Exception) -> None:
        """Count a death and begin to mend, anew if a mending was under way."""
        role = self._roles[key.role]
        self._deaths[key] += 1
        self._idle.pop(key, None)
        count, most = self._deaths[key], self._site.config.run.max_actor_restarts
        if count > most:
            self._mending.pop(key, None)
            often = f"{key} died {count} times (run.max_actor_restarts={most})"
            self._given_up[key] = WorkerLost(f"{often}: {_first_line(error)}{role.remedy}")
            raise self._given_up[key]
        if role.on_demand:
            self._mending.pop(key, None)
            self._fleet.forget(key)
            self._idle[key] = None
            self._report(key, _first_line(error))
        else:
            self._mend(key, _first_line(error))

    def _mend(self, key: Key, reason: str | None) -> None:
        role = self._roles[key.role]
        self._site.lost.setdefault(key, Counter())
        mending = Mending(key, role.mend(role, self._site, key.index), reason)
        self._mending[key] = mending
        self._advance(mending, None)

    def _advance(self, mending: Mending, value: Any) -> None:
        """Send a mending the answer it waited for, and make the call it wants next."""
        try:
            mending.wanted = mending.steps.send(value)
        except StopIteration:
            del self._mending[mending.key]
            self._idle[mending.key] = None
            if mending.reason is not None:
                self._report(mending.key, mending.reason)
            return
        if mending.wanted is None:
            self._polled.append(mending)
        else:
            self._go_on(mending)

    def _go_on(self, mending: Mending) -> None:
        """Make the call that a mending wants, once the part it asks lives; or just continue it."""
        wanted = mending.wanted
        if self._mending.get(mending.key) is not mending:
            return  # begun anew meanwhile
        if wanted is None or (wanted.or_none and self._is_absent(wanted.key)):
            self._advance(mending, None)
        elif wanted.key in self._given_up:
            raise self._given_up[wanted.key]
        elif wanted.key != mending.key and wanted.key in self._mending:
            self._polled.append(mending)
        else:
            self._send(wanted, mending)

    def _is_absent(self, key: Key) -> bool:
        return key in self._mending or key in self._given_up or key not in self._fleet.actors

    def _report(self, key: Key, reason: str) -> None:
        lost = self._site.lost.pop(key, Counter[str]())
        text = f"died and was replaced ({reason})"
        steps, updates = lost["lost_steps"], lost["lost_updates"]
        self._events.faults.append(
            Fault(role=key.role, index=key.index, text=text, lost_steps=steps, lost_updates=updates)
        )


def _first_line(error: Exception) -> str:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return str(cause).splitlines()[0]
