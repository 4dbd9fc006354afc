"""`gymnasium.make("reverie/...")`: ids, options, gymnasium's own checker, and a light import."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import parse_env_id

import reverie
from reverie.gymnasium_ids import make, register_envs
from tests.conftest import ROOT

register_envs()  # another test may have imported reverie before gymnasium
IDS = [name for name in gymnasium.registry if name.startswith("reverie/")]
HEAVY = (
    "torch",
    "ray",
    "dm_control",
    "mujoco",
    "metaworld",
    "crafter",
    "ale_py",
    "cv2",
    "pydantic",
)


def in_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_every_task_has_an_id_that_gymnasium_can_read() -> None:
    assert {"reverie/metaworld-door-lock", "reverie/dmc-walker_walk", "reverie/toy-catch"} <= set(
        IDS
    )
    for name in IDS:
        namespace, task, version = parse_env_id(name)
        assert (namespace, f"reverie/{task}", version) == ("reverie", name, None)


@pytest.mark.parametrize(
    "code",
    [
        "import gymnasium, reverie",
        "import gymnasium; gymnasium.make('reverie:reverie/toy-catch')",
        "import reverie, gymnasium; reverie.register_envs(); reverie.register_envs()",
        "import reverie; reverie.register_envs(); import gymnasium",
    ],
    ids=["gymnasium first", "by its module", "reverie first", "gymnasium never"],
)
def test_ids_are_there_after_an_import_or_when_asked_for(code: str) -> None:
    ended = in_process(f"{code}; assert 'reverie/toy-catch' in gymnasium.registry")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_importing_reverie_leaves_other_imports_alone() -> None:
    code = "import sys; found = list(sys.meta_path); import reverie; print(found == sys.meta_path)"
    assert in_process(code).stdout.split() == ["True"]


def test_nothing_heavy_is_imported_for_them() -> None:
    code = (
        f"import sys, reverie; print('gymnasium' in sys.modules); import gymnasium; print({HEAVY}"
    )
    ended = in_process(f"{code} & sys.modules.keys())".replace(str(HEAVY), str(set(HEAVY))))
    assert ended.stdout.split() == ["False", "set()"], ended.stderr


def test_reverie_is_imported_where_gymnasium_cannot_be() -> None:
    ended = in_process("import sys; sys.modules['gymnasium'] = None; import reverie")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_options_are_keywords() -> None:
    env = gymnasium.make("reverie/toy-catch", render_mode="rgb_array", continuous=True)
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    with pytest.raises(ValueError, match=r"env\.image_size: unknown key"):
        gymnasium.make("reverie/toy-catch", image_size=16)
    with pytest.raises(ValueError, match="toy/catch draws 'rgb_array', got 'human'"):
        make("toy/catch", render_mode="human")


def test_a_typo_gets_the_nearest_id() -> None:
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `metaworld-door-lock`"):
        gymnasium.make("reverie/metaworld-door-lokc")
    with pytest.raises(gymnasium.error.NamespaceNotFound, match="Did you mean: `reverie`"):
        gymnasium.make("revery/metaworld-door-lock")


@pytest.mark.parametrize(
    ("name", "options", "package"),
    [
        ("atari100k-pong", {}, "ale_py"),
        ("crafter-reward", {}, "crafter"),
        ("distracting-walker_walk", {"quality": "fast", "frames": 2}, "dm_control"),
        ("dmc-walker_walk", {"quality": "fast", "obs": "both"}, "dm_control"),
        ("dmcr-cartpole_balance", {"quality": "fast"}, "dm_control"),
        ("metaworld-door-lock", {"quality": "fast", "obs": "both"}, "metaworld"),
        ("toy-multi", {}, "numpy"),
    ],
)
def test_gymnasium_finds_no_fault_with_them(name: str, options: dict, package: str) -> None:
    pytest.importorskip(package)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its checker warns of what it does not like
        warnings.filterwarnings("ignore", ".*No render fps")
        env = gymnasium.make(f"reverie/{name}", **options)
        env.reset(seed=0)
        for _ in range(2):
            env.step(env.action_space.sample())
        if env.render_mode:
            assert env.render().shape[2] == 3
        env.close()


def test_vectors_of_them_are_stepped() -> None:
    envs = gymnasium.make_vec("reverie/toy-catch", 2, vectorization_mode="sync")
    obs, _ = envs.reset(seed=0)
    assert obs["image"].shape == (2, 64, 64, 3)
    _, reward, *_ = envs.step(np.zeros(2, int))
    assert reward.shape == (2,)
    assert reverie.__version__
