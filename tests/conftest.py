"""Fixtures for all tests: one local Ray per session, threads pinned, no cluster by accident."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
# 30 s are too few for the Ray of the tests on a machine that is busy.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all that uses Ray to one worker, from the start; a file's other tests stay together."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        is_ray = item.get_closest_marker("ray") is not None
        item.add_marker(pytest.mark.xdist_group("ray" if is_ray else str(item.path)))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray cluster of 4 logical CPUs on this machine, whose workers can import the tests."""
    import ray

    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        namespace="reverie",
        logging_level="warning",
        object_store_memory=500_000_000,
        _system_config={"worker_niceness": 0},  # of 15 by default: starved beside anything else
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
