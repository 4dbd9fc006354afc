"""Runs that are stopped, damaged or fail on the way: nothing is lost, and a message says why."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import reverie
from reverie import env_factory
from reverie.checkpoint import CheckpointError, CheckpointStore
from reverie.config import load_config, resolve_config
from reverie.errors import ConfigError
from reverie.storage import Storage
from reverie.trainer import Trainer
from tests.fakes import tree
from tests.platform.commands import Cli, assert_refused, checkpoints, write_config

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
    assert_refused(cli(command, tmp_path), f"not a run folder: no config.yaml in {tmp_path}")
    assert_refused(cli(command, tmp_path / "nowhere"), "not a run folder: no config.yaml in ")


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
    name = "learner.pt" if command == "resume" else "policy.pt"
    paths = [damage(tmp_path, number, name) for number in two_checkpoints]
    where = ["--local"] if command == "resume" else []
    answer = cli(command, tmp_path / "run", *where)
    assert_refused(answer, "no usable checkpoint", *(path.parent.name for path in paths))
    assert checkpoints(tmp_path).numbers() == two_checkpoints


def spoil(folder: Path, number: int) -> None:
    """Write NaN into the weights of a checkpoint, as earlier versions saved them."""
    storage = Storage(str(folder / "run"))
    found = CheckpointStore(storage, 9).load(number)
    tensors = {name: found.tensors(name) for name in ("learner", "policy")}
    tensors["learner"]["agent"]["optimizer"]["weight"]["exp_avg"][0] = float("nan")
    tensors["policy"]["weight"][0] = float("nan")
    documents = {
        name.removesuffix(".json"): found.document(name.removesuffix(".json"))
        for name in found.parts
        if name.endswith(".json")
    }
    storage.delete_folder(f"checkpoints/{number:08d}")
    CheckpointStore(storage, 9).save(number, tensors, documents, found.files)


def test_a_checkpoint_that_is_not_finite_is_refused_and_an_earlier_one_can_be_chosen(
    two_checkpoints: list[int], cli: Cli, tmp_path: Path
) -> None:
    run, (good, bad) = tmp_path / "run", two_checkpoints
    spoil(tmp_path, bad)
    remedy = "NaN or infinite; choose an earlier checkpoint: --checkpoint NUMBER"
    assert_refused(cli("eval", run), "policy/weight", remedy)
    assert_refused(cli("resume", run, "--local"), "learner/agent/optimizer/weight/exp_avg", remedy)
    assert_refused(cli("export", run, tmp_path / "out"), "policy/weight", remedy)
    with pytest.raises(CheckpointError, match="policy/weight"):
        reverie.load(run)
    assert reverie.load(run, checkpoint=good).spaces.obs
    assert f"checkpoint               {good}" in cli("eval", run, "--checkpoint", good).out
    assert_refused(
        cli("eval", run, "--checkpoint", 77), f"no checkpoint 77; there are [{good}, {bad}]"
    )
    answer = cli("resume", run, "run.env_steps=110", "--checkpoint", good, "--local")
    assert answer.code == 0, answer.err
    assert f"going on from checkpoint {good}: [{bad}] set aside" in answer.err
    assert checkpoints(tmp_path).numbers() == [good, bad + 2]
    assert reverie.load(run).spaces.obs


@pytest.mark.usefixtures("two_checkpoints")
@pytest.mark.parametrize("whole", [True, False])
def test_a_policy_is_exported_with_what_acting_needs(whole: bool, cli: Cli, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    if not whole:
        shutil.rmtree(run / "replay")
        for path in run.glob("checkpoints/*/*"):
            if path.name not in ("policy.pt", "manifest.json"):
                path.unlink()
    answer = cli("export", run, out)
    assert answer.code == 0, answer.err
    names = {path.name for path in out.rglob("*") if path.is_file()}
    wanted = {"config.yaml", "spaces.json", "run_manifest.json", "policy.pt", "manifest.json"}
    assert names == (wanted | {"record.json"} if whole else wanted)
    obs = {
        key: np.zeros(spec.shape, spec.dtype) for key, spec in reverie.load(run).spaces.obs.items()
    }
    assert reverie.load(out).act(obs).shape == ()
    assert cli("eval", out, "--episodes", 1).code == 0
    assert_refused(cli("export", run, out), str(out), "new or empty folder")


@pytest.mark.usefixtures("two_checkpoints")
def test_a_damaged_replay_file_costs_its_rows_and_the_run_goes_on(cli: Cli, tmp_path: Path) -> None:
    files = sorted(tmp_path.glob("run/replay/shard0-0*.arrow"))
    files[0].write_bytes(files[0].read_bytes()[:-100])
    answer = cli("resume", tmp_path / "run", "run.env_steps=120", "--local")
    assert answer.code == 0, answer.err
    assert files[0].name in answer.err
    assert "91 replay rows are lost" in answer.err  # 80 steps, and what 11 resets returned
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["lost_rows"] == 91
    assert summary["restarts"] == {}
    assert summary["env_steps"] == 120


@pytest.mark.usefixtures("two_checkpoints")
def test_without_any_replay_file_a_run_ends_all_the_same(cli: Cli, tmp_path: Path) -> None:
    rows = checkpoints(tmp_path).latest().document("replay")[0]["rows"]
    for path in tmp_path.glob("run/replay/*.arrow"):
        path.unlink()
    answer = cli("resume", tmp_path / "run", "learner.training_ratio=8", "--local")
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["lost_rows"] == rows


def test_a_resumed_run_says_which_keys_were_edited(
    two_checkpoints: list[int], cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "run/config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["learner"]["training_ratio"] += 1
    path.write_text(yaml.safe_dump(tree))
    answer = cli("resume", tmp_path / "run", "run.env_steps=110", "--local")
    lines = [line for line in answer.err.splitlines() if "config: " in line]
    assert len(lines) == 2
    was = f"checkpoint {two_checkpoints[-1]} was trained with 100"
    assert f"config: run.env_steps is 110 now; {was}" in answer.err
    assert "config: learner.training_ratio is" in answer.err


HUGE_SPACES = (
    b'{"obs": {"image": {"shape": [1000000, 1000000], "dtype": "uint8"}},'
    b' "action": {"kind": "discrete", "num": [3], "width": 0}}'
)


@pytest.mark.usefixtures("two_checkpoints")
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("spaces.json", b"{", "expected the run's spaces"),
        ("spaces.json", b"[3]", "expected the run's spaces"),
        ("spaces.json", b"[" * 10_000, "at most 64 levels"),
        ("spaces.json", HUGE_SPACES, "at most 50000000 numbers in 'image', got 1000000000000"),
        ("config.yaml", b"base: ../elsewhere.yaml", "got one built on '../elsewhere.yaml'"),
        ("config.yaml", b"base: dreamerv3/catch", "got one built on 'dreamerv3/catch'"),
        ("config.yaml", b"\xff\xfe", "expected UTF-8 text"),
        ("run_manifest.json", b"{", "move the file away"),
        ("run_manifest.json", b"{}", "move the file away"),
        ("run_manifest.json", b"[" * 10_000, "move the file away"),
    ],
)
def test_a_broken_file_of_a_run_is_named(
    name: str, content: bytes, words: str, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "run" / name
    path.write_bytes(content)
    if name != "spaces.json":  # written anew by whoever resumes
        assert_refused(cli("resume", tmp_path / "run", "--local"), str(path), words)
        assert path.read_bytes() == content
    if name != "run_manifest.json":  # nobody needs it to act
        assert_refused(cli("eval", tmp_path / "run"), str(path), words)


def test_a_failing_start_leaves_a_folder_that_it_did_not_make(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk", target_is_directory=True)
    answer = cli("train", config, "--local", "resources.device=cuda")
    assert_refused(answer, "resources.device is cuda")
    assert (tmp_path / "run").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []
    assert cli("train", config, "--local").code == 0


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
    assert ("not rebuilt" if fault == "shape" else "run.max_env_restarts=0") in answer.err
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


@pytest.mark.usefixtures("two_checkpoints")
def test_a_wrong_value_in_a_run_s_own_configuration_names_the_file(
    cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("\n  training_ratio:", "\n  trbining_ratio:"))
    words = "config.yaml: learner.trbining_ratio: unknown key"
    assert_refused(cli("resume", run, "--local"), words)
    assert_refused(cli("eval", run), words)
    with pytest.raises(ConfigError, match=words):
        reverie.load(run)
    (run / "config.yaml").write_text(text)
    answer = cli("resume", run, "learner.trbining_ratio=3", "--local")
    assert "config.yaml" not in answer.err
