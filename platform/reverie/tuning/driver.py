"""Works a sweep's cells off: whoever starts them, here or on a cluster, is a `Launcher`.

The loop holds nothing that is not in files too. It may be killed at any moment; the next one goes
on. Which cell is whose, the leases of the run folders decide: a cell that another process writes
is waited for and never started beside it.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reverie.errors import ConfigError, RunError
from reverie.lease import FolderTaken, Lease, holder, holders
from reverie.stop_signals import StopSignals, exit_code
from reverie.tuning.cell_state import (
    forgive,
    is_done,
    last_line,
    read_attempts,
    repeated_steps,
    write_attempts,
)
from reverie.tuning.cells import Cell
from reverie.tuning.sweep_folder import SweepFolder

log = logging.getLogger(__name__)

POLL_S = 0.05
"""Seconds between two looks at members and signals: less than two arrivals of one signal may lie
apart (`stop_signals.SAME_S`), for a member may be sent it by others as well."""
LOOK_S = 2.0
"""Seconds between two looks at cells that others write."""
RETRY_S = 1.0
"""Seconds before a cell that failed is tried again."""


class SweepStopped(RunError):
    """A signal stopped the sweep; its members wrote their checkpoints."""

    def __init__(self, number: int, shown: str) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; every member has ended, go on with:"
            f" reverie sweep retry {shown}"
        )
        self.exit_code = exit_code(number)


class CellsFailed(RunError):
    """Cells that failed more often than is allowed, or that wait for one that did."""


class Member(Protocol):
    """A cell's process."""

    def poll(self) -> int | None:
        """Its exit code, -9 if signal 9 ended it; None while it works."""
        ...

    def tell(self, number: int) -> None:
        """Send it a signal."""
        ...


class Launcher(Protocol):
    """Starts members somewhere."""

    def start(self, sweep: SweepFolder, cell: Cell) -> Member | None:
        """Start a cell; None: there is no room now."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep came to."""

    done: int
    cells: int
    restarts: int
    """Processes beyond the first of each cell."""
    repeated_steps: int
    """Env steps taken again, as far as they had been logged."""


class Driver:
    """Works off `cells`, which are all of a sweep or some.

    Args:
        at_most: members at once; None: as many as the launcher has room for.
        alone: no other driver may be at work on this sweep; else several share it.
        forgive: failures of before do not count.

    Raises:
        ConfigError: one is.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        cells: Sequence[Cell],
        launcher: Launcher,
        *,
        at_most: int | None,
        max_failures: int,
        signals: StopSignals,
        alone: bool = True,
        forgive: bool = False,
    ) -> None:
        self._sweep, self._launcher, self._signals = sweep, launcher, signals
        self._at_most, self._max_failures, self._forgive = at_most, max_failures, forgive
        self._cells = {cell.id: cell for cell in cells}
        self._all = {cell.id: cell for cell in sweep.cells}
        self._lease = take(sweep) if alone else None
        self._members: dict[str, Member] = {}
        self._done: set[str] = set()
        self._given_up: dict[str, str] = {}
        self._not_before: dict[str, float] = {}
        self._others: set[str] = set()
        self._unsure: set[str] = set()
        """Of these, own members that were lost while their folder's lease had not run out."""
        self._next_look = 0.0

    def run(self, on_change: Callable[[], None]) -> Outcome:
        """Run until no cell is left; `on_change` is called at each turn and must be cheap.

        Raises:
            SweepStopped: a signal came; all members were told and have ended.
            CellsFailed: what could be done is done, and some cells failed.
        """
        self._signals.waits = True
        self._signals.last_words = self._last_words
        try:
            self._look_around()
            while self._turn():
                on_change()
                if self._signals.first is not None:
                    self._stop(self._signals.first)
                time.sleep(POLL_S)
            on_change()
            return self._sum_up()
        finally:
            self._launcher.close()
            if self._lease is not None:
                self._lease.release()

    def _look_around(self) -> None:
        """Learn what was done before, and by whom else cells are written."""
        for cell in self._cells.values():
            if is_done(self._sweep, cell):
                self._done_by_another(cell.id)
        self._find_others(say=True)
        for name in self._cells.keys() - self._done - self._others:
            if self._forgive:
                forgive(self._sweep, name)
            attempts = read_attempts(self._sweep, name)
            if attempts.under_way:  # its driver is gone, and so is it
                line = last_line(self._sweep.log_file(name))
                lost = replace(attempts, under_way=False, code=None, line=line)
                write_attempts(self._sweep, name, lost)
            if attempts.failures > self._max_failures:
                self._given_up[name] = attempts.line

    def _turn(self) -> bool:
        """Take in what ended, start what may begin; whether anything is left to wait for."""
        for name, member in list(self._members.items()):
            if (code := member.poll()) is not None:
                del self._members[name]
                self._ended(name, code)
        if self._others and time.monotonic() >= self._next_look:
            self._find_others(say=False)
        waits = False
        for cell in self._cells.values():
            if self._is_full():
                break
            if self._is_settled(cell.id) or not self._may_begin(cell):
                continue
            waits = True
            if time.monotonic() < self._not_before.get(cell.id, 0.0):
                continue
            if not self._start(cell):
                break
        return bool(waits or self._members or self._others)

    def _is_full(self) -> bool:
        """Cells that others write take room as well: a killed driver's members go on."""
        at_work = len(self._members) + len(self._others)
        return self._at_most is not None and at_work >= self._at_most

    def _is_settled(self, name: str) -> bool:
        """Nothing is to be started for it now."""
        owners = (self._done, self._given_up, self._members, self._others)
        return any(name in owner for owner in owners)

    def _may_begin(self, cell: Cell) -> bool:
        """Whether the run that it starts from is done."""
        if cell.after is None or cell.after in self._done:
            return True
        if cell.after in self._cells:
            return False
        return is_done(self._sweep, self._all[cell.after])

    def _start(self, cell: Cell) -> bool:
        before = read_attempts(self._sweep, cell.id)
        member = self._launcher.start(self._sweep, cell)
        if member is None:
            return False
        now = replace(before, starts=before.starts + 1, under_way=True, code=None)
        write_attempts(self._sweep, cell.id, now)
        self._members[cell.id] = member
        return True

    def _ended(self, name: str, code: int, *, told: bool = False) -> None:
        attempts, folder = read_attempts(self._sweep, name), self._sweep.run_folder(name)
        line = last_line(self._sweep.log_file(name))
        done = is_done(self._sweep, self._cells[name])
        line = "" if done else line
        attempts = replace(attempts, under_way=False, code=code, line=line)
        write_attempts(self._sweep, name, attempts)
        if done:
            self._done.add(name)
        elif told:
            return
        elif holders([folder], self._sweep.path):
            # Another process writes it, or this one was lost on another machine a moment ago.
            log.info("%s: its run is written by another process; waiting for that", name)
            self._others.add(name)
            self._unsure.add(name)
        else:
            self._failed(name)

    def _failed(self, name: str) -> None:
        """Count a failure; try the cell again later or give it up."""
        attempts = read_attempts(self._sweep, name)
        attempts = replace(attempts, failures=attempts.failures + 1)
        write_attempts(self._sweep, name, attempts)
        if attempts.failures > self._max_failures:
            log.warning("%s: failed %d times, given up: %s", name, attempts.failures, attempts.line)
            self._given_up[name] = attempts.line
        else:
            said = (name, attempts.code, attempts.line)
            log.warning("%s: ended with %s and is tried again: %s", *said)
            self._not_before[name] = time.monotonic() + RETRY_S

    def _find_others(self, *, say: bool) -> None:
        """Which cells other processes write now; those that they have let go may be done."""
        self._next_look = time.monotonic() + LOOK_S
        left = [name for name in self._cells if name not in self._done | self._members.keys()]
        folders = {self._sweep.run_folder(name): name for name in left}
        held = holders(folders, self._sweep.path)
        now = {folders[folder] for folder in held}
        for name in self._others - now:
            if is_done(self._sweep, self._cells[name]):
                self._done_by_another(name)
            elif name in self._unsure:
                self._failed(name)
        self._others = now
        self._unsure &= now
        if say:
            for folder, owner in held.items():
                log.info("%s: %s writes its run; waiting for it", folders[folder], owner)

    def _done_by_another(self, name: str) -> None:
        """Note the end of a member of an earlier driver."""
        self._done.add(name)
        attempts = read_attempts(self._sweep, name)
        if attempts.under_way:
            write_attempts(self._sweep, name, replace(attempts, under_way=False, line=""))

    def _stop(self, number: int) -> None:
        """Hand the signal on, wait until every member has written its checkpoint and ended."""
        log.warning(
            "%s: %d members write their checkpoints",
            signal.Signals(number).name,
            len(self._members),
        )
        for member in self._members.values():
            member.tell(number)
        while self._members:
            for name, member in list(self._members.items()):
                if (code := member.poll()) is not None:
                    del self._members[name]
                    self._ended(name, code, told=True)
            time.sleep(POLL_S)
        raise SweepStopped(number, self._sweep.shown)

    def _last_words(self, number: int) -> str:
        return (
            f"stopped at once by {signal.Signals(number).name}; members go on or end by themselves,"
            f" and `reverie sweep retry {self._sweep.shown}` goes on with the rest"
        )

    def _sum_up(self) -> Outcome:
        left = [name for name in self._cells if name not in self._done]
        if left:
            raise CellsFailed(self._what_failed(left))
        starts = {name: read_attempts(self._sweep, name).starts for name in self._cells}
        again = [cell for cell in self._cells.values() if starts[cell.id] > 1]
        return Outcome(
            done=len(self._done),
            cells=len(self._cells),
            restarts=sum(max(0, count - 1) for count in starts.values()),
            repeated_steps=repeated_steps(self._sweep, again),
        )

    def _what_failed(self, left: Sequence[str]) -> str:
        waiting = [name for name in left if name not in self._given_up]
        failed = [f"{name} ({line})" for name, line in self._given_up.items()]
        parts = [f"{len(self._done)} of {len(self._cells)} cells are done"]
        if failed:
            parts.append(f"{len(failed)} failed: {'; '.join(failed[:3])}")
        if waiting:
            parts.append(f"{len(waiting)} wait for a cell that did not end: {waiting[0]}")
        return (
            f"{', '.join(parts)}; logs in {self._sweep.shown}/logs, once it is mended:"
            f" reverie sweep retry {self._sweep.shown}"
        )


def take(sweep: SweepFolder) -> Lease:
    """Become the sweep's one driver."""
    owner = holder(sweep.path)
    if owner is None:
        try:
            return Lease(sweep.path)
        except FolderTaken:
            owner = holder(sweep.path)
    raise ConfigError(f"{sweep.shown}: {owner} works on this sweep; wait for it or end it")
