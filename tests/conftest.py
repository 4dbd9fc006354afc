"""Fixtures for all tests: one local Ray per session, threads pinned, no cluster by accident."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what uses Ray, which takes longest; see `pytest_xdist_make_scheduler`."""
    items.sort(key=lambda item: not _uses_ray(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `-n` all files that use Ray go to one worker; another file's tests stay together.

    pytest-xdist's own groups do nothing with pytest 9.2, whose items keep their ids.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if _uses_ray(nodeid) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # in the order of collection
    return OneRay(config, log)  # type: ignore[arg-type]


def _uses_ray(nodeid: str) -> bool:
    return _says_ray(nodeid.partition("::")[0])


@cache
def _says_ray(file: str) -> bool:
    return "mark.ray" in (ROOT / file).read_text()


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
