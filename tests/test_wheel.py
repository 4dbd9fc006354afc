"""What a wheel holds, and that it trains from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

SMALL = [
    "run.env_steps=60",
    "run.prefill=40",
    "run.dir=run",
    "learner.batch_size=2",
    "learner.batch_length=8",
    "learner.training_ratio=1",
    "learner.pretrain=0",
    "eval.episodes=1",
    "eval.video=false",
    "resources.learner_threads=1",
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    made = subprocess.run([*pip, "-w", str(folder), str(ROOT)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow  # builds with packages from the index
def test_a_wheel_holds_every_preset(unpacked: Path) -> None:
    source = ROOT / "tune_configs"
    wanted = {path.relative_to(source) for path in source.rglob("*.yaml")}
    folder = unpacked / "reverie/tune_configs"
    assert {path.relative_to(folder) for path in folder.rglob("*.yaml")} == wanted


@pytest.mark.slow
def test_a_preset_trains_from_a_wheel_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reverie.cli", "train", "harmonydream/catch", "--local"]
    found = subprocess.run(
        [*command, *SMALL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "env steps         60 (" in found.stdout, found.stdout
    assert sorted(os.listdir(tmp_path)) == ["run"]
