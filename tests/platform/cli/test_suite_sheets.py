"""`reverie play`: every suite is shown or says why not, and files lie where they were wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reverie import registry
from reverie.cli import main
from reverie.cli.suite_sheets import examples_of
from reverie.config import resolve_config
from reverie.trainer import Trainer
from reverie_envs.toy import Toy
from tests.fakes import Counting, tree


class Lacking(Counting):
    """Not installed."""

    def missing(self) -> str | None:
        return "lacking: reverie env install lacking"


class Half(Counting):
    """One task works, of another a package is missing."""

    def tasks(self) -> tuple[str, ...]:
        return ("count", "extra")

    def make(self, task: str, config: Any) -> Any:
        if task == "extra":
            raise ImportError("pip install extra")
        return super().make(task, config)


class Failing(Half):
    """One task works, the other falls over."""

    def make(self, task: str, config: Any) -> Any:
        if task == "extra":
            raise RuntimeError("the simulator fell over")
        return super().make(task, config)


class Black(Toy):
    """Draws nothing."""

    def tasks(self) -> tuple[str, ...]:
        return ("catch",)

    def make(self, task: str, config: Any) -> Any:
        env = super().make(task, config)
        env._obs = lambda: {"image": np.zeros((64, 64, 3), np.uint8)}
        return env


class Twice(Toy):
    """Names its own examples."""

    def examples(self) -> list[tuple[str, dict[str, Any]]]:
        return [("two_cameras", {}), ("two_cameras", {})]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("Lacking", "Half", "Failing", "Black", "Counting", "Twice")
    envs = {name.lower(): f"{__name__}:{name}" for name in names}
    envs |= {name: registry.ENVS[name] for name in ("toy", "gym", "factory", "isolated")}
    monkeypatch.setattr(registry, "ENVS", envs)
    monkeypatch.chdir(tmp_path)


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_suites_are_shown_or_say_why_not(capsys: Any) -> None:
    assert main(["play", "--all", "toy", "lacking", "half", "--out", "sheets"]) == 0
    out = capsys.readouterr().out
    assert "toy/catch  9 steps, return" in out
    assert "lacking: lacking: reverie env install lacking" in out
    assert "half/extra: pip install extra" in out
    found = sorted(path.name for path in Path("sheets").iterdir())
    assert found == ["all.png", "half.png", "toy.png"]
    # Toy's own sheet has a row per task; in that of all a suite is one row.
    assert size("sheets/toy.png")[1] > 4 * 128
    assert 2 * 128 < size("sheets/all.png")[1] < 4 * 128


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("failing", "failing/extra: environment failing/extra failed: RuntimeError: the simulator"),
        ("black", "EVERY FRAME IS OF ONE COLOUR"),
    ],
)
def test_a_failure_does_not_stop_the_others_and_is_told_by_the_exit_code(
    suite: str, words: str, capsys: Any
) -> None:
    assert main(["play", "--all", suite, "counting"]) == 2
    out = capsys.readouterr().out
    assert words in out
    assert "counting/count  7 steps" in out
    assert Path("runs/play/suites/all.png").exists()


def test_without_names_every_suite_has_its_turn(capsys: Any) -> None:
    main(["play", "--all", "--steps", "2"])
    out = capsys.readouterr().out
    assert [name for name in registry.ENVS if f"{name}/" not in out and f"{name}:" not in out] == []
    for suite in ("factory", "isolated"):
        assert f"{suite}/reverie_envs.toy:TwoCameras  2 steps, cut off" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all", "tyo"], "unknown environment suite 'tyo'; did you mean toy?"),
        (["size=3", "--all"], "takes names of suites and no environment or run, got size=3"),
        (["toy/catch", "toy/multi"], "expected one environment, got toy/catch toy/multi"),
        (["toy/catch", "--steps", "0"], "--steps: expected at least 1, got 0"),
        (["toy/catch", "--steps", "x"], "--steps: expected a whole number, got 'x'"),
        (["toy/catch", "--seed", "-1"], "--seed: expected at least 0, got -1"),
        (["toy/catch", "--out", "x.avi"], "expected a file ending in .mp4 or .png, got x.avi"),
        (["toy/catch", "--sheet", "--out", "x.mp4"], "expected a file ending in .png, got x.mp4"),
        (["toy/catch", "--out", "file/x.mp4"], "--out: cannot write to file: "),
        (["--run", "nowhere"], "not a run folder: no config.yaml in nowhere"),
        (["toy/ctch"], "did you mean catch?"),
    ],
)
def test_what_is_written_wrongly_is_one_line(arguments: list[str], words: str, capsys: Any) -> None:
    Path("file").touch()
    try:
        code = main(["play", *arguments])
    except SystemExit as end:
        code = end.code
    found = capsys.readouterr()
    assert code == 2
    assert words in found.err.splitlines()[-1]
    assert "random policy" not in found.out
    assert not Path("nowhere").exists()


def test_examples_are_spread_over_the_tasks_unless_a_suite_names_its_own() -> None:
    assert [task for task, _ in examples_of("toy")] == list(Toy().tasks())
    assert examples_of("gym") == [("CartPole-v1", {"render": True, "size": 128})]


def test_each_example_has_a_seed_of_its_own(capsys: Any) -> None:
    assert main(["play", "--all", "twice"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first != second


# One environment


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["--sheet"], "runs/play/toy-catch.png"),
        (["--out", "new/x.png"], "new/x.png"),
        (["--out", "new/folder", "--sheet"], "new/folder/toy-catch.png"),
        (["--out", "."], "toy-catch.mp4"),
    ],
)
def test_files_lie_where_it_says(arguments: list[str], path: str, capsys: Any) -> None:
    pytest.importorskip("av")
    assert main(["play", "toy/catch", *arguments, "continuous=true", "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert "episode 1: 9 steps, return" in out
    assert "episode 2: 9 steps, return" in out
    assert f"written: {path}\n" in out
    assert Path(path).stat().st_size > 0


def test_a_film_holds_the_end_of_each_episode(capsys: Any) -> None:
    av = pytest.importorskip("av")
    assert main(["play", "toy/catch", "--episodes", "3", "--out", "x.mp4"]) == 0
    with av.open("x.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # 10 rows per episode at 7.5 frames per second, half a second of rest.
    assert len(frames) == 3 * (10 + 4)
    assert frames[0].shape == (256, 256, 3)
    for first in (9, 23, 37):
        held = np.stack(frames[first : first + 5]).astype(int)
        assert np.abs(held - held[0]).mean() < 1


def test_a_trained_policy_plays_where_it_was_trained(capsys: Any) -> None:
    Trainer(resolve_config(tree(run__dir="run", run__env_steps=60)), local=True).run()
    assert main(["play", "--run", "run", "length=4", "--sheet"]) == 0
    out = capsys.readouterr().out
    assert "tests.fakes:Counting/count: policy of run, seed 0" in out
    assert "episode 1: 4 steps" in out
    assert Path("run/videos/tests.fakes-Counting-count.png").exists()
    assert main(["play", "--run", "run", "toy/catch"]) == 2
    assert "toy/catch has other spaces than run was trained with" in capsys.readouterr().err
