"""Bad input ends with code 2 and one message that a stranger can act on; nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import reverie
from reverie import env_factory
from reverie.checkpoint import CheckpointStore
from reverie.cli import main
from reverie.config import load_config, resolve_config
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.conftest import ROOT
from tests.fakes import tree


@dataclasses.dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Run one command in this process; its log goes to stderr as a user sees it."""
    handlers, level, path = logging.root.handlers[:], logging.root.level, sys.path[:]

    def run(*arguments: object) -> Answer:
        # What pytest put there must not be closed by the command's own set-up.
        logging.root.handlers = []
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return Answer(code, found.out, found.err)

    yield run
    logging.root.handlers, sys.path[:] = handlers, path
    logging.root.setLevel(level)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A short run of stubs in a folder of its own."""
    return write_config(tmp_path)


def write_config(folder: Path, **overrides: Any) -> Path:
    settings = {
        "run__dir": str(folder / "run"),
        "run__env_steps": 80,
        "eval__video": False,
        "resources__learner_threads": 1,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree(**settings | overrides)))
    return path


def assert_refused(answer: Answer, *words: str) -> None:
    assert answer.code == 2, answer
    for word in words:
        assert word in answer.err, answer.err
    assert "Traceback" not in answer.err


def checkpoints(folder: Path) -> CheckpointStore:
    return CheckpointStore(Storage(str(folder / "run")), 2)


# What is written wrongly


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env=atari/pong", "unknown environment suite 'atari'; did you mean atari100k?"),
        ("env=toy/catc", "env.task: unknown task 'catc' of toy; did you mean catch?"),
        ("env=gym/CartPol-v1", "unknown task 'CartPol-v1' of suite 'gym'; did you mean CartPole"),
        ("env=pong", "env: wanted <suite>/<task>, got 'pong'"),
        ("algorithm.name=dreamer", "unknown algorithm 'dreamer'; did you mean dreamerv"),
        ("algorithm.nan_ta=1", "algorithm.nan_ta: unknown key; did you mean nan_at?"),
        ("learner.batchsize=1", "learner.batchsize: unknown key; did you mean batch_size"),
        ("lerner.batch_size=1", "lerner: unknown key; did you mean learner?"),
        ("learner.batch_size=many", "learner.batch_size: Input should be a valid integer"),
        ("learner.batch_size=1.5", "learner.batch_size: Input should be a valid integer"),
        ("run.lockstep=3", "run.lockstep: Input should be a valid boolean"),
        ("learner.batch_size=[1", "learner.batch_size"),
        ("seed", "override 'seed': wanted key=value"),
        ("replay.capacity=3", "replay.capacity"),
        ("learner.precision=float16", "got 'float16'; float16 would need its losses scaled: write"),
        ("learner.compile=maybe", "learner.compile: Input should be 'auto', 'on' or 'off'"),
        ("init.source=runs/a", "init.source: unknown key; known: freeze_updates, from, modules"),
        ("init.from=nowhere", "init.from: nowhere: no run folder with a checkpoint"),
        ("init.modules=[policy]", "init.from: wanted a run to start from, got None"),
        ("algorithm.at_most=2", "algorithm: at_most: wanted at least 3 actions, got 2"),
        ("env.factory=nowhere:make", "no module 'nowhere'"),
        ("env.factory=tests.fakes:nothing", "has no function 'nothing'"),
        ("env.factory=tests.fakes", "wanted module:function"),
        ("env.factory=tests.fakes:Counting", "wanted a gymnasium.Env"),
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


@pytest.mark.parametrize(("size", "words"), [("huge", "small"), ("[1]", "algorithm: ")])
def test_an_unknown_size_is_refused(size: str, words: str, cli: Cli) -> None:
    answer = cli("describe", ROOT / "tune_configs/dreamerv3/catch.yaml", f"algorithm.size={size}")
    assert_refused(answer, words)


def test_a_missing_configuration_lists_those_near(cli: Cli, config: Path) -> None:
    answer = cli("train", config.with_name("other.yaml"), "--local")
    assert_refused(answer, "other.yaml: no such file", "config.yaml")


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
    assert_refused(answer, "algorithm: at_most: wanted at least 3 actions, got 2")
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


# Run folders and checkpoints


def test_an_explicit_run_folder_that_exists_is_refused_and_can_be_resumed(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    first = cli("train", config, "--local")
    assert first.code == 0
    assert f"run folder: {tmp_path / 'run'}" in first.out
    assert "80 (80 frames" in first.out
    assert_refused(cli("train", config, "--local"), "exists", f"reverie resume {tmp_path / 'run'}")
    again = cli("resume", tmp_path / "run", "run.env_steps=120", "--local")
    assert again.code == 0
    assert "120 (120 frames" in again.out
    assert cli("train", config, "run.env_steps=130", "--resume=auto", "--local").code == 0
    assert checkpoints(tmp_path).latest().document("record")["progress"]["env_steps"] == 130


def test_a_folder_that_cannot_be_made_is_refused(cli: Cli, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(cli("train", config, f"run.dir={tmp_path}/file/run", "--local"), "file")


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_a_folder_that_is_no_run_is_refused(command: str, cli: Cli, tmp_path: Path) -> None:
    assert_refused(cli(command, tmp_path), "no run folder")
    assert_refused(cli(command, tmp_path / "nowhere"), "no run folder")


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_a_run_without_a_checkpoint_is_refused(command: str, cli: Cli, tmp_path: Path) -> None:
    Trainer(resolve_config(tree(run__dir=str(tmp_path / "run"))), local=True).close()
    where = ["--local"] if command == "resume" else []
    assert_refused(cli(command, tmp_path / "run", *where), "no checkpoint")


def damage(folder: Path, number: int, name: str = "learner.pt") -> Path:
    path = folder / "run" / "checkpoints" / f"{number:08d}" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 100 steps that was stopped and resumed at step 80."""
    folder = tmp_path_factory.mktemp("trained")
    for steps in (80, 100):
        config = load_config(write_config(folder, run__env_steps=steps))
        Trainer(config, local=True, resume="auto").run()
    return folder


@pytest.fixture
def two_checkpoints(trained: Path, tmp_path: Path) -> list[int]:
    """A copy of the trained run to damage."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    numbers = checkpoints(tmp_path).numbers()
    assert len(numbers) == 2
    return numbers


@pytest.mark.parametrize("name", ["learner.pt", "coordinator.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    name: str, two_checkpoints: list[int], cli: Cli, tmp_path: Path
) -> None:
    path = damage(tmp_path, two_checkpoints[-1], name)
    answer = cli("resume", tmp_path / "run", "run.env_steps=110", "--local")
    assert answer.code == 0, answer.err
    # A damaged manifest may lead to another file of its folder.
    assert path.parent.name + ("" if name == "manifest.json" else f"/{name}") in answer.err
    assert f"checkpoint {two_checkpoints[0]} is used instead" in answer.err
    assert checkpoints(tmp_path).latest().document("record")["progress"]["env_steps"] == 110


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_if_every_checkpoint_is_damaged_each_file_is_named(
    command: str, two_checkpoints: list[int], cli: Cli, tmp_path: Path
) -> None:
    paths = [damage(tmp_path, number) for number in two_checkpoints]
    where = ["--local"] if command == "resume" else []
    answer = cli(command, tmp_path / "run", *where)
    assert_refused(answer, "no usable checkpoint", *(path.parent.name for path in paths))
    assert checkpoints(tmp_path).numbers() == two_checkpoints


@pytest.mark.usefixtures("two_checkpoints")
def test_a_checkpoint_of_another_agent_is_refused_by_tensor_and_the_run_stays_as_it_was(
    cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ("is of another agent: load_state_dict: tensor 'net.extra' is missing",)
    assert_refused(cli("resume", run, "algorithm.name=tests.fakes:Wider", "--local"), *words)
    assert_refused(cli("resume", run, "algorithm.name=tests.fakes:Wider"), *words)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["algorithm"]["name"] = "tests.fakes:Wider"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert_refused(cli("eval", run), "is of another agent: load_policy_state: tensor 'net.extra'")
    with pytest.raises(ValueError, match=r"tensor 'net\.extra'"):
        reverie.load(run)


def test_a_full_disk_while_saving_keeps_the_checkpoint_before(
    two_checkpoints: list[int], cli: Cli, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this; a chunk file of 120 rows with images is larger.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        answer = cli("resume", tmp_path / "run", "run.env_steps=400", "--local")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_refused(answer, "File too large")
    kept = checkpoints(tmp_path).latest()
    assert kept.number == two_checkpoints[-1]
    assert kept.document("record")["progress"]["env_steps"] == 100
    again = cli("resume", tmp_path / "run", "run.env_steps=120", "--local")
    assert again.code == 0, again.err


# What fails on the way


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "ZeroDivisionError: the simulator fell over"),
        ("hang", "time.sleep(3600)"),
        ("nan", "'count'"),
        ("shape", "(3,)"),
    ],
)
def test_a_failing_environment_ends_with_its_own_traceback(
    fault: str, words: str, cli: Cli, tmp_path: Path
) -> None:
    env = {"fault": fault, "at": 60, "step_timeout_s": 0.5 if fault == "hang" else 60.0}
    path = write_config(tmp_path, env=env, run__max_env_restarts=0)
    answer = cli("train", path, "--local")
    assert answer.code == 2
    assert words in answer.err
    assert "run.max_env_restarts=0" in answer.err
    assert "fakes.py" in answer.err or fault in ("nan", "shape")
    assert "env_loop.py" not in answer.err or fault == "hang"
    assert checkpoints(tmp_path).latest() is not None


def test_a_factory_that_raises_ends_with_its_own_traceback(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising_env.py").write_text("def make():\n    raise KeyError('no map')\n")
    monkeypatch.chdir(tmp_path)
    answer = cli("train", config, "env.factory=raising_env:make", "--local")
    assert answer.code == 2
    assert "environment factory/raising_env:make cannot be built" in answer.err
    assert "raising_env.py" in answer.err
    assert "KeyError: 'no map'" in answer.err


def test_a_factory_that_hangs_is_not_waited_for_for_ever(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import time\ndef make():\n    time.sleep(60)\n"
    (tmp_path / "hanging_env.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env_factory, "BUILD_S", 0.3)
    arguments = ["env.factory=hanging_env:make", "env.step_timeout_s=0.3", "--local"]
    answer = cli("train", config, *arguments)
    assert answer.code == 2
    assert "time.sleep(60)" in answer.err


def test_a_loss_that_is_not_finite_ends_with_its_name(cli: Cli, tmp_path: Path) -> None:
    answer = cli("train", write_config(tmp_path, algorithm__nan_at=3), "--local")
    assert_refused(answer, "loss/plain became NaN or infinite by update 3")


def test_a_bug_is_not_dressed_up_as_bad_input(cli: Cli, tmp_path: Path) -> None:
    path = write_config(tmp_path, algorithm__bug_at=3)
    # Unhandled: Python prints the traceback and exits with code 1.
    with pytest.raises(AttributeError, match="a bug in the learner") as error:
        cli("train", path, "--local")
    assert error.traceback[-1].path.name == "fakes.py"


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
    from reverie import doctor

    monkeypatch.setattr(doctor, "EXTRAS", {})
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    answer = cli("doctor")
    assert answer.code == 2
    assert "BROKEN graphics" in answer.out
    assert "apt-get install libegl1" in answer.out
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name)
    assert cli("doctor").code == 0


@pytest.mark.usefixtures("two_checkpoints")
def test_eval_scores_a_run_and_appends_to_its_record(cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = cli("eval", run, "--episodes", 3, "--json", "--video")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert len(found["returns"]) == 3
    assert found["score"] == pytest.approx(sum(found["returns"]) / 3)
    assert (found["protocol"], found["env_steps"]) == ("counting-v1", 100)
    assert all(Path(video).stat().st_size > 0 for video in found["videos"])
    plain = cli("eval", run, "--episodes", 1, "--mode", "mode")
    assert "counting-v1-mode" in plain.out
    lines = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [line["protocol"] for line in lines] == ["counting-v1", "counting-v1-mode"]


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
def raises(): raise RuntimeError("no licence")
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
        ("text", ["wanted a gymnasium.Env"]),
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


def test_the_entry_of_ray_jobs_is_the_same_command() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "docker/train.py", "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "train an agent" in found.stdout.lower()
    assert "--address" in found.stdout
