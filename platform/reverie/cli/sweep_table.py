"""How a sweep is doing, for a person: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from reverie.tuning.cell_state import CONDITIONS, CellState

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LIVE_EVERY_S = 2.0
"""Seconds between two looks at all cells where a terminal shows them."""
PLAIN_EVERY_S = 30.0
"""And where the output is no terminal."""
LOOKS_SHARE = 20
"""Looks at thousands of cells are so rare that they take a twentieth of the time."""
MOST_ROWS = 30
"""Of the live table; cells that run come first."""
COLUMNS = ("cell", "state", "env steps", "score", "ETA", "restarts", "")


class Following:
    """Shows the cells while a sweep is worked off; `look` may be called as often as one likes."""

    def __init__(self, states: Callable[[], list[CellState]]) -> None:
        self._states, self._live = states, None
        self._every, self._next = PLAIN_EVERY_S, 0.0
        self._said = ""

    def __enter__(self) -> Following:
        if sys.stdout.isatty():
            from reverie.cli.progress import move_log  # torch comes with it

            plain = sys.stderr
            self._live = _make_live()
            move_log(plain, sys.stderr)  # which now prints above the table
            self._every = LIVE_EVERY_S if self._live is not None else PLAIN_EVERY_S
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.update(_live_table(self._states()))
            from reverie.cli.progress import move_log

            above = sys.stderr
            self._live.stop()
            move_log(above, sys.stderr)

    def look(self) -> None:
        """Show how far everything is, if it is time."""
        if time.monotonic() < self._next:
            return
        began = time.monotonic()
        states = self._states()
        now = time.monotonic()
        self._next = now + max(self._every, LOOKS_SHARE * (now - began))
        if self._live is not None:
            self._live.update(_live_table(states))
            return
        text = "\n".join([counts(states), *plain_rows(_of(states, "running"))])
        if text != self._said:
            self._said = text
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


def counts(states: Sequence[CellState]) -> str:
    """`24 cells: 3 done, 2 running, 19 waiting, 0 dead`."""
    found = Counter(state.condition for state in states)
    return f"{len(states):,} cells: " + ", ".join(f"{found[name]:,} {name}" for name in CONDITIONS)


def plain_rows(states: Sequence[CellState]) -> list[str]:
    """One line a cell, in columns."""
    rows = [_row(state) for state in states]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(COLUMNS) - 1)]
    return [
        "  ".join(
            ["", *(f"{text:{width}}" for text, width in zip(row, widths, strict=False)), row[-1]]
        ).rstrip()
        for row in rows
    ]


def status_text(states: Sequence[CellState]) -> str:
    """All cells with headings, for `reverie sweep status`."""
    rows = [list(COLUMNS), *(_row(state) for state in states)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS) - 1)]
    lines = [
        "  ".join([*(f"{t:{w}}" for t, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, counts(states)])


def _row(state: CellState) -> list[str]:
    restarts = max(0, state.attempts.starts - 1)
    return [
        state.cell.id,
        state.condition,
        f"{state.env_steps:,}/{state.cell.env_steps:,}",
        "" if state.score is None else f"{state.score:.2f}",
        "" if state.eta_s is None else _span(state.eta_s),
        str(restarts) if restarts else "",
        state.note,
    ]


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _of(states: Sequence[CellState], condition: str) -> list[CellState]:
    return [state for state in states if state.condition == condition]


def _make_live() -> Live | None:
    try:
        from rich.live import Live
    except ImportError:
        return None
    live = Live("", refresh_per_second=2)
    live.start()
    return live


def _live_table(states: Sequence[CellState]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=counts(states), title_justify="left")
    for name in COLUMNS:
        table.add_column(name, overflow="fold" if not name else "ellipsis")
    order = ("running", "dead", "waiting", "done")
    rows = sorted(states, key=lambda state: order.index(state.condition))
    for state in rows[:MOST_ROWS]:
        table.add_row(*(Text(text) for text in _row(state)))
    if len(rows) > MOST_ROWS:
        table.add_row(f"... {len(rows) - MOST_ROWS:,} more")
    return table
