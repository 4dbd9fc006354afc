"""List files: which clips there are, a line `name frames label` each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from reverie.data.options import ImportOptions
from reverie.errors import ConfigError

SHOWN = 3
"""Names that an error message gives of many."""


class Listed(NamedTuple):
    """A line of a list."""

    name: str
    frames: int
    label: str | None


def read_list(path: Path) -> list[Listed]:
    """Read a list file; blank lines are left out, and a label `None` is none.

    Raises:
        ConfigError: a line of another form, or a name twice.
        OSError: it cannot be read.
    """
    found = [
        _parsed(line, f"{path}, line {number}")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if line.strip()
    ]
    seen = set[str]()
    for one in found:
        if one.name in seen:
            raise ConfigError(f"{path}: {one.name} is in it twice")
        seen.add(one.name)
    return found


def _parsed(line: str, where: str) -> Listed:
    words = line.split()
    if len(words) not in (2, 3) or not words[1].isdigit():
        raise ConfigError(f"{where}: expected `name frames label`, got {line!r}")
    label = words[2] if len(words) == 3 and words[2] != "None" else None
    return Listed(words[0], int(words[1]), label)


def chosen(listed: Sequence[Listed], options: ImportOptions) -> list[Listed]:
    """The clips that are long enough and have one of the labels that are asked for.

    Raises:
        ConfigError: there are none.
    """
    found = [one for one in listed if options.labels is None or one.label in options.labels]
    if not found:
        raise ConfigError(no_label(options, (one.label for one in listed)))
    long = [one for one in found if one.frames >= options.min_frames]
    if not long:
        raise ConfigError(
            f"list: no clip has {options.min_frames} frames; the longest has"
            f" {max(one.frames for one in found)}"
        )
    return long


def no_label(options: ImportOptions, got: Iterable[str | None]) -> str:
    """What to say where a label filter leaves nothing."""
    known = sorted({label for label in got if label is not None})
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    wanted = ", ".join(options.labels or ())
    return f"labels: no clip has one of {wanted}; there are: {shown or 'none'}"


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def absent_text(absent: Sequence[str], count: int, root: Path) -> str:
    """What to say where a list names clips that are not there."""
    return f"list: {len(absent)} of {count} clips are not in {root}: {some(absent)}"
