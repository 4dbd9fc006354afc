"""Joining or starting a Ray cluster, and what its processes are started with."""

# ray.init is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray
from ray._private import node, ray_constants, worker
from ray._raylet import Config

from reverie.documents import json_text
from reverie.errors import PlacementError, RunError
from reverie.settings import ExperimentConfig, TrainConfig
from reverie.types import JsonTree

log = logging.getLogger(__name__)

NAMESPACE = "reverie"
PROCESS_ENV = {
    # Threads that spin while they wait make two processes on two cores ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable for clusters of several machines; at 0 all its sockets stay on 127.0.0.1."""
RAYLET_WAIT, GCS_WAIT = "RAY_raylet_start_wait_time_s", "RAY_gcs_server_port_wait_time_s"
START_WAITS = {RAYLET_WAIT: "120", GCS_WAIT: "120"}
"""Seconds that Ray waits for its own processes; 30 are too few on a machine that is busy."""
TOO_SLOW = ("timed out during startup", "Timed out waiting for file", RAYLET_WAIT)
"""How Ray words that one of its processes did not come up in time."""


def connect(config: ExperimentConfig | None, address: str | None) -> bool:
    """Join the cluster at `address`, or start one here; returns whether one was started.

    A process that has joined a cluster already stays with it. One that is started here can be
    reached from this machine alone.

    Raises:
        RunError: the one started here did not come up in time, twice.
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
        _start(options)
        return True
    if not in_job:
        options["runtime_env"] = _runtime_env(config)
    elif "PYTHONPATH" in os.environ:
        # In a job's uploaded folder the sources are found by path, here and in the actors.
        options["runtime_env"] = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    ray.init(address=address or "auto", **options)
    return False


def _start(options: Mapping[str, Any]) -> None:
    """Start a Ray on this machine, with a second try for one that was too slow."""
    os.environ.update({k: os.environ.get(k, v) for k, v in START_WAITS.items()})
    # Ray has read this one as it was imported; `node.Node` waits 30 s at the least.
    Config.initialize(json_text({RAYLET_WAIT.removeprefix("RAY_"): int(os.environ[RAYLET_WAIT])}))
    for tries_left in (1, 0):
        try:
            with _loopback_only():
                ray.init(address="local", **options)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            if not any(words in str(error) for words in TOO_SLOW):
                raise
            _end_processes(error)
            if not tries_left:
                waits = ", ".join(f"{key}={os.environ[key]}" for key in START_WAITS)
                raise RunError(
                    f"Ray did not start on this machine, twice: {reason} Waited with {waits}"
                    " (seconds); set them higher, free the machine, or run with --local"
                ) from error
            log.warning("Ray did not start in time and is started once more: %s", reason)
        else:
            break
    _close_token_file()
    address = cast(str, ray.get_runtime_context().gcs_address)
    if not address.startswith(("127.", "[::1]")):
        log.warning(
            "Ray listens on %s, where other machines may reach it; see docs/security.md", address
        )


def lost_process() -> str | None:
    """What the run cannot go on without, if it is gone: the gcs or raylet started here, or the
    node of this process on a cluster that it joined.
    """
    here: Any = worker._global_node  # pyright: ignore[reportPrivateUsage]
    if here is not None and here.all_processes:
        dead = [kind for kind, _ in here.dead_processes() if kind in ("gcs_server", "raylet")]
        return f"Ray's {dead[0]} on this machine" if dead else None
    node_id = ray.get_runtime_context().get_node_id()
    nodes = cast(list[dict[str, Any]], ray.nodes())
    alive = any(each["Alive"] for each in nodes if each["NodeID"] == node_id)
    return None if alive else f"the Ray node {node_id[:8]} that this process belongs to"


def end_lost_ray() -> None:
    """End what is left of a Ray started here that has lost a process.

    Ray would print dozens of lines of that process's log meanwhile.
    """
    here: Any = worker._global_node  # pyright: ignore[reportPrivateUsage]
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        if here is not None:
            here.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        ray.shutdown()
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def _close_token_file() -> None:
    """Take from other users the token that Ray writes for everybody to read."""
    path = Path.home() / ".ray" / "auth_token"
    if path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(0o600)


@contextmanager
def _loopback_only() -> Generator[None]:
    """Let a Ray that is started in the block listen on 127.0.0.1 alone, in all its processes.

    The variable reaches those that it starts. Here Ray has read it as it was imported, perhaps by
    the program that calls us, so its constant is set as well. Both are put back: what joins a
    cluster of several machines later needs them. Who sets the variable to 1 keeps all addresses.
    """
    if os.environ.get(LOOPBACK_SWITCH, "0") != "0":
        yield
        return
    before, constant = os.environ.get(LOOPBACK_SWITCH), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[LOOPBACK_SWITCH], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if before is None:
            del os.environ[LOOPBACK_SWITCH]


def _end_processes(error: Exception) -> None:
    """End what a failed `ray.init` has started; Ray itself forgets it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        started = frame.f_locals.get("self")
        if isinstance(started, node.Node):
            started.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    ray.shutdown()


def _extend_pythonpath(folder: str) -> None:
    """Let local workers import what the driver can import from its folder."""
    paths = [folder, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))


def _runtime_env(config: ExperimentConfig | None) -> JsonTree:
    """Environment of the actors on a cluster; ships the module of `env.factory` along, and that of
    `gym/module:Id` where it lies in the current folder.
    """
    runtime_env: JsonTree = {"env_vars": PROCESS_ENV}
    if not isinstance(config, TrainConfig):  # nothing of an environment runs there
        return runtime_env
    module, colon, _ = (config.env.factory or config.env.task).partition(":")
    if config.env.factory is not None or (colon and _is_here(module)):
        runtime_env["working_dir"] = _stage_module(module)
    return runtime_env


def _is_here(module: str) -> bool:
    spec = importlib.util.find_spec(module.partition(".")[0])
    return spec is not None and Path(spec.origin or "/").is_relative_to(Path.cwd())


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
