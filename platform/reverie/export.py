"""A run's policy in a folder of its own, a few MB: `reverie export`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from reverie.checkpoint import CheckpointError, CheckpointStore
from reverie.errors import ConfigError
from reverie.paths import place
from reverie.policy import (
    CONFIG_FILE,
    POLICY_FILE,
    SPACES_FILE,
    acting_config_file,
    find_checkpoint,
)
from reverie.run_manifest import MANIFEST_FILE
from reverie.storage import Storage
from reverie.types import Json

RECORD = "record"


def export(run: str | Path, folder: str | Path, number: int | None = None) -> int:
    """Copy what `reverie.load(folder)` needs, and what tells where it is from.

    That is the configuration, the spaces, the run's manifest, and of one checkpoint (the newest,
    or `number`) the policy and how far the run was. Returns the checkpoint's number.

    Raises:
        FileNotFoundError: `run` is no run folder or holds no checkpoint yet.
        ConfigError: `folder` exists and is not empty, or a file of the run is missing.
        CheckpointError: no such checkpoint, none that is whole, or weights that are not finite.
    """
    source, target = acting_config_file(run).parent, place(folder)
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target}: expected a new or empty folder, it holds files")
    if not (source / SPACES_FILE).is_file():
        raise ConfigError(f"{source / SPACES_FILE}: expected the run's spaces, got no file")
    checkpoint = find_checkpoint(run, number, [POLICY_FILE])
    policy = checkpoint.tensors("policy")
    documents: Mapping[str, Json] = {}
    # Acting does without it; an evaluation says then that it does not know how far the run was.
    with contextlib.suppress(CheckpointError, KeyError):
        documents = {RECORD: checkpoint.document(RECORD)}
    target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, SPACES_FILE, MANIFEST_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    store = CheckpointStore(Storage(target), keep=1)
    store.save(checkpoint.number, {"policy": policy}, documents)
    return checkpoint.number
