"""Numbered frames as picture files: `clip/000001.jpg`, or `clip_000001.jpg` in one folder.

Numbers that lie further apart than usual cut a recording into clips `clip_0`, `clip_1`, ...: a clip
never joins what was not filmed together.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reverie.data.codecs import EXTRA
from reverie.data.index import Column
from reverie.data.options import ImportOptions, of_prepared_frames
from reverie.data.sources.lists import Listed, absent_text, some
from reverie.data.sources.source import (
    BrokenSource,
    Recording,
    Stat,
    file_stat,
    fit,
    natural,
)
from reverie.errors import ConfigError
from reverie.extras import load_extra
from reverie.types import Array

FILE_NAME = re.compile(r"(.*?)(\d+)(\.(?:jpe?g|png|bmp))", re.I)


class Frames(NamedTuple):
    """Files that differ in their number only."""

    before: str
    """Folder and what stands before the number."""
    digits: int
    """To which numbers are filled up with zeros."""
    suffix: str
    numbers: Sequence[int]

    def path(self, number: int) -> str:
        return f"{self.before}{number:0{self.digits}}{self.suffix}"

    def of(self, numbers: Sequence[int]) -> Frames:
        """Some of them; what is evenly spaced takes little memory."""
        return self._replace(numbers=_compact(numbers))


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSource:
    """Contiguous frames of one recording."""

    name: str
    label: str | None
    frames: Frames
    prepared: bool = False
    """A list named them: what a preset leaves out is left out already."""

    def stat(self) -> Stat:
        """Of the first and the last frame: a folder may hold many."""
        numbers = self.frames.numbers
        return file_stat(*(Path(self.frames.path(n)) for n in (numbers[0], numbers[-1])))

    def frame_size(self) -> tuple[int, int]:
        height, width = read_picture(self.frames.path(self.frames.numbers[0])).shape[:2]
        return height, width

    def columns(self, options: ImportOptions) -> Sequence[Column]:
        return ()

    def read(self, options: ImportOptions) -> Recording:
        if options.fps is not None:
            raise BrokenSource("frames have no timestamps for --fps; use --stride")
        return Recording(self._frames(of_prepared_frames(options) if self.prepared else options))

    def _frames(self, options: ImportOptions) -> Iterator[Array]:
        for position, number in enumerate(self.frames.numbers):
            if options.keeps(position, number):
                yield fit(read_picture(self.frames.path(number)), options)


def read_picture(path: str) -> Array:
    """Read a picture as uint8 [H, W, 3]. Raises: BrokenSource, OSError."""
    return decode_picture(np.fromfile(path, np.uint8), Path(path).name)


def decode_picture(data: Array, name: str) -> Array:
    """Decode the bytes of a picture file. Raises: BrokenSource."""
    cv2: Any = load_extra("cv2", "reading pictures", EXTRA)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise BrokenSource(f"{name}: no picture that can be read")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def find(root: Path, options: ImportOptions) -> list[FrameSource]:
    """All recordings below `root`, in the order of their names."""
    found: list[FrameSource] = []
    for folder, folders, names in os.walk(root):
        folders.sort(key=natural)
        base = os.path.relpath(folder, root)
        for frames in _sorted(names, folder):
            name = Path(frames.before).name.rstrip("_-. ") if options.flat or base == "." else base
            found += _runs(name or Path(folder).name, _parent(base), frames, options)
    return found


def find_listed(root: Path, listed: Sequence[Listed], options: ImportOptions) -> list[FrameSource]:
    """The recordings that a list names.

    Raises:
        ConfigError: some are not there, or have fewer frames than the list says.
    """
    flat: Mapping[str, Frames] = _flat(root) if options.flat else {}
    found: list[FrameSource] = []
    absent: list[str] = []
    lacking: list[str] = []
    for one in listed:
        frames = flat.get(one.name) if options.flat else _only(root / one.name)
        if frames is None:
            absent.append(one.name)
            continue
        numbers = _contiguous(_stepped(frames.numbers, options))
        if len(numbers) < one.frames:
            lacking.append(f"{one.name} ({len(numbers)} of {one.frames})")
            continue
        kept = frames.of(numbers[: one.frames])
        found.append(FrameSource(name=one.name, label=one.label, frames=kept, prepared=True))
    if absent:
        raise ConfigError(absent_text(absent, len(listed), root))
    if lacking:
        raise ConfigError(
            f"list: {len(lacking)} of {len(listed)} clips have fewer contiguous frames in {root}"
            f" than it says: {some(lacking)}"
        )
    return found


def _only(folder: Path) -> Frames | None:
    """The frames of a folder that holds one recording."""
    try:
        found = list(_sorted(os.listdir(folder), str(folder)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max(found, key=lambda frames: len(frames.numbers), default=None)


def _flat(root: Path) -> dict[str, Frames]:
    """The recordings of a folder that holds many, by name."""
    found = _sorted(os.listdir(root), str(root)) if root.is_dir() else ()
    return {Path(frames.before).name.rstrip("_-. "): frames for frames in found}


def _sorted(names: Iterable[str], folder: str) -> Iterator[Frames]:
    """Numbered picture files, put together by what else their names consist of."""
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        if match := FILE_NAME.fullmatch(name):
            groups[match[1], match[3]].append(match[2])
    for (before, suffix), texts in sorted(groups.items(), key=lambda one: natural(one[0][0])):
        lengths = {len(text) for text in texts}
        padded = len(lengths) == 1 or any(text[0] == "0" for text in texts if len(text) > 1)
        digits = min(lengths) if padded else 0
        yield Frames(f"{folder}/{before}", digits, suffix, sorted(map(int, texts)))


def _stepped(numbers: Sequence[int], options: ImportOptions) -> Sequence[int]:
    """Those that count, of frames that were numbered before some were left out."""
    if options.step == 1:
        return numbers
    first, step = options.first, options.step
    return [number for number in numbers if number >= first and (number - first) % step == 0]


def _runs(
    name: str, label: str | None, frames: Frames, options: ImportOptions
) -> Iterator[FrameSource]:
    runs = list(_cut(_stepped(frames.numbers, options)))
    for index, numbers in enumerate(runs):
        plain = len(runs) == 1 and not options.number_runs
        own = name if plain else f"{name}_{index}"
        yield FrameSource(name=own, label=label, frames=frames.of(numbers))


def _cut(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Runs of numbers that lie as far apart as most do."""
    if not numbers:
        return
    usual = _usual_step(numbers)
    ends = [i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b - a > usual]
    for start, stop in pairwise([0, *ends, len(numbers)]):
        yield numbers[start:stop]


def _contiguous(numbers: Sequence[int]) -> Sequence[int]:
    return next(_cut(numbers), numbers)


def _usual_step(numbers: Sequence[int]) -> int:
    steps = Counter(b - a for a, b in pairwise(numbers))
    return steps.most_common(1)[0][0] if steps else 1


def _compact(numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) > 1:
        even = range(numbers[0], numbers[-1] + 1, numbers[1] - numbers[0])
        if len(even) == len(numbers) and all(a == b for a, b in zip(even, numbers, strict=True)):
            return even
    return tuple(numbers)


def _parent(base: str) -> str | None:
    """The folder above a clip's own, as data sets of actions have it."""
    parent = Path(base).parent
    return parent.name or None
