"""Bad input ends with code 2 and one message that a stranger can act on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.platform.commands import Cli, assert_refused

# What is written wrongly


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env=atari/pong", "unknown environment suite 'atari'; did you mean atari100k?"),
        ("env=toy/catc", "env.task: unknown task 'catc' of toy; did you mean catch?"),
        ("env=gym/CartPol-v1", "unknown task 'CartPol-v1' of suite 'gym'; did you mean CartPole"),
        ("env=pong", "env: expected SUITE/TASK, got 'pong'; did you mean atari100k/pong?"),
        ("env=5", "env: expected SUITE/TASK, got 5"),
        ("algorithm.name=dreamer", "unknown algorithm 'dreamer'; did you mean dreamerv"),
        ("algorithm.nan_ta=1", "algorithm.nan_ta: unknown key; did you mean nan_at?"),
        ("learner.batchsize=1", "learner.batchsize: unknown key; did you mean batch_size"),
        ("lerner.batch_size=1", "lerner: unknown key; did you mean learner?"),
        ("learner.batch_size=many", "learner.batch_size: expected a whole number"),
        ("learner.batch_size=1.5", "learner.batch_size: expected a whole number"),
        ("run.lockstep=3", "run.lockstep: expected true or false, got 3"),
        ("learner.batch_size=[1", "learner.batch_size"),
        ("seed", "override 'seed': expected key=value"),
        ("replay.capacity=3", "replay.capacity"),
        ("learner.precision=float16", "got 'float16'; float16 would need its losses scaled: write"),
        ("learner.compile=maybe", "learner.compile: expected auto, on or off, got 'maybe'"),
        ("init.source=runs/a", "init.source: unknown key; known: freeze_updates, from, modules"),
        ("init.from=nowhere", "init.from: nowhere: not a run folder with a checkpoint"),
        (
            "init.modules=[policy]",
            "init.from: expected a run to start from, with init.mod",
        ),
        ("algorithm.at_most=2", "algorithm: at_most: expected at least 3 actions, got 2"),
        ("env.factory=nowhere:make", "no module 'nowhere'"),
        ("env.factory=tests.fakes:nothing", "has no function 'nothing'"),
        ("env.factory=tests.fakes", "expected module:function"),
        ("env.factory=tests.fakes:Counting", "expected a gymnasium.Env"),
    ],
)
def test_what_is_written_wrongly_is_named(
    override: str, words: str, config: Path, cli: Cli, tmp_path: Path
) -> None:
    assert_refused(cli("train", config, override, "--local"), words)
    run = tmp_path / "run"
    assert not run.exists() or not any(run.iterdir())


def test_a_fault_in_a_nested_key_of_a_real_algorithm_has_its_full_path(cli: Cli) -> None:
    answer = cli("describe", ROOT / "tune_configs/dreamerv3/catch.yaml", "algorithm.rssm.detr=4")
    assert_refused(answer, "algorithm.rssm.detr: unknown key; did you mean deter?")


@pytest.mark.parametrize(("size", "words"), [("huge", "small"), ("[1]", "algorithm.size: ")])
def test_an_unknown_size_is_refused(size: str, words: str, cli: Cli) -> None:
    answer = cli("describe", ROOT / "tune_configs/dreamerv3/catch.yaml", f"algorithm.size={size}")
    assert_refused(answer, words)


def test_a_missing_configuration_says_what_presets_are_called(cli: Cli, config: Path) -> None:
    answer = cli("train", config.with_name("other.yaml"), "--local")
    assert_refused(answer, "no preset or file ", "other.yaml", "like dreamerv2/catch")


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "", "learner: 3\n", "seed: 1\nseed: 2\n"])
def test_a_broken_configuration_is_refused(text: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert_refused(cli("train", path, "--local"), "reverie: ")


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("train",), ("train", "x", "--resume=perhaps"), ("eval", "x", "--mode=best")],
)
def test_a_wrong_command_line_shows_its_usage(arguments: tuple[str, ...], cli: Cli) -> None:
    assert_refused(cli(*arguments), "usage: reverie")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("train",),
            "missing CONFIG, e.g. `reverie train dreamerv3/catch` (key=value is optional)",
        ),
        (("train", "seed=3"), "missing CONFIG before seed=3, e.g. `reverie train dreamerv3/catch`"),
        (("describe", "--json"), "missing CONFIG, e.g. `reverie describe dreamerv3/catch`"),
        (("resume",), "missing RUN, e.g. `reverie resume runs/first`"),
        (("eval",), "missing RUN, e.g. `reverie eval runs/first`"),
        (("check-env",), "missing FACTORY, e.g. `reverie check-env my_file:make_env`"),
        (("env", "install"), "missing SUITE, e.g. `reverie env install robodesk`"),
        (("play", "catch"), "env: expected SUITE/TASK, got 'catch'; did you mean toy/catch?"),
        (("play", "toy"), "env: expected SUITE/TASK, got 'toy'; `reverie envs toy` lists its"),
        (("play", "nothing"), "got 'nothing'; `reverie envs` lists the suites"),
    ],
)
def test_what_is_missing_is_named_with_an_example(
    arguments: tuple[str, ...], words: str, cli: Cli
) -> None:
    assert_refused(cli(*arguments), words)


@pytest.mark.parametrize(
    "refused", ["algorithm.at_most=2", "seed=-1", "env.factory=tests.fakes:nothing"]
)
def test_nothing_is_printed_before_a_configuration_is_refused(
    refused: str, cli: Cli, config: Path
) -> None:
    answer = cli("train", config, refused, "--local")
    assert answer.code == 2
    assert answer.out == ""
    assert "starting" not in answer.err
    assert "I starting: environments" in cli("train", config, "--local").err


@pytest.mark.parametrize(
    "command", ["", "train", "resume", "eval", "describe", "envs", "env install", "play"]
)
def test_help_fits_a_terminal_of_80_characters(
    command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = cli(*command.split(), "--help")
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("episodes", [0, -3, "many"])
def test_an_impossible_number_of_episodes_is_refused(episodes: Any, cli: Cli) -> None:
    assert_refused(cli("eval", "runs/x", f"--episodes={episodes}"), "--episodes")


def test_what_the_agent_refuses_is_refused_before_ray_starts(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def start(*arguments: Any, **options: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", start)
    answer = cli("train", config, "algorithm.at_most=2")
    assert_refused(answer, "algorithm: at_most: expected at least 3 actions, got 2")
    assert_refused(cli("describe", config, "algorithm.at_most=2"), "at_most")
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_gives_its_pip_line(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    monkeypatch.delitem(sys.modules, "reverie_envs.atari", raising=False)
    answer = cli("train", config, "env=atari100k/pong", "--local")
    assert_refused(answer, 'pip install "reverie[atari]"')
    answer = cli("train", config, "env=gym/ALE/Pong-v5", "--local")
    assert_refused(answer, 'pip install "reverie[atari]"')


def test_a_gpu_that_is_not_there_is_refused(cli: Cli, config: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    assert_refused(cli("train", config, "resources.device=cuda", "--local"), "resources.device")


# Commands


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ["train", "resume", "eval", "describe", "algorithms", "doctor"]),
        ((), ["envs", "env ", "play", "check-env"]),
        (("train",), ["examples:", "--local", "--address", "--resume", "key=value", "init.from"]),
        (("resume",), ["run folder", "key=value", "--local"]),
        (("eval",), ["--episodes", "--mode", "--video", "--json", "protocol"]),
        (("describe",), ["--json", "key=value", "without running"]),
        (("envs",), ["suites", "--json", "options"]),
        (("play",), ["--run", "--all", "--sheet", "--steps", "--out", "env.size=128", "examples:"]),
        (("algorithms",), ["sizes"]),
        (("doctor",), ["GPU", "graphics libraries"]),
        (("check-env",), ["module:function", "gymnasium.Env", "--nondeterministic"]),
    ],
)
def test_help_says_what_a_command_takes(
    command: tuple[str, ...], words: list[str], cli: Cli
) -> None:
    answer = cli(*command, "--help")
    assert answer.code == 0
    text = " ".join(answer.out.split())
    assert [word for word in words if word not in text] == []


def test_describe_json_holds_modules_and_their_total(cli: Cli) -> None:
    path = ROOT / "tune_configs/dreamerv3/catch.yaml"
    answer = cli("describe", path, "algorithm.size=tiny", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert {"encoder", "rssm", "decoder", "actor", "critic"} <= found["modules"].keys()
    assert found["total"] == sum(found["modules"].values())
    plain = cli("describe", path, "algorithm.size=tiny")
    assert f"{found['total']:,}" in plain.out


def test_lists_name_what_is_registered(cli: Cli) -> None:
    assert "toy" in cli("envs").out
    assert "dreamerv3" in cli("algorithms").out


def test_doctor_fails_where_something_is_broken(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from reverie.cli import doctor

    monkeypatch.setattr(doctor, "EXTRAS", {})
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    answer = cli("doctor")
    assert answer.code == 2
    assert "BROKEN graphics" in answer.out
    assert "apt-get install libegl1" in answer.out
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name)
    assert cli("doctor").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["docker/train.py", "--help"], "train an agent"),
        (["docker/command.py", "train", "--help"], "train an agent"),
        (["docker/command.py", "sweep", "--help"], "every cell a run of its own"),
        (["docker/command.py", "algorithms"], "dreamerv2"),
    ],
)
def test_the_entry_of_ray_jobs_is_the_same_command(words: list[str], said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert said in found.stdout.lower()


@pytest.mark.parametrize(
    ("words", "joins"),
    [
        (["train", "a.yaml"], True),
        (["train", "a.yaml", "--local"], False),
        (["train", "a.yaml", "--address=b"], False),
        (["sweep", "a.yaml"], True),
        (["sweep", "retry", "runs/a"], True),
        (["sweep", "status", "runs/a"], False),
        (["report", "runs"], False),
    ],
)
def test_the_entry_of_ray_jobs_joins_the_cluster_it_runs_on(
    words: list[str], joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (ROOT / "docker/command.py").read_text()
    module = {"__name__": "command", "__file__": str(ROOT / "docker/command.py")}
    exec(compile(code, "command.py", "exec"), module)
    heard: list[list[str]] = []
    monkeypatch.setattr("reverie.cli.main", lambda words: heard.append(words) or 0)
    monkeypatch.setitem(module, "_make_importable", lambda: None)
    assert module["main"](words) == 0  # type: ignore[operator]
    assert heard == [[*words, *(["--address", "auto"] if joins else [])]]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "reverie.cli", "envs", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141
