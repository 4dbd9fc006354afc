"""With the core's packages alone Reverie trains, loads and acts, and names the extra it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXTRAS = (
    *("ray", "ale_py", "cv2", "dm_control", "mujoco", "metaworld", "crafter", "av", "PIL"),
    *("pillow.libs", "rich", "tensorboardX", "wandb", "pygame"),
)
"""What the extras bring, by the names under which it lies beside the core."""
SMALL = [
    *("run.env_steps=60", "run.prefill=40", "run.dir=run", "eval.episodes=1", "eval.envs=1"),
    *("learner.batch_size=2", "learner.training_ratio=1", "resources.learner_threads=1"),
]
LACKS = [
    ("atari100k/pong", 'needs ale-py: pip install "reverie[atari]"'),
    ("crafter/reward", 'needs crafter: pip install "reverie[crafter]"'),
    ("dmc/walker_walk", 'needs dm_control: pip install "reverie[dmc]"'),
    ("metaworld/door-lock", 'needs metaworld: pip install "reverie[metaworld]"'),
    ("robodesk/open_slide", "reverie env install robodesk"),
]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The surroundings of a Python that finds everything installed here but the extras."""
    folder = tmp_path_factory.mktemp("core")
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if path.name not in EXTRAS and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    sources = [str(ROOT / name) for name in ("platform", "algorithms", "envs")]
    own = {"PYTHONPATH": os.pathsep.join([*sources, str(folder)])}
    # Suites that have a Python of their own on this machine have none here.
    return {**os.environ, **own, "REVERIE_VENVS": str(folder / "venvs")}


def run(core: dict[str, str], folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, env=core, capture_output=True, text=True
    )


def test_the_core_trains_loads_and_acts(core: dict[str, str], tmp_path: Path) -> None:
    code = f"""
import importlib.util, numpy as np
assert not any(importlib.util.find_spec(name) for name in {EXTRAS!r} if "." not in name)
from reverie.cli import main
assert main(["train", "dreamerv2/catch", "--local", *{SMALL!r}]) == 0
import reverie
assert reverie.load("run").act(np.zeros((64, 64, 3), np.uint8)).shape == ()
assert main(["eval", "run", "--episodes", "1"]) == 0
assert main(["train", "dreamerv2/catch", "run.dir=other"]) == 2
"""
    found = run(core, tmp_path, code)
    assert found.returncode == 0, found.stderr
    assert "no files" in found.stdout
    assert 'ray is not installed: pip install "reverie[ray]"' in found.stderr
    assert found.stderr.count("starting:") == 1
    assert sorted(os.listdir(tmp_path)) == ["run"]


def test_a_suite_that_lacks_its_extra_names_it(core: dict[str, str], tmp_path: Path) -> None:
    code = f"""
import sys
from reverie.cli import main
for name, _ in {LACKS!r}:
    print(name, file=sys.stderr)
    assert main(["train", "dreamerv3/catch", "--local", f"env={{name}}", "run.dir=run"]) == 2
"""
    found = run(core, tmp_path, code)
    assert found.returncode == 0, found.stderr
    for name, words in LACKS:
        said = found.stderr.partition(name + "\n")[2]
        assert words in said.splitlines()[0], said
    assert os.listdir(tmp_path) == []
