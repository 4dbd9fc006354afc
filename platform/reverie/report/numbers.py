"""Numbers as people read them."""

from __future__ import annotations

from reverie.report.study import Estimate

LARGE = ((1e9, " G"), (1e6, " M"), (1e4, " k"))


def number(value: float | None) -> str:
    """Three digits that count, or all before the point: `0.607`, `12.3`, `7,127`."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def short_number(value: float) -> str:
    """For an axis: `0.5`, `1,500`, `100 k`, `1.5 M`."""
    for size, name in LARGE:
        if abs(value) >= size:
            return f"{value / (1e3 if name == ' k' else size):g}{name}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def estimate(found: Estimate | None) -> str:
    """Value and interval: `0.607 [0.552, 0.661]`."""
    if found is None:
        return "-"
    if found.interval is None:
        return number(found.value)
    return f"{number(found.value)} [{number(found.interval.low)}, {number(found.interval.high)}]"
