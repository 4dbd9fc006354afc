"""run_manifest.json: what a reader needs to repeat a run or to trust its figures.

Code (git commit and diff), installed versions, hardware, assets (ROM hashes), environment
versions, protocol, seeds and times. Of the process's environment only `ENV_VARIABLES` are
recorded, so that no password or token gets into a run folder.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from reverie.documents import json_text, parse, read_json
from reverie.errors import DocumentError
from reverie.settings import ExperimentConfig
from reverie.storage import Storage
from reverie.types import JsonTree, Spaces

MANIFEST_FILE = "run_manifest.json"
ENV_VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MUJOCO_GL")
MAX_DIFF = 1_000_000
"""Bytes of a git diff that are kept."""
GIT_TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GitState:
    """Which code ran, as far as git knows."""

    commit: str | None
    """None outside a checkout, without git, or before the first commit."""
    diff: bytes = b""
    """Changes of tracked files against the commit."""
    truncated: bool = False
    """The diff was longer than `MAX_DIFF`."""
    untracked: int = 0
    """Files git neither tracks nor ignores; their contents are not recorded."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a learner computes on, by the machine that has it."""

    name: str
    """Of the GPU, or of the CPU."""
    is_gpu: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Earlier:
    """What a later start reads of the manifest."""

    versions: dict[str, str]
    resumed: list[JsonValue]


def write_run_manifest(
    folder: Path,
    config: ExperimentConfig,
    spaces: Spaces,
    protocol_id: str,
    argv: Sequence[str],
    *,
    assets: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Write `run_manifest.json`; where it exists, append this start to its `resumed` list.

    A git diff lies beside it as `git.diff`, that of the n-th resume as `git.resumed<n>.diff`.
    Waits for git, at most a minute.

    Args:
        folder: the run folder.
        config: as it was resolved; written whole, seed included.
        spaces: what the agent sees and may do.
        protocol_id: under which evaluations compare.
        argv: the command line.
        assets: hash by name, of ROMs and other files the environments read.
        environment: versions the suite reports, by name.

    Raises:
        OSError: the folder cannot be written.
        DocumentError: an existing manifest that is not JSON, or lacks what each one holds.
    """
    path = folder / MANIFEST_FILE
    if path.exists():
        tree = _read(path)
        try:
            earlier = parse(_Earlier, tree, str(path))
        except DocumentError as error:
            raise DocumentError(f"{error}; move the file away") from None
        tree["resumed"] = [*earlier.resumed, _restart(folder, argv, earlier)]
    else:
        tree = _start(folder, argv, "git.diff")
        tree["versions"] = installed_versions()
        tree["protocol"] = protocol_id
        tree["seeds"] = {"seed": config.seed}
        tree["environment"] = dict(environment or {})
        tree["assets"] = dict(assets or {})
        tree["spaces"] = spaces.to_json()
        tree["config"] = config.to_dict()
        tree["resumed"] = []
    Storage(folder).write_atomic(MANIFEST_FILE, json_text(tree, indent=1, default=str).encode())
    return path


def record_learner(folder: Path, device: Device, seconds: float) -> None:
    """Add the learner's device to the manifest, and how long it has worked, in seconds.

    `hardware` is that of the process that started the run, which may be another machine.

    Raises:
        OSError: the folder cannot be written.
        DocumentError: the manifest is no JSON.
    """
    tree = _read(folder / MANIFEST_FILE)
    tree["learner"] = {
        "device": device.name,
        "gpu": device.is_gpu,
        "worked_s": round(seconds, 3),
    }
    Storage(folder).write_atomic(MANIFEST_FILE, json_text(tree, indent=1, default=str).encode())


def device_of(device: str) -> Device:
    """The device of this machine that torch calls `device`, e.g. `cuda:0`."""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return Device(torch.cuda.get_device_name(device), is_gpu=True)
    return Device(_cpu_model(), is_gpu=False)


def _start(folder: Path, argv: Sequence[str], diff_name: str) -> JsonTree:
    """What may differ from one start of the run to the next."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": list(argv),
        "git": _write_git(folder, diff_name, read_git(Path.cwd())),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware(),
        "variables": {name: os.environ[name] for name in ENV_VARIABLES if name in os.environ},
    }


def _restart(folder: Path, argv: Sequence[str], earlier: _Earlier) -> JsonTree:
    """A later start; of the versions only those that differ from the first one's."""
    start = _start(folder, argv, f"git.resumed{len(earlier.resumed) + 1}.diff")
    start["versions_changed"] = _changes(earlier.versions, installed_versions())
    return start


def installed_versions() -> dict[str, str]:
    """Version of every installed distribution, by name."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return dict(sorted((name, version) for name, version in found.items() if name))


def hardware() -> JsonTree:
    """CPU model, cores, memory in bytes, and the GPUs if torch is imported already."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
    }


def read_git(folder: Path) -> GitState:
    """Ask git about the checkout that holds `folder`."""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return GitState(commit=None)
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    return GitState(
        commit=commit.decode().strip(),
        diff=diff[:MAX_DIFF],
        truncated=len(diff) > MAX_DIFF,
        untracked=len(untracked.splitlines()),
    )


def _write_git(folder: Path, diff_name: str, state: GitState) -> JsonTree | None:
    if state.commit is None:
        return None
    if state.diff:
        Storage(folder).write_atomic(diff_name, state.diff)
    return {
        "commit": state.commit,
        "diff": diff_name if state.diff else None,
        "diff_truncated": state.truncated,
        "untracked_files": state.untracked,
    }


def _git(folder: Path, *arguments: str) -> bytes:
    """Output of a git command, cut soon after `MAX_DIFF`; empty where git fails or is missing."""
    command = ["git", "--no-pager", *arguments]
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout[: MAX_DIFF + 1] if done.returncode == 0 else b""


def _read(path: Path) -> JsonTree:
    try:
        return cast(JsonTree, read_json(path))  # `parse` looks at it next
    except ValueError as error:
        raise DocumentError(f"{path}: expected JSON, got {error}; move the file away") from None


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Versions that differ, as `[old, new]`; None where one of them is not installed."""
    names = sorted(old.keys() | new.keys())
    pairs = {name: [old.get(name), new.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gpus() -> list[JsonTree]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": card.name, "memory_bytes": card.total_memory} for card in cards]
