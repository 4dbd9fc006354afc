"""What a path that a user wrote means: one place, however it is written."""

from __future__ import annotations

import os
from pathlib import Path

from reverie.errors import ConfigError


def place(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a file or folder, which need not exist: `~` is the home folder, and
    links, `..` and a last `/` are gone, so that equal places are equal paths.

    Raises:
        ConfigError: no such home folder, or links that lead to each other.
    """
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"{os.fspath(path)}: expected a path, got {error}") from None


def short(path: Path) -> Path:
    """`path` as seen from the current folder where it lies in it, for a person to read."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
