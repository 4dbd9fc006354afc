"""An import: from sources to a finished data set, going on where an earlier one stopped.

find_sources -> plan: groups -> import_group each (in a loop, as Ray tasks, or as part i of n)
-> index.json, once all of them are done
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from reverie.data.index import (
    FORMAT,
    IMPORT_FILE,
    INDEX_FILE,
    SHARDS,
    Clip,
    Column,
    Index,
    read_index,
    write_index,
)
from reverie.data.options import ImportOptions
from reverie.data.parts import Failure, Group, Layout, Part, import_group, read_parts, split
from reverie.data.sources.find import find_sources
from reverie.data.sources.source import BrokenSource, Source, Stat
from reverie.documents import from_json, json_text, parse
from reverie.errors import ConfigError
from reverie.paths import place
from reverie.stop_signals import ShouldStop, never
from reverie.storage import Storage
from reverie.types import Json, JsonTree

Say = Callable[[str], None]
RunGroups = Callable[[str, Sequence[Group], ShouldStop], Iterator[Part]]
"""Imports groups into a target and yields what became of each, in any order."""
PROBED = 20
"""Sources that are opened to see what they hold; where they differ, the most common counts."""
SHOWN = 3
"""Names that an error message gives of many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What an import came to."""

    clips: int
    """In the data set; 0 while other parts of the import are not done."""
    frames: int
    new: int
    """Clips that were not there before."""
    failed: Sequence[Failure]
    short: int
    """Sources with fewer frames than are wanted."""
    groups_left: int
    """That other parts of the import have to do."""


def run_here(target: str, groups: Sequence[Group], should_stop: ShouldStop) -> Iterator[Part]:
    """Import groups one after the other in this process."""
    for group in groups:
        yield import_group(target, group, should_stop)


def import_data(
    source: str | Path,
    target: str | Path,
    options: ImportOptions | None = None,
    *,
    list_file: str | Path | None = None,
    licence: str = "",
    part: tuple[int, int] = (1, 1),
    run_groups: RunGroups = run_here,
    should_stop: ShouldStop = never,
    say: Say = lambda _: None,
) -> Outcome:
    """Import what is new at `source` into the data set at `target`.

    Args:
        source: a folder or a file.
        target: a new folder, or one with a data set that was imported with the same options.
        options: what decides about the frames.
        list_file: lines `name frames label` that say which clips there are.
        licence: a note about the right to use the data, kept in the index.
        part: (i, n): do the i-th of n shares of the groups, counted from 1; whoever finishes last
            writes the index.
        run_groups: how groups are imported.
        should_stop: asked between two clips.
        say: called with a line about each group.

    Raises:
        ConfigError: nothing to import, options that differ from those of the data set, or sources
            of several sizes without `options.size`.
        ImportStopped: it was told to stop.
        OSError: the target cannot be written to; what is finished stays.
    """
    options = options or ImportOptions()
    root, storage = place(source), Storage(place(target))
    target_state = _Target(storage)
    target_state.check(options)
    sources = find_sources(root, options, None if list_file is None else place(list_file))
    groups = target_state.plan(sources, options)
    report: JsonTree = {
        "format": FORMAT,
        "source": str(root),
        "licence": licence or target_state.licence,
        "options": options.tree(),
    }
    if groups:
        report["layout"] = cast(Json, asdict(groups[0].layout))
        _write_report(storage, report, target_state.parts)
    mine = [group for index, group in enumerate(groups) if index % part[1] == part[0] - 1]
    done = {one.group for one in target_state.parts}
    todo = [group for group in mine if group.id not in done]
    for index, finished in enumerate(run_groups(storage.uri, todo, should_stop), start=1):
        say(_told(index, len(todo), finished))
    return _finish(storage, report, groups, target_state)


def _told(index: int, count: int, part: Part) -> str:
    frames = sum(clip.frames for clip in part.clips)
    broken = f", {len(part.failed)} broken" if part.failed else ""
    return f"group {index} of {count}: {len(part.clips)} clips, {frames} frames{broken}"


class _Target:
    """What is in a target already."""

    def __init__(self, storage: Storage) -> None:
        self._where = storage.uri
        self._report: JsonTree = {}
        if storage.exists(IMPORT_FILE):
            self._report = cast(JsonTree, from_json(storage.read(IMPORT_FILE)))
        elif storage.list():
            raise ConfigError(
                f"{storage.uri}: expected a new folder or one with a data set, got one with other"
                " files"
            )
        self.index = read_index(Path(storage.uri))[0] if storage.exists(INDEX_FILE) else None
        self.parts = read_parts(storage)
        self.licence = str(self._report.get("licence", ""))

    def check(self, options: ImportOptions) -> None:
        """Raises ConfigError if what is there was imported with other options."""
        before = cast(JsonTree, self._report.get("options", {})) if self.parts else {}
        now = options.tree()
        for name in sorted(before.keys() & now.keys()):
            if before[name] != now[name]:
                raise ConfigError(
                    f"{self._where}: was imported with {name}={before[name]!r}, got {now[name]!r};"
                    " give the same options or another folder"
                )

    def plan(self, sources: Sequence[Source], options: ImportOptions) -> list[Group]:
        """The groups of sources that are new or were changed, finished ones among them.

        Where an import was killed and nothing else has changed since, they are the same again.
        """
        finished = set(self.index.groups if self.index else ())
        old = [part for part in self.parts if part.group in finished]
        begun = [part for part in self.parts if part.group not in finished]
        stats = {source.name: _stat(source) for source in sources}
        generation = 1 + max((part.generation for part in old), default=-1)
        rest = _unknown(sources, stats, old)
        if not rest:
            return []
        layout = self._layout(rest, options)

        def groups_of(some: Sequence[Source], first: int) -> list[Group]:
            return [
                Group(
                    generation=generation,
                    order=order,
                    sources=few,
                    stats=[stats[source.name] for source in few],
                    options=options,
                    layout=layout,
                )
                for order, few in enumerate(split(some), start=first)
            ]

        groups = groups_of(rest, 0)
        if {part.group for part in begun} <= {group.id for group in groups}:
            return groups
        # Sources came or went since it was killed: what is finished stays as it is.
        return groups_of(_unknown(rest, stats, begun), 1 + max(part.order for part in begun))

    def _layout(self, sources: Sequence[Source], options: ImportOptions) -> Layout:
        if self.parts and "layout" in self._report:
            return parse(Layout, self._report["layout"], f"{self._where}/{IMPORT_FILE}")
        return find_layout(sources, options)


def _stat(source: Source) -> Stat:
    try:
        return source.stat()
    except OSError:
        return Stat(0, 0)  # reading it will say why


def _unknown(
    sources: Sequence[Source], stats: dict[str, Stat], parts: Sequence[Part]
) -> list[Source]:
    known = {name: stat for part in parts for name, stat in part.sources.items()}
    return [source for source in sources if known.get(source.name) != tuple(stats[source.name])]


def find_layout(sources: Sequence[Source], options: ImportOptions) -> Layout:
    """Shape of the frames and what comes with them.

    Raises:
        ConfigError: no source can be read, or they have several sizes and none is asked for.
    """
    reasons: list[str] = []
    sizes: dict[tuple[int, int], str] = {}
    columns: Counter[tuple[Column, ...]] = Counter()
    for source in sources if options.size is None else sources[:PROBED]:
        try:
            size = (options.size, options.size) if options.size else source.frame_size()
            if columns.total() < PROBED:
                columns[tuple(source.columns(options))] += 1
        except (BrokenSource, OSError) as error:
            reasons.append(f"{source.name}: {error}")
            continue
        sizes.setdefault(size, source.name)
        if options.size is None and len(sizes) > 1:
            raise ConfigError(
                f"mixed sizes: {' and '.join(f'{n} has {_shown(s)}' for s, n in sizes.items())};"
                " give one size for all, e.g. --size 64"
            )
    if not sizes:
        raise ConfigError(_nothing(len(reasons), reasons))
    height, width = next(iter(sizes))
    return Layout(shape=(height, width, 3), columns=columns.most_common(1)[0][0])


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _nothing(count: int, reasons: Sequence[str]) -> str:
    shown = "; ".join(reasons[:SHOWN])
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return f"none of {count} sources can be used: {shown}{more}"


def _finish(
    storage: Storage, report: JsonTree, groups: Sequence[Group], before: _Target
) -> Outcome:
    """Write the index if all groups are done; says what the import came to."""
    parts = read_parts(storage)
    done = {part.group for part in parts}
    left = sum(group.id not in done for group in groups)
    owner = {name: part.group for part in parts for name in part.sources}
    clips = [c for part in parts for c in part.clips if owner[c.name] == part.group]
    failed = [f for part in parts for f in part.failed if owner[f.name] == part.group]
    short = [s for part in parts for s in part.short if owner[s] == part.group]
    old = {clip.name: clip for clip in before.index.clips} if before.index else {}
    if left:
        return Outcome(clips=0, frames=0, new=0, failed=failed, short=len(short), groups_left=left)
    if groups:
        _write_report(storage, {**report, "finished": True}, parts)
    if not clips:
        reasons = [f"{one.name}: {one.reason}" for one in failed]
        reasons += [f"{name}: has fewer frames than are wanted" for name in short]
        raise ConfigError(_nothing(len(reasons), reasons))
    if groups or before.index is None:
        _write_index(storage, report, parts, clips)
    return Outcome(
        clips=len(clips),
        frames=sum(clip.frames for clip in clips),
        new=sum(old.get(clip.name) != clip for clip in clips),
        failed=failed,
        short=len(short),
        groups_left=0,
    )


def _write_index(
    storage: Storage, report: JsonTree, parts: Sequence[Part], clips: Sequence[Clip]
) -> None:
    layout = parse(Layout, report["layout"], IMPORT_FILE)
    columns = tuple(_bounded(column, parts) for column in layout.columns)
    widths = {column.name: column.width for column in columns}
    index = Index(
        format=FORMAT,
        shape=layout.shape,
        codec=cast(str, cast(JsonTree, report["options"])["codec"]),
        action_width=widths.get("action", 0),
        columns=columns,
        licence=cast(str, report["licence"]),
        clips=tuple(clips),
        groups=tuple(part.group for part in parts),
    )
    write_index(storage, index)
    used = {clip.shard for clip in clips}
    for name in storage.list(SHARDS):
        if Path(name).name not in used:
            storage.delete(name)
    storage.delete_stale(SHARDS)


def _bounded(column: Column, parts: Sequence[Part]) -> Column:
    """The column with the least and the greatest value that the parts hold."""
    lows = [part.low[column.name] for part in parts if column.name in part.low]
    highs = [part.high[column.name] for part in parts if column.name in part.high]
    if not lows:
        return column
    return replace(
        column,
        low=tuple(np.min(lows, axis=0).tolist()),
        high=tuple(np.max(highs, axis=0).tolist()),
    )


def _write_report(storage: Storage, report: JsonTree, parts: Sequence[Part]) -> None:
    """Write `import.json`: what was asked for, and what was broken."""
    owner = {name: part.group for part in parts for name in part.sources}
    failed = [asdict(f) for part in parts for f in part.failed if owner[f.name] == part.group]
    short = [name for part in parts for name in part.short if owner[name] == part.group]
    tree = {"finished": False, **report, "failed": failed, "short": short}
    storage.write_atomic(IMPORT_FILE, (json_text(tree, indent=2) + "\n").encode())
