"""`benchmarks/gpu.py --dry-run`: three steps of each part on a CPU, from a bare source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    known = set(sys.modules)
    import gpu

    yield gpu
    for name in {"gpu", "gpu_speed", "gpu_learn", "common", "measure", "learner_step"} - known:
        sys.modules.pop(name, None)


def rows(folder: Path, part: str) -> list[dict[str, Any]]:
    return json.loads((folder / f"gpu-{part}-dry.json").read_text())["figures"]


def dry_run(gpu: Any, part: str, folder: Path) -> int:
    return gpu.main(["--part", part, "--dry-run", "--out", str(folder)])


@pytest.mark.parametrize("part", ["tests", "speed"])
def test_three_rows_are_made_and_kept(
    gpu: Any, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(gpu, part, tmp_path) == 0
    made = rows(tmp_path, part)
    assert [row["state"] for row in made] == ["passed"] * 3
    assert part == "tests" or all(row["wall_ms"] > 0 for row in made)
    capsys.readouterr()
    assert dry_run(gpu, part, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / f'gpu-{part}-dry.json'}: 3 rows, 0 failed, 0 left"
    ]


def test_a_run_learns_without_ray_or_an_installation_and_goes_on(tmp_path: Path) -> None:
    command = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import runpy, sys; sys.modules['ray'] = None; {command}"
    script = str(ROOT / "benchmarks/gpu.py")
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [sys.executable, "-c", code, script, "--part", "learn", "--dry-run", "--out", tmp_path]
    done = subprocess.run(words, cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path, "learn")
    assert row["updates"] >= 3
    assert (tmp_path / "gpu-runs-dry/pong/checkpoints").is_dir()


def test_what_failed_or_was_not_finished_is_told_apart(gpu: Any, tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("expected this")

    def hang() -> dict[str, Any]:
        raise TimeoutError

    calls: list[str] = []
    table = {
        "hangs": hang,
        "fails": fail,
        "passes": lambda: {"calls": calls.append("passes") or 1},
    }
    ledger = gpu.Ledger("gpu-speed", tmp_path, gpu=None)
    gpu.work_off(ledger, table, gpu.Deadline(minutes=0.1))
    assert not ledger.rows  # nothing is begun so near to the end
    gpu.work_off(ledger, table, gpu.Deadline(minutes=5))
    again = gpu.Ledger("gpu-speed", tmp_path, gpu=None)
    assert {name: row["state"] for name, row in again.rows.items()} == {
        "hangs": "begun",
        "fails": "failed",
        "passes": "passed",
    }
    assert again.rows["fails"]["error"] == "ValueError: expected this"
    assert again.todo(["hangs", "new", "fails", "passes"]) == ["new", "hangs"]
    assert again.todo([*table], again=True) == ["fails", "hangs"]


def test_what_lies_beyond_a_checkpoint_is_made_again(gpu: Any, tmp_path: Path) -> None:
    from types import SimpleNamespace

    import gpu_learn

    ledger = gpu.Ledger("gpu-learn", tmp_path)
    points = [{"env_steps": 100, "score": 1}, {"env_steps": 300, "score": 2}]
    ledger.put("pong", seconds=50, calls=1, evaluations=points, episodes=[[90, 1.0], [210, 2.0]])
    trainer = SimpleNamespace(progress=SimpleNamespace(env_steps=200, grad_updates=7))
    gpu_learn.Curve("pong", [], ledger, trainer, begin=0.0).write("begun")
    row = gpu.Ledger("gpu-learn", tmp_path).rows["pong"]
    assert row["evaluations"] == points[:1]
    assert row["episodes"] == [[90, 1.0]]
    assert (row["calls"], row["env_steps"]) == (2, 200)
    assert row["seconds"] > 50


def test_without_a_gpu_the_way_out_is_named(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main(["--part", "tests", "--out", str(tmp_path)]) == 2
    assert "--dry-run" in capsys.readouterr().out


def test_every_agent_is_measured_with_both_precisions_compiled_and_not(gpu: Any) -> None:
    import gpu_speed

    from reverie import registry

    names = [*gpu_speed.all_rows()]
    for agent in registry.ALGORITHMS:
        updates = [name for name in names if name.startswith(f"{agent} update")]
        acting = [name for name in names if name.startswith(f"{agent} act")]
        acts = registry.learns_from(registry.algorithm(agent)) != "video"
        assert (len(updates), len(acting)) == (4, 6 * acts)
    first = next(i for i, name in enumerate(names) if name.endswith("compiled"))
    assert all(name.endswith("compiled") for name in names[first:])
