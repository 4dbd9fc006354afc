"""The folder of one run: its name, who writes it, and which checkpoint stands in it."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from reverie.checkpoint import Checkpoint, CheckpointError, CheckpointStore
from reverie.documents import json_text
from reverie.errors import ConfigError
from reverie.lease import LEASE_FILE, Lease, holder
from reverie.paths import place, short
from reverie.policy import CONFIG_FILE
from reverie.settings import ExperimentConfig
from reverie.storage import Storage
from reverie.types import Json

log = logging.getLogger(__name__)
Resume = Literal["never", "auto", "must"]
"""Begin, in a folder that is empty; go on if there is a checkpoint; insist on one."""


class RunFolder:
    """A run's folder as the process sees it that begins the run or goes on with it.

    Raises:
        ConfigError: a thousand runs of this name were begun in this second.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        self._config = config
        # Before a fresh name is made.
        self._was_there = config.run.dir is not None and place(config.run.dir).exists()
        self.path = run_folder(config)
        self.checkpoints = CheckpointStore(Storage(str(self.path)), config.run.keep_checkpoints)
        self.is_new = False
        """Nothing was in it when it was claimed."""

    @property
    def shown(self) -> str:
        """Its path as it stands in a command."""
        return shlex.quote(str(short(self.path)))

    def claim(self, resume: Resume) -> Lease:
        """Become the one that writes it; it is made if need be.

        Raises:
            ConfigError: it holds a run that is not to be resumed, or none that is.
            FolderTaken: another process writes it.
        """
        is_empty = _is_empty(self.path)
        if resume == "never" and not is_empty:
            raise self._exists()
        if resume == "must" and is_empty:
            raise self._nothing_to_resume()
        self.path.mkdir(parents=True, exist_ok=True)
        lease = Lease(self.path)
        if resume == "never" and not _is_empty(self.path):
            lease.release()  # another was faster, and has ended already
            raise self._exists()
        self.is_new = is_empty
        return lease

    def find_checkpoint(self, resume: Resume, number: int | None) -> Checkpoint | None:
        """Find what the run goes on from, and say how its configuration has changed since.

        Args:
            resume: `auto` does without one, `must` insists.
            number: of the checkpoint, instead of the newest.

        Raises:
            ConfigError: there is none but has to be one, or it holds another number of shards.
            CheckpointError: no such checkpoint, or none that is usable.
        """
        if self.is_new or resume == "never":
            return None
        found = None
        if (self.path / CONFIG_FILE).exists():
            found = self.checkpoints.latest() if number is None else self.checkpoints.load(number)
        if found is None:
            if resume == "must":
                raise self._nothing_to_resume()
            return None
        if "replay.json" in found.parts:
            self._check_shards(len(found.document("replay")))
        self._say_what_changed(found)
        return found

    def leave_later(self, number: int) -> None:
        """Set checkpoints aside that come after the one the run goes on from."""
        if later := self.checkpoints.set_aside(number):
            log.warning(
                "going on from checkpoint %d: %s set aside (manifest.set_aside.json), gone with"
                " the next checkpoint",
                number,
                later,
            )

    def clear_start(self) -> None:
        """A run that never began leaves nothing that is in the way."""
        if self.is_new:
            _clear(self.path, whole=not self._was_there)

    def standing(self, what: str) -> str:
        """What came to pass, and which checkpoint stands after it."""
        while (newest := self.checkpoints.newest()) is not None:
            try:
                record = self.checkpoints.load(newest, ["record.json"]).document("record")
            except CheckpointError:
                continue  # it is known as broken now
            return (
                f"{what}; checkpoint {newest} stands ({_steps(record['progress'])}), "
                f"resume it with: reverie resume {self.shown}"
            )
        return (
            f"{what}; no checkpoint stands yet: start again with the same command and"
            f" run.dir={self.shown} --resume=auto"
        )

    def _check_shards(self, had: int) -> None:
        wanted = getattr(self._config.resources, "num_shards", had)
        if had != wanted:
            raise ConfigError(
                f"resources.num_shards: the checkpoint holds {had} shards, got {wanted}; "
                "the number of shards of a run cannot change"
            )

    def _exists(self) -> ConfigError:
        owner = holder(self.path) if (self.path / LEASE_FILE).exists() else None
        if owner is not None:
            return ConfigError(
                f"run.dir: {self.shown} exists and {owner} writes it; choose another"
            )
        return ConfigError(
            f"run.dir: {self.shown} exists; choose another, or resume it: "
            f"reverie resume {self.shown}"
        )

    def _nothing_to_resume(self) -> ConfigError:
        return ConfigError(f"{self.shown}: nothing to resume: no checkpoint in it")

    def _say_what_changed(self, checkpoint: Checkpoint) -> None:
        if "config.json" not in checkpoint.parts:
            return
        told = _flat(checkpoint.document("config"))
        for key, value in _flat(self._config.to_dict()).items():
            if told.get(key) != value and key != "run.dir":
                log.warning(
                    "config: %s is %s now; checkpoint %d was trained with %s",
                    key,
                    json_text(value),
                    checkpoint.number,
                    json_text(told.get(key)),
                )


def _steps(progress: Mapping[str, int]) -> str:
    """How far a record is; pre-training takes no env steps."""
    if "env_steps" in progress:
        return f"{progress['env_steps']:,} env steps"
    return f"{progress['grad_updates']:,} updates"


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but leases, or is not there."""
    return not folder.exists() or all(LEASE_FILE in path.name for path in folder.iterdir())


def _clear(folder: Path, *, whole: bool) -> None:
    """Remove what a start has written; the folder itself only if it was made then."""
    try:
        if whole:
            shutil.rmtree(folder)
            return
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:  # why the start failed is what counts
        log.warning("%s: what the start wrote could not be removed: %s", folder, error)


def _flat(tree: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Leaves of a tree by dotted key."""
    flat: dict[str, Json] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def run_folder(config: ExperimentConfig) -> Path:
    """The run's folder: the configured one, or a fresh name under runs/."""
    if config.run.dir is not None:
        return place(config.run.dir)
    task = config.subject.replace(":", "-").replace("/", "-").split("\\")[-1]
    harmony = getattr(getattr(config.algorithm, "harmony", None), "mode", "off")
    name = config.algorithm.name.split(":")[-1] + ("" if harmony == "off" else "-harmony")
    stem = f"{name}-{task}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = Path("runs") / (stem + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return place(folder)
    raise ConfigError(f"runs/{stem}: a thousand runs of this name exist already")
