"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from reverie.report.study import Estimate

LARGE = ((1e9, " G"), (1e6, " M"), (1e4, " k"))
UNITS = {" G": 1e9, " M": 1e6, " k": 1e3, "": 1.0}


def digits_for(*values: float) -> int:
    """Digits behind the point: 3 below 1, 2 below 10, 1 below 100, none above."""
    greatest = max(map(abs, values))
    return next((n for n, size in ((3, 1), (2, 10), (1, 100)) if greatest < size), 0)


def number(value: float | None, digits: int | None = None) -> str:
    """`0.607`, `12.3`, `7,127`; `-` for None."""
    if value is None:
        return "-"
    text = f"{value:,.{digits_for(value) if digits is None else digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def short_number(value: float) -> str:
    """For an axis: `0.5`, `1,500`, `100 k`, `1.5 M`."""
    for size, name in LARGE:
        if abs(value) >= size:
            return f"{value / UNITS[name]:g}{name}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def tick_texts(values: Sequence[float]) -> list[str]:
    """Labels of one axis, all in the unit of the greatest: `0`, `5 k`, `10 k`."""
    greatest = max(map(abs, values), default=0.0)
    name = next((name for size, name in LARGE if greatest >= size), "")
    if not name:
        return [short_number(value) for value in values]
    return [f"{value / UNITS[name]:g}{name}" if value else "0" for value in values]


def estimate(found: Estimate | None) -> str:
    """Value and interval: `0.607 [0.552, 0.661]`, with as many digits as the value has."""
    if found is None:
        return "-"
    if found.interval is None:
        return number(found.value)
    digits = digits_for(found.value)
    low, high = (number(end, digits) for end in (found.interval.low, found.interval.high))
    return f"{number(found.value)} [{low}, {high}]"


def counted(count: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
