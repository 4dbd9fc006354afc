"""Tables of the page: cells know how they are sorted and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reverie.report.numbers import counted, estimate, number
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
    note: str = ""
    """Small, below the text."""
    method: bool = False
    """It names the method of its row, whose colour stands before it."""


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
        return Cell("-")
    title = counted(found.seeds, "seed")
    if found.interval is None:
        title += ": too few for an interval"
    return Cell(estimate(found), found.value, found.best, title)


def table(
    title: str, note: str, columns: Sequence[str], rows: Sequence[Row], *, headed: bool = True
) -> str:
    """A table whose columns are sorted by a click on their heads; `note` stands above it.

    Its title is shown unless a section's heading says it: not `headed`.
    """
    numeric = [_is_numeric([row.cells[at] for row in rows]) for at in range(len(columns))]
    heads = "".join(
        f'<th scope="col"{_kind(is_number)}><button type="button">{escape(name)}</button></th>'
        for name, is_number in zip(columns, numeric, strict=True)
    )
    above = f"<h3>{escape(title)}</h3>" if headed else ""
    above += f'<p class="soft">{escape(note)}</p>' if note else ""
    body = "".join(_row(row, numeric) for row in rows)
    return (
        f'{above}<div class="scroll"><table aria-label="{escape(title)}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _is_numeric(column: Sequence[Cell]) -> bool:
    """Numbers stand at the right; a column of nothing but `-` does not."""
    kinds = {isinstance(cell.by, int | float) for cell in column if cell.by is not None}
    return kinds == {True}


def _kind(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _row(row: Row, numeric: Sequence[bool]) -> str:
    mine = "" if row.method is None else f' class="m m{row.method}" data-m="{row.method}"'
    cells = (_cell(c, at, numeric[at]) for at, c in enumerate(row.cells))
    return f"<tr{mine}>{''.join(cells)}</tr>"


def _cell(cell: Cell, column: int, is_number: bool) -> str:
    by = "" if cell.by is None else f' data-v="{escape(str(cell.by))}"'
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    if cell.method:
        text = f'<div class="named"><i class="key"></i><span>{text}</span></div>'
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    name, scope = ("td", "") if column else ("th", ' scope="row"')
    return f"<{name}{scope}{_kind(is_number)}{by}{title}>{text}{note}</{name}>"
