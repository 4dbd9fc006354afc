"""`reverie pretrain`, and what other commands say of a run that learned from video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.platform.commands import Cli
from tests.videos import moving_squares, pretrain_tree


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_squares(tmp_path_factory.mktemp("video"))


@pytest.fixture
def file(tmp_path: Path, data: Path) -> Path:
    path = tmp_path / "own.yaml"
    run = {"dir": str(tmp_path / "run"), "updates": 2}
    path.write_text(yaml.safe_dump(pretrain_tree(data, run=run)))
    return path


def test_a_run_is_made_resumed_and_described(file: Path, tmp_path: Path, cli: Cli) -> None:
    made = cli("pretrain", file, "--local")
    assert made.code == 0, made.err
    assert "held-out image" in made.out
    assert "updates           2 (60 frames)" in made.out
    assert cli("pretrain", file, "--local").code == 2
    resumed = cli("resume", tmp_path / "run", "--local", "run.updates=3")
    assert "updates           3 (90 frames)" in resumed.out
    again = cli("pretrain", file, "--local", "--resume=auto", "run.updates=3")
    assert again.code == 0, again.err
    found = json.loads(cli("describe", file, "--json").out)
    assert found["budget"] == {"updates": 2, "frames": 60, "clips_trained_on": 5}
    assert found["evaluation"]["clips_held_out"] == 1
    assert "6 clips, 120 frames" in cli("describe", file).out


def test_a_preset_is_described_before_its_data_is_there(cli: Cli) -> None:
    found = json.loads(cli("describe", "ipv/ssv2", "--json").out)
    assert found["total"] == 23_826_939
    assert "data/ssv2" in cli("describe", "ipv/ssv2").out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.folders=[]"], "data.folders: expected folders that `reverie data import`"),
        (["data.folders=[nowhere]"], "nowhere: expected a folder with a data set, got none"),
        (["data.weights=[1,2]"], "data.weights: expected one for each of the 1 data.folders"),
        (["data.weights=[0]"], "some above 0, got [0.0]"),
        (["data.weights=[-1]"], "data.weights: expected"),
        (["data.holdout=1"], "data.holdout: expected"),
        (["learner.batch_length=21"], "windows of 21 frames do not fit into any clip"),
        (["run.env_steps=9"], "run.env_steps: unknown key"),
        (["env=toy/catch"], "env: unknown key"),
        (["init.from=nowhere"], "init.from: nowhere: not a run folder with a checkpoint"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    overrides: list[str], words: str, file: Path, tmp_path: Path, cli: Cli
) -> None:
    found = cli("pretrain", file, "--local", *overrides)
    assert found.code == 2
    assert words in found.err
    assert len(found.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_sides_that_the_network_cannot_take(tmp_path: Path, cli: Cli) -> None:
    data = moving_squares(tmp_path, side=24)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(pretrain_tree(data, run={"dir": str(tmp_path / "run")})))
    found = cli("pretrain", path, "--local")
    assert found.code == 2
    assert "multiples of 16, got 24 x 24" in found.err


def test_the_other_command_is_named(file: Path, cli: Cli) -> None:
    trained = cli("train", file, "--local")
    assert (trained.code, "run it with: reverie pretrain CONFIG" in trained.err) == (2, True)
    video = cli("pretrain", "dreamerv2/catch", "--local")
    assert (video.code, "run it with: reverie train CONFIG" in video.err) == (2, True)


def test_commands_for_runs_that_act_say_what_this_one_is(
    file: Path, tmp_path: Path, cli: Cli
) -> None:
    run = tmp_path / "run"
    assert cli("pretrain", file, "--local").code == 0
    for words in (["eval", run], ["export", run, tmp_path / "robot"]):
        found = cli(*words)
        assert found.code == 2
        assert "it learned from video and chooses no actions" in found.err
    report = cli("report", run, "--out", tmp_path / "report")
    assert "it learned from video and has no score to compare" in report.err
