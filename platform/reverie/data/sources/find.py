"""Which format a source has, and the sources in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reverie.data.options import ImportOptions, Kind
from reverie.data.sources import frame_folders, lerobot, npz_episodes, video_files
from reverie.data.sources.lists import Listed, absent_text, chosen, no_label, read_list
from reverie.data.sources.source import Source, natural, unique_names
from reverie.errors import ConfigError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
SUFFIXES: dict[Kind, Sequence[str]] = {
    "video": video_files.SUFFIXES,
    "npz": (npz_episodes.SUFFIX,),
    "frames": PICTURES,
}


def find_sources(root: Path, options: ImportOptions, list_file: Path | None) -> list[Source]:
    """All sources at `root` that the options ask for, in the order of the list or their names.

    Raises:
        ConfigError: there are none, or what is asked for is not there.
        OSError: the list cannot be read.
    """
    if not root.exists():
        raise ConfigError(f"{root}: expected a folder with videos, got none")
    kind = options.kind or _kind(root)
    if list_file is not None:
        return _listed(root, kind, options, chosen(read_list(list_file), options))
    found = _found(root, kind, options)
    if not found:
        raise ConfigError(f"{root}: no {_wanted(kind)} in it")
    if options.labels is None:
        return found
    left = [source for source in found if source.label in options.labels]
    if not left:
        raise ConfigError(no_label(options, (source.label for source in found)))
    return left


def _found(root: Path, kind: Kind, options: ImportOptions) -> list[Source]:
    match kind:
        case "lerobot":
            return [*lerobot.find(root, options)]
        case "frames":
            return [*frame_folders.find(root, options)]
        case "npz":
            paths = _files(root, SUFFIXES["npz"])
            return [*npz_episodes.find(paths, _parent(root), options)]
        case "video":
            paths = _files(root, SUFFIXES["video"])
            names = unique_names(paths, _parent(root))
            return [*video_files.find(paths, names, root)]


def _listed(
    root: Path, kind: Kind, options: ImportOptions, listed: Sequence[Listed]
) -> list[Source]:
    if kind == "frames":
        return [*frame_folders.find_listed(root, listed, options)]
    if kind != "video":
        raise ConfigError(f"list: goes with video files and with frames, got {kind}")
    paths = _files(root, SUFFIXES["video"])
    names = unique_names(paths, _parent(root))
    files = {source.name: source for source in video_files.find(paths, names, root)}
    known = {name.rpartition("/")[2]: source for name, source in files.items()} | files
    absent = [one.name for one in listed if one.name not in known]
    if absent:
        raise ConfigError(absent_text(absent, len(listed), root))
    return [
        replace(known[one.name], name=one.name, label=one.label, frames=one.frames)
        for one in listed
    ]


def _kind(root: Path) -> Kind:
    """What is in `root`, by the first file that tells.

    Raises:
        ConfigError: nothing of use; with what there is.
    """
    if lerobot.is_one(root):
        return "lerobot"
    others = Counter[str]()
    for path in _walk(root):
        suffix = os.path.splitext(path)[1].lower()
        for kind, suffixes in SUFFIXES.items():
            if suffix in suffixes:
                return kind
        others[suffix or "files without a suffix"] += 1
    there = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(3))
    raise ConfigError(
        f"{root}: no video in it: expected {', '.join(video_files.SUFFIXES)}, numbered pictures,"
        f" npz episodes or a LeRobot data set, got {there or 'an empty folder'}"
    )


def _wanted(kind: Kind) -> str:
    return f"{kind} ({', '.join(SUFFIXES.get(kind, ('meta/info.json',)))})"


def _walk(root: Path) -> Iterator[str]:
    if root.is_file():
        yield str(root)
    for folder, folders, names in os.walk(root):
        folders.sort(key=natural)
        for name in sorted(names, key=natural):
            yield os.path.join(folder, name)


def _files(root: Path, suffixes: Sequence[str]) -> list[Path]:
    found = [Path(path) for path in _walk(root)]
    found = [path for path in found if path.suffix.lower() in suffixes]
    return sorted(found, key=lambda path: natural(path.as_posix()))


def _parent(root: Path) -> Path:
    return root.parent if root.is_file() else root
