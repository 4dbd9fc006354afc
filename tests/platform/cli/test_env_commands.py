"""`reverie check-env` says what is wrong with an environment of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.commands import Cli

GOOD = """
import gymnasium, numpy as np
class Env(gymnasium.Env):
    vector = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    observation_space = gymnasium.spaces.Dict({"count": vector})
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.obs(), {}
    def step(self, action):
        self.left -= 1
        return self.obs(), 1.0, self.left == 0, False, {}
    def obs(self):
        return {"count": self.np_random.uniform(-1, 1, 2).astype(np.float32)}
def good(): return Env()
def text(): return "an environment"
class Nan(Env):
    def obs(self): return {"count": np.full(2, np.nan, np.float32)}
def nan(): return Nan()
class Unseeded(Env):
    def obs(self): return {"count": np.random.uniform(-1, 1, 2).astype(np.float32)}
def unseeded(): return Unseeded()
def either(which): return {"good": good, "nan": nan}[which]()
def raises(): raise RuntimeError("no licence")
def sized(side): return Picture(side)
class Picture(Env):
    def __init__(self, side):
        self.observation_space = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
    def obs(self): return np.zeros(self.observation_space.shape, np.uint8)
class Slow(Env):
    def step(self, action):
        import time; time.sleep(30)
def slow(): return Slow()
"""


@pytest.fixture
def my_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_own_env.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    yield "my_own_env"
    sys.modules.pop("my_own_env", None)


def test_check_env_passes_a_good_environment(cli: Cli, my_env: str) -> None:
    answer = cli("check-env", f"{my_env}:good")
    assert answer.code == 0, answer.out
    assert "FAIL" not in answer.out
    assert cli("check-env", f"{my_env}:unseeded", "--nondeterministic").code == 0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("text", ["expected a gymnasium.Env"]),
        ("nan", ["NaN", "count"]),
        ("unseeded", ["seed"]),
        ("raises", ["no licence", "my_own_env.py"]),
        ("godo", ["no function 'godo'", "did you mean good?"]),
    ],
)
def test_check_env_says_what_is_wrong(
    function: str, words: list[str], cli: Cli, my_env: str
) -> None:
    answer = cli("check-env", f"{my_env}:{function}")
    assert answer.code == 2
    text = answer.out + answer.err
    assert [word for word in words if word.lower() not in text.lower()] == []


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        (["dreamerv3/catch"], 0, "ok   agent: dreamerv3 takes these observations and actions"),
        (
            ["drqv2/catch"],
            2,
            "FAIL agent: algorithm: action space: DrQ-v2 wants continuous",
        ),
        (["dreamerv3/catch", "run.env_steps=201"], 2, "FAIL agent: run.env_steps: expected at"),
        (["dreamerv3/cach"], 2, "nearest presets: dreamerv3/catch"),
        (["run.env_steps=3"], 2, "missing CONFIG before run.env_steps=3"),
    ],
)
def test_check_env_with_a_configuration_tests_what_its_agent_wants(
    config: list[str], code: int, words: str, cli: Cli, my_env: str
) -> None:
    answer = cli("check-env", f"{my_env}:good", *config)
    assert answer.code == code, answer.err
    assert words in answer.out + answer.err


@pytest.mark.parametrize("config", [[], ["dreamerv3/catch"]])
@pytest.mark.parametrize(("which", "code"), [("good", 0), ("nan", 2)])
def test_check_env_gives_the_arguments_of_the_environment(
    config: list[str], which: str, code: int, cli: Cli, my_env: str
) -> None:
    answer = cli("check-env", f"{my_env}:either", *config, f"env.kwargs.which={which}")
    assert answer.code == code, answer.out + answer.err


def test_check_env_builds_and_waits_as_the_configuration_says(cli: Cli, my_env: str) -> None:
    options = ["env.kwargs.side=20", "env.size=16"]
    answer = cli("check-env", f"{my_env}:sized", "dreamerv3/catch", *options)
    assert answer.code == 0, answer.out
    assert "image uint8[16, 16, 3]" in answer.out
    answer = cli("check-env", f"{my_env}:slow", "dreamerv3/catch", "env.step_timeout_s=0.2")
    assert answer.code == 2
    assert "FAIL play: step did not return within 0.2 s" in answer.out


@pytest.mark.parametrize("factory", ["nowhere:make", "my_own_env", ":make"])
def test_check_env_of_something_that_cannot_be_found_is_refused(
    factory: str, cli: Cli, my_env: str
) -> None:
    answer = cli("check-env", factory)
    assert answer.code == 2
    assert factory.partition(":")[0] in answer.out + answer.err


def test_a_checked_environment_trains(cli: Cli, my_env: str, config: Path) -> None:
    agent = "algorithm.name=tests.fakes:Planner"
    answer = cli("train", config, f"env.factory={my_env}:good", agent, "--local")
    assert answer.code == 0, answer.err
    assert "factory-v1" in answer.out
