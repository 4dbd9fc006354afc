"""A sweep as it lies on disk. No process has to stay alive: all that is known stands in files.

sweep.json            all cells, the file they come from, its hash
configs/<config>.yaml what `reverie train` is given; the seed comes on the command line
runs/<cell>/          an ordinary run folder
logs/<cell>.log       what its process said
state/<cell>.json     how often it was started and what became of it
"""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard

from reverie.config import TrainConfig, load_run_config
from reverie.documents import json_text, parse, read_json
from reverie.errors import ConfigError
from reverie.paths import place, short
from reverie.storage import Storage
from reverie.tuning.cells import Cell, Plan, plan
from reverie.tuning.sweep_settings import SweepFile
from reverie.types import Json

SWEEP_FILE = "sweep.json"
FORMAT = 1
SHOWN = 5
"""Keys that differ, as many as a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Document:
    """The content of `SWEEP_FILE`."""

    format: int
    sha256: str
    """Of what decides the cells, as the file had it."""
    created: str
    file: SweepFile
    """As it was read, with its bases written out."""
    seeds: tuple[int, ...]
    """Of the sweep now: more than the file's once it was extended."""
    cells: tuple[Cell, ...]


class SweepFolder:
    """A sweep that exists.

    Raises:
        ConfigError: no sweep lies in the folder, or one of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path / SWEEP_FILE
        if not file.is_file():
            raise ConfigError(f"{short(path)}: expected the folder of a sweep, got no {SWEEP_FILE}")
        try:
            self._document = parse(_Document, read_json(file), str(short(file)))
        except ValueError as error:
            raise ConfigError(f"{short(file)}: {error}") from None
        if self._document.format > FORMAT:
            raise ConfigError(f"{short(file)}: written by a later version of Reverie")

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self._document.cells

    @property
    def file(self) -> SweepFile:
        return self._document.file

    @property
    def sha256(self) -> str:
        return self._document.sha256

    @property
    def shown(self) -> str:
        """Its path as it stands in a command."""
        return shlex.quote(str(short(self.path)))

    def run_folder(self, cell: str) -> Path:
        return self.path / "runs" / cell

    def log_file(self, cell: str) -> Path:
        return self.path / "logs" / f"{cell}.log"

    def state_file(self, cell: str) -> Path:
        return self.path / "state" / f"{cell}.json"

    def command(self, cell: Cell) -> list[str]:
        """What `reverie` is called with for a cell: a run like any other."""
        overrides = [f"seed={cell.seed}", f"run.dir={_quoted(self.run_folder(cell.id))}"]
        if cell.after is not None:
            overrides.append(f"init.from={_quoted(self.run_folder(cell.after))}")
        return ["train", str(self._config_file(cell)), *overrides, "--local", "--resume=auto"]

    def config(self, cell: Cell) -> TrainConfig:
        """A cell's configuration, without its seed. Raises: ConfigError."""
        return load_run_config(self._config_file(cell))

    def _config_file(self, cell: Cell) -> Path:
        return self.path / "configs" / f"{cell.config}.yaml"

    def check_same(self, file: SweepFile) -> None:
        """Refuse another file than the sweep was made from.

        Raises:
            ConfigError: with the keys that differ.
        """
        old, new = _flat(self.file.deciding()), _flat(file.deciding())
        names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if names:
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise ConfigError(
                f"{self.shown} is the folder of another sweep: {shown} "
                f"{'differs' if len(names) == 1 else 'differ'}; choose another sweep.dir"
            )

    def extend(self, seeds: tuple[int, ...]) -> SweepFolder:
        """Add the cells that further seeds make; those that are there stay as they are.

        Raises:
            ConfigError: no new cells, or some would be gone.
        """
        longer = plan(dataclasses.replace(self.file, seeds=seeds), insist=True)
        kept, wanted = {cell.id for cell in self.cells}, {cell.id for cell in longer.cells}
        if not kept < wanted:
            had = ", ".join(map(str, self._document.seeds))
            raise ConfigError(
                f"seeds: expected more than the sweep has ({had}), got {', '.join(map(str, seeds))}"
            )
        document = dataclasses.replace(self._document, seeds=seeds, cells=longer.cells)
        _write(self.path, document)
        return SweepFolder(self.path)


def sweep_path(file: SweepFile) -> Path:
    """Where a sweep's folder lies."""
    return place(file.sweep.dir or f"runs/sweep-{file.name}")


def exists(file: SweepFile) -> bool:
    """Whether the folder of this sweep, or of another, is there."""
    return (sweep_path(file) / SWEEP_FILE).exists()


def check_free(file: SweepFile) -> None:
    """Refuse to begin a sweep where something is.

    Raises:
        ConfigError: another sweep, this one, or anything else.
    """
    path = sweep_path(file)
    if exists(file):
        old = SweepFolder(path)
        old.check_same(file)
        raise ConfigError(
            f"sweep.dir: {old.shown} exists; go on with it: the same command with --resume"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"sweep.dir: {short(path)} exists and holds no sweep; choose another")


def create(file: SweepFile, found: Plan) -> SweepFolder:
    """Make the folder of a new sweep.

    Raises:
        ConfigError: something is there already.
    """
    check_free(file)
    path = sweep_path(file)
    for folder in ("configs", "runs", "logs", "state"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    for name, config in found.configs.items():
        (path / "configs" / f"{name}.yaml").write_text(config.to_yaml())
    document = _Document(
        format=FORMAT,
        sha256=hashlib.sha256(json_text(file.deciding()).encode()).hexdigest(),
        created=time.strftime("%Y-%m-%d %H:%M:%S"),
        file=file,
        seeds=file.seeds,
        cells=found.cells,
    )
    _write(path, document)  # last: without it there is no sweep
    return SweepFolder(path)


def _write(path: Path, document: _Document) -> None:
    Storage(str(path)).write_atomic(SWEEP_FILE, json_text(asdict(document), indent=1).encode())


def _quoted(path: Path) -> str:
    """A path as YAML text."""
    return json_text(str(path))


def _flat(value: Json) -> dict[str, Json]:
    return dict(_leaves(value, ""))


def _leaves(value: Json, place: str) -> Iterator[tuple[str, Json]]:
    """What stands in a tree, by dotted key; lists stay whole."""
    if _is_mapping(value):
        for key, item in value.items():
            yield from _leaves(item, f"{place}.{key}" if place else key)
    else:
        yield place, list(value) if isinstance(value, tuple) else value


def _is_mapping(value: Json) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(value, Mapping)
