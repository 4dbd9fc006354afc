"""Which format a source has, and the sources in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from reverie.data.options import ImportOptions
from reverie.data.sources import npz_episodes
from reverie.data.sources.source import Source, natural
from reverie.errors import ConfigError


def find_sources(root: Path, options: ImportOptions, list_file: Path | None) -> list[Source]:
    """All sources at `root` that the options ask for, in the order of the list or their names.

    Raises:
        ConfigError: there are none, or what is asked for is not there.
    """
    paths = _files(root)
    return [*npz_episodes.find(_of(paths, [npz_episodes.SUFFIX]), root, options)]


def _files(root: Path) -> list[Path]:
    if not root.exists():
        raise ConfigError(f"{root}: expected a folder with videos, got none")
    found = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: natural(path.as_posix()))


def _of(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in suffixes]
