"""What environments there are and whether they can be used here: `reverie envs`."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import TypedDict

from reverie import registry
from reverie.errors import ConfigError

HEADINGS = ("suite", "usable", "deterministic", "rendering", "tasks")
WIDTHS = (12, 7, 14, 19)
"""Characters of every column but the last."""
MOST_LINES = 2
"""Lines of every cell in the table of all."""
NARROWEST, WIDEST = 80, 120
COMMAND, NO_BREAK = re.compile(r"(reverie env|pip) install \S+"), "\xa0"
wrap = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)


class Facts(TypedDict):
    """What is known of one suite."""

    description: str
    missing: str | None
    rendering: str
    deterministic: bool | None
    extra: str | None
    tasks: Sequence[str]
    options: Sequence[str]


def facts(name: str) -> Facts:
    """What is known of one suite; JSON-able. Nothing is built, the suite's file is imported."""
    try:
        suite = registry.suite(name)
    except ImportError as error:
        return _facts("-", str(error), "-", None, None, (), ())
    except Exception as error:  # a graphics library that cannot load raises what it likes
        lack = f"its file does not import: {type(error).__name__}: {error}"
        return _facts("-", lack, "-", None, None, (), ())
    lack, rendering = suite.missing(), suite.rendering()
    options = [field.name for field in dataclasses.fields(suite.Config)]
    text = first_line(type(suite))
    return _facts(text, lack, rendering, suite.deterministic, suite.extra, suite.tasks(), options)


def facts_of_all(name: str | None = None) -> dict[str, Facts]:
    """`facts` by suite, of one or of all. Raises: ConfigError: no such suite."""
    names = sorted(registry.env_names())
    if name is not None and name not in names:
        raise ConfigError(f"unknown environment suite {name!r}; {registry.suggest(name, names)}")
    return {suite: facts(suite) for suite in ([name] if name else names)}


def table(width: int | None = None) -> str:
    """One row per suite for a terminal of `width` characters (by default the one there is)."""
    width = width or terminal_width()
    lines = _columns(HEADINGS, width)
    for name, found in facts_of_all().items():
        tasks = found["tasks"]
        text = f"{len(tasks)}: {', '.join(tasks)}" if tasks else "any name"
        if found["missing"] and not tasks:
            text = "-"
        cells = (name, _yes(not found["missing"]), _yes(found["deterministic"]))
        lines += _columns((*cells, found["rendering"], text), width)
        for lack in (found["missing"] or "").split("; "):
            lines += _wrapped(lack, width, "    ")
    lines += [
        "",
        "reverie envs SUITE lists all its tasks; reverie play SUITE/TASK shows one.",
    ]
    return "\n".join(lines)


def suite_text(name: str, width: int | None = None) -> str:
    """All about one suite for a terminal. Raises: ConfigError: no such suite."""
    width = width or terminal_width()
    found = facts_of_all(name)[name]
    rows = {
        "usable": f"no: {found['missing']}" if found["missing"] else "yes",
        "deterministic": _yes(found["deterministic"]),
        "rendering": found["rendering"],
        "package": f'pip install "reverie[{found["extra"]}]"' if found["extra"] else "none to add",
        "options": ", ".join(f"env.{option}" for option in found["options"]) or "none",
        "tasks": str(len(found["tasks"]) or "any name"),
    }
    lines = _wrapped(f"{name}: {found['description']}", width, "")
    for key, text in rows.items():
        first, *more = _wrapped(text, width, " " * 16)
        lines += [f"{key:15} {first.strip()}", *more]
    return "\n".join([*lines, *_grid(found["tasks"], width)])


def first_line(thing: type) -> str:
    """The first line of a docstring."""
    return (thing.__doc__ or "").strip().splitlines()[0]


def _facts(
    description: str,
    missing: str | None,
    rendering: str,
    deterministic: bool | None,
    extra: str | None,
    tasks: Sequence[str],
    options: Sequence[str],
) -> Facts:
    return {
        "description": description,
        "missing": missing,
        "rendering": rendering,
        "deterministic": deterministic,
        "extra": extra,
        "tasks": list(tasks),
        "options": list(options),
    }


def _columns(cells: Sequence[str], width: int) -> list[str]:
    """One row of the table, each cell wrapped in its column and shortened to `MOST_LINES`."""
    sizes = (*WIDTHS, width - sum(WIDTHS))
    columns = [
        wrap(cell, size - 1, max_lines=MOST_LINES, placeholder=" ...")
        for cell, size in zip(cells, sizes, strict=True)
    ]
    lines = zip_longest(*columns, fillvalue="")
    return [
        "".join(f"{part:{size}}" for part, size in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    ]


def _grid(names: Sequence[str], width: int) -> list[str]:
    """Names in columns, read downwards."""
    if not names:
        return []
    size = max(map(len, names)) + 2
    across = max(1, (width - 2) // size)
    down = -(-len(names) // across)
    rows = [names[start::down] for start in range(down)]
    return ["  " + "".join(f"{name:{size}}" for name in row).rstrip() for row in rows]


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Lines of at most `width` characters that keep commands for pip and reverie whole."""
    kept = COMMAND.sub(lambda found: found[0].replace(" ", NO_BREAK), text)
    lines = wrap(kept, width, initial_indent=indent, subsequent_indent=indent)
    return [line.replace(NO_BREAK, " ") for line in lines]


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def terminal_width() -> int:
    """Characters per line to fill."""
    columns = shutil.get_terminal_size((100, 24)).columns
    return min(max(columns, NARROWEST), WIDEST)
