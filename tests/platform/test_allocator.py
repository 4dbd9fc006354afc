"""Where glibc serves large blocks from, told by the page faults of a process that asks for them."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reverie import learner
from reverie.allocator import keep_memory
from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.local_run import LocalRun
from tests.fakes import tree

ON_GLIBC = platform.libc_ver()[0] == "glibc"
FAULTS = """
import resource, sys
import numpy as np
from reverie.allocator import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    assert keep_memory()
for _ in range(3):
    np.ones(40 << 20, np.uint8)
before = faults()
for _ in range(20):
    np.ones(40 << 20, np.uint8)
print(faults() - before)
"""


def count_faults(how: str) -> int:
    code = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(code, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not ON_GLIBC, reason="needs glibc")
def test_large_blocks_are_not_mapped_anew() -> None:
    kept = count_faults("keep")
    assert kept < 100
    assert count_faults("plain") > 10 * max(kept, 1)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_memory()


@pytest.mark.parametrize(("device", "kept"), [("cpu", 1), ("cuda", 0)])
def test_a_learner_keeps_memory_on_a_cpu_only(
    device: str, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(learner, "keep_memory", lambda: bool(calls.append(True)))
    monkeypatch.setattr("reverie.local_run.pick_device", lambda wanted: device)
    # The stub stays on the CPU whatever it is told.
    config = resolve_config(tree())
    LocalRun(config, spaces_of(config.env), tmp_path).close()
    assert len(calls) == kept
