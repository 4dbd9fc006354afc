"""Where a configuration's file lies: a path, or the name of a preset that came with the package.

Presets are the files under `tune_configs/`: beside this module in a wheel, at the root in a
checkout. Their names are `<folder>/<file>` without the suffix, e.g. `harmonydream/atari100k`.
Those of `tune_configs/sweeps/` are sweeps and no configurations.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from reverie.errors import ConfigError

FOLDER = "tune_configs"
HERE = Path(__file__).resolve()
PLACES = (HERE.parent / FOLDER, HERE.parents[2] / FOLDER)
"""Where the presets may lie: in an installed package, in a checkout."""
SWEEPS = "sweeps/"
"""How names of sweeps begin."""
EXAMPLE = "dreamerv2/catch"
"""A preset that runs anywhere."""
NEAREST = 3
LIKENESS = 0.5
"""Share of equal letters from which on a preset is offered for a name."""


def preset_files() -> dict[str, Path]:
    """All presets of runs by name."""
    return {name: path for name, path in _files().items() if not name.startswith(SWEEPS)}


def sweep_files() -> dict[str, Path]:
    """All presets of sweeps by name."""
    return {name: path for name, path in _files().items() if name.startswith(SWEEPS)}


def _files() -> dict[str, Path]:
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        return {}
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def find_config(name: str | Path, beside: Path = Path()) -> Path:
    """The file that `name` stands for: a path that exists (from the folder `beside`), or a preset.

    Raises:
        ConfigError: neither, with the presets whose names are near.
    """
    return _find(name, beside, preset_files())


def find_sweep(name: str | Path) -> Path:
    """The file of a sweep: a path that exists, or a preset, e.g. `sweeps/smoke`.

    Raises:
        ConfigError: neither, with the presets whose names are near.
    """
    return _find(name, Path(), sweep_files())


def _find(name: str | Path, beside: Path, presets: Mapping[str, Path]) -> Path:
    path = beside / Path(name).expanduser()
    if path.is_file():
        return path
    preset = presets.get(str(name).removesuffix(".yaml"))
    if preset is None:
        raise ConfigError(f"no preset or file {str(name)!r}; {_nearest(str(name), presets)}")
    return preset


def _nearest(name: str, presets: Iterable[str]) -> str:
    """Offer the presets whose names, with or without their folder, are near `name`."""
    if not (names := sorted(presets)):
        return "this installation holds no presets"
    wanted = name.removesuffix(".yaml").removeprefix("./").removeprefix(f"{FOLDER}/")
    near = difflib.get_close_matches(wanted, names, NEAREST, LIKENESS)
    if not near:
        end = wanted.rpartition("/")[2]
        near = [each for each in names if each.rpartition("/")[2] == end][:NEAREST]
    if near:
        return f"nearest presets: {', '.join(near)}"
    folders = sorted({each.partition("/")[0] for each in names})
    example = EXAMPLE if EXAMPLE in names else names[0]
    return f"presets are named like {example}, from {', '.join(folders)}"
