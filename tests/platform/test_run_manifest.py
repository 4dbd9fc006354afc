"""run_manifest.json: enough to repeat a run, and nothing secret."""

from __future__ import annotations

import json
import subprocess
import types
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from reverie import run_manifest
from reverie.config import TrainConfig
from reverie.errors import DocumentError
from reverie.run_manifest import (
    Device,
    device_of,
    hardware,
    installed_versions,
    read_git,
    record_learner,
    write_run_manifest,
)
from reverie.types import ActionSpec, ArraySpec, Spaces

SPACES = Spaces({"image": ArraySpec((8, 8, 3), "uint8")}, ActionSpec("discrete", (4,)))
CONFIG = cast(
    TrainConfig,
    types.SimpleNamespace(seed=7, to_dict=lambda: {"seed": 7, "env": {"suite": "toy"}}),
)
VARIABLES = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, the current folder."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is no checkout."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)


def write(folder: Path, **more: Any) -> dict[str, Any]:
    path = write_run_manifest(folder, CONFIG, SPACES, "toy/catch/v1", ["reverie", "train"], **more)
    assert path == folder / "run_manifest.json"
    return json.loads(path.read_text())


@pytest.mark.usefixtures("elsewhere")
def test_manifest_holds_what_science_needs(tmp_path: Path) -> None:
    tree = write(tmp_path / "run", assets={"pong.bin": "sha"}, environment={"toy": "2"})
    assert tree["protocol"] == "toy/catch/v1"
    assert tree["argv"] == ["reverie", "train"]
    assert tree["seeds"] == {"seed": 7}
    assert tree["config"] == {"seed": 7, "env": {"suite": "toy"}}
    assert Spaces.from_json(tree["spaces"]) == SPACES
    assert (tree["assets"], tree["environment"]) == ({"pong.bin": "sha"}, {"toy": "2"})
    assert datetime.fromisoformat(tree["started"]).utcoffset().total_seconds() == 0
    assert tree["git"] is None
    assert tree["resumed"] == []


@pytest.mark.usefixtures("elsewhere")
def test_no_secret_of_the_environment_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret-value")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    tree = write(tmp_path / "run")
    assert tree["variables"]["MUJOCO_GL"] == "egl"
    assert tree["variables"].keys() <= {"MUJOCO_GL", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    for path in (tmp_path / "run").iterdir():
        assert "very-secret-value" not in path.read_text()


def test_commit_and_diff_are_recorded(checkout: Path, tmp_path: Path) -> None:
    (checkout / "train.py").write_text("x = 2\n")
    (checkout / "new.py").touch()
    (checkout / "ignored").touch()
    tree = write(tmp_path / "run")
    assert tree["git"] == {
        "commit": git(checkout, "rev-parse", "HEAD"),
        "diff": "git.diff",
        "diff_truncated": False,
        "untracked_files": 1,
    }
    assert "+x = 2" in (tmp_path / "run" / "git.diff").read_text()


def test_diff_and_untracked_files_cover_the_whole_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "deep").mkdir()
    (checkout / "new.py").touch()
    (checkout / "train.py").write_text("x = 3\n")
    state = read_git(checkout / "deep")
    assert b"+x = 3" in state.diff
    assert state.untracked == 1


def test_clean_checkout_has_no_diff(checkout: Path, tmp_path: Path) -> None:
    tree = write(tmp_path / "run")
    assert tree["git"]["commit"] == git(checkout, "rev-parse", "HEAD")
    assert tree["git"]["diff"] is None
    assert not (tmp_path / "run" / "git.diff").exists()


def test_long_diff_is_cut(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_manifest, "MAX_DIFF", 1000)
    (checkout / "train.py").write_text("y\n" * 10_000)
    state = read_git(checkout)
    assert (len(state.diff), state.truncated) == (1000, True)


def test_checkout_before_its_first_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert read_git(tmp_path).commit is None


def test_without_git_nothing_is_known(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert read_git(checkout).commit is None


def test_resume_is_appended(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "run")
    (checkout / "train.py").write_text("x = 2\n")
    versions = {**installed_versions(), "numpy": "0.0.1"}
    monkeypatch.setattr(run_manifest, "installed_versions", lambda: versions)
    write(tmp_path / "run")
    tree = write(tmp_path / "run")
    resumed = tree.pop("resumed")
    assert tree == {key: value for key, value in first.items() if key != "resumed"}
    assert [entry["git"]["diff"] for entry in resumed] == [
        "git.resumed1.diff",
        "git.resumed2.diff",
    ]
    changed = resumed[0]["versions_changed"]
    assert changed == {"numpy": [first["versions"]["numpy"], "0.0.1"]}
    assert "+x = 2" in (tmp_path / "run" / "git.resumed1.diff").read_text()


@pytest.mark.usefixtures("elsewhere")
def test_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "run_manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"run_manifest\.json: expected JSON"):
        write(tmp_path)


@pytest.mark.usefixtures("elsewhere")
def test_manifest_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "run_manifest.json").write_text('{"resumed": []}')
    with pytest.raises(DocumentError, match=r"run_manifest\.json\.versions"):
        write(tmp_path)


def test_versions_and_hardware() -> None:
    versions = installed_versions()
    assert versions.keys() >= {"numpy", "pytest", "reverie"}
    machine = hardware()
    assert machine["memory_bytes"] > 2**28
    assert 1 <= machine["usable_cores"] <= machine["cores"]
    assert machine["cpu"]


def test_gpus_are_listed_if_torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    card = types.SimpleNamespace(name="H200", total_memory=5)
    cuda = types.SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda _: card
    )
    monkeypatch.setitem(run_manifest.sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert hardware()["gpus"] == [{"name": "H200", "memory_bytes": 5}] * 2
    monkeypatch.delitem(run_manifest.sys.modules, "torch")
    assert hardware()["gpus"] == []


def test_the_learners_device_stands_beside_the_drivers_hardware(
    elsewhere: None, tmp_path: Path
) -> None:
    before = write(tmp_path / "run")
    record_learner(tmp_path / "run", Device("NVIDIA H100", is_gpu=True), 12.3456)
    record_learner(tmp_path / "run", Device("NVIDIA H200", is_gpu=True), 20)
    after = json.loads((tmp_path / "run/run_manifest.json").read_text())
    assert after.pop("learner") == {"device": "NVIDIA H200", "gpu": True, "worked_s": 20}
    assert after == before
    assert device_of("cpu") == Device(hardware()["cpu"], is_gpu=False)
