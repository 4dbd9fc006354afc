"""`--json` prints one JSON object, whatever environments print, and valid JSON only."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reverie.cli.json_output import print_json
from tests.conftest import ROOT
from tests.platform.commands import Cli

TALKATIVE = """
import atexit, ctypes, os, sys
import gymnasium
Box, Dict = gymnasium.spaces.Box, gymnasium.spaces.Dict
def say(what):
    print("python", what)
    sys.__stdout__.write(f"kept {what}\\n")
    os.write(1, f"file descriptor {what}\\n".encode())
    ctypes.CDLL(None).puts(f"library {what}".encode())
say("import")
atexit.register(say, "end")
class Talkative(gymnasium.Env):
    observation_space = Dict({"count": Box(-9, 9, (2,)), "image": Box(0, 255, (8, 8, 3), "uint8")})
    action_space = gymnasium.spaces.Discrete(3)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        say("reset")
        self.left = 4
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}
    def step(self, action):
        say("step")
        self.left -= 1
        value = float("nan") if self.left == 2 else 1.0
        return self.observation_space.sample(), 1.0, self.left == 0, False, {"log/x": value}
class TooLarge(Talkative):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 1e39, *rest
"""


@pytest.fixture
def talkative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "talkative", raising=False)
    return "env.factory=talkative:Talkative"


def alone(folder: Path, *arguments: object) -> tuple[str, str]:
    """Standard output and error of the command in a process of its own."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep), str(folder)]
    found = subprocess.run(
        [sys.executable, "-m", "reverie.cli", *map(str, arguments)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout, found.stderr


def no_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def strictly(text: str) -> dict[str, object]:
    return json.loads(text, parse_constant=no_constant)


def test_what_environments_print_goes_elsewhere(
    cli: Cli, talkative: str, config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert cli("train", config, talkative, f"run.dir={run}", "--local").code == 0
    out, err = alone(tmp_path, "eval", run, "--episodes", 2, "--json")
    found = strictly(out)
    assert found["score"] == 4
    assert found["eval/x_sum"] is None
    assert "evaluation: not finite and written as null: eval/x_max=nan, eval/x_sum=nan" in err
    for who in ("python", "kept", "file descriptor", "library"):
        assert all(f"{who} {what}\n" in err for what in ("import", "reset", "step", "end"))
    for line in (run / "evaluations.jsonl").read_text().splitlines():
        strictly(line)
    for path in run.rglob("*.json"):
        strictly(path.read_text())
    out, err = alone(tmp_path, "describe", config, talkative, "--json")
    assert strictly(out)["env"] == "factory/talkative:Talkative"
    assert "library import" in err


def test_the_output_is_as_it_was_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    def make() -> float:
        os.write(1, b"meanwhile ")
        ctypes.CDLL(None).puts(b"in C")
        return 1.5

    print_json(make)
    os.write(1, b"afterwards")
    assert capfd.readouterr() == ("1.5\nafterwards", "meanwhile in C\n")
    with pytest.raises(ValueError, match="expected a number that JSON has"):
        print_json(lambda: {"score": float("inf")})
    os.write(1, b"after an error")
    assert capfd.readouterr().out == "after an error"


def test_a_standard_output_of_python_alone_is_kept_free_as_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json(lambda: sys.stdout.write("meanwhile\n"))
    assert capsys.readouterr() == ("10\n", "meanwhile\n")


def test_a_reward_beyond_float32_is_a_breach(cli: Cli, talkative: str, config: Path) -> None:
    answer = cli("train", config, talkative.replace("Talkative", "TooLarge"), "--local")
    assert answer.code == 2
    assert "reward is 1e+39, expected one finite number of float32" in answer.err
