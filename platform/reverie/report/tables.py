"""Tables of the page: cells know how they are sorted and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reverie.report.numbers import estimate, number
from reverie.report.study import Estimate


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, and by what its column is sorted."""

    text: str
    by: float | str | None = None
    """None sorts last."""
    bold: bool = False
    title: str = ""
    """Shown on hovering."""


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Cell, ...]
    method: int | None = None
    """Whose row it is: hidden with the method."""


def words(text: str) -> Cell:
    return Cell(text, text.lower())


def figure(value: float | None, text: str | None = None) -> Cell:
    return Cell(number(value) if text is None else text, value)


def estimated(found: Estimate | None) -> Cell:
    """A figure over seeds with its interval; bold where that lies apart from all others."""
    if found is None:
        return Cell("-", None)
    title = f"{found.seeds} seed{'s' if found.seeds != 1 else ''}"
    if found.interval is None:
        title += ": too few for an interval"
    return Cell(estimate(found), found.value, found.best, title)


def table(caption: str, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """A table whose columns are sorted by a click on their heads."""
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in columns
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr>'
        f"</thead><tbody>{''.join(map(_row, rows))}</tbody></table></div>"
    )


def _row(row: Row) -> str:
    mine = "" if row.method is None else f' class="m m{row.method}" data-m="{row.method}"'
    return f"<tr{mine}>{''.join(_cell(c, i) for i, c in enumerate(row.cells))}</tr>"


def _cell(cell: Cell, column: int) -> str:
    number_like = isinstance(cell.by, int | float) or cell.by is None
    kind = ' class="number"' if number_like and column else ""
    by = "" if cell.by is None else f' data-v="{escape(str(cell.by))}"'
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    name = "td" if column else 'th scope="row"'
    return f"<{name}{kind}{by}{title}>{text}</{name.partition(' ')[0]}>"
