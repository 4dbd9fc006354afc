"""Joining or starting a Ray cluster, and what its processes are started with."""

# ray.init is partly untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ray

from reverie.config import TrainConfig
from reverie.errors import PlacementError
from reverie.types import JsonTree

NAMESPACE = "reverie"
PROCESS_ENV = {
    # Threads that spin while they wait make two processes on two cores ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def connect(config: TrainConfig, address: str | None) -> bool:
    """Join the cluster at `address`, or start one here; returns whether one was started.

    A process that has joined a cluster already stays with it.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    in_job = "RAY_JOB_ID" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    options: dict[str, Any] = {"namespace": NAMESPACE, "logging_level": logging.WARNING}
    if address is None and not in_job:
        os.environ.update({k: os.environ.get(k, v) for k, v in PROCESS_ENV.items()})
        _extend_pythonpath(os.getcwd())
        if "RAY_worker_niceness" not in os.environ:
            # Ray's own 15 starves a run beside anything else; a machine of one's own has no need.
            options["_system_config"] = {"worker_niceness": 0}
        ray.init(address="local", **options)
        return True
    if not in_job:
        options["runtime_env"] = _runtime_env(config)
    elif "PYTHONPATH" in os.environ:
        # In a job's uploaded folder the sources are found by path, here and in the actors.
        options["runtime_env"] = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    ray.init(address=address or "auto", **options)
    return False


def _extend_pythonpath(folder: str) -> None:
    """Let local workers import what the driver can import from its folder."""
    paths = [folder, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))


def _runtime_env(config: TrainConfig) -> JsonTree:
    """Environment of the actors on a cluster; ships the file of `env.factory` along."""
    runtime_env: JsonTree = {"env_vars": PROCESS_ENV}
    if config.env.factory is not None:
        runtime_env["working_dir"] = _stage_module(config.env.factory.partition(":")[0])
    return runtime_env


def _stage_module(module: str) -> str:
    """Copy a module (or the package it lies in) into a folder of its own, for the upload."""
    top = module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise PlacementError(f"env.factory: module {top!r} cannot be found from {os.getcwd()}")
    folder, origin = Path(tempfile.mkdtemp(prefix="reverie-")), Path(spec.origin)
    if origin.name == "__init__.py":
        shutil.copytree(origin.parent, folder / top)
    else:
        shutil.copy(origin, folder)
    return str(folder)
