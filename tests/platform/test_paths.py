"""However a path is written, it means one place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import reverie
from reverie.errors import ConfigError
from reverie.paths import place, short
from reverie.storage import Storage
from tests.platform.commands import Cli, assert_refused, checkpoints, write_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder whose name has a space, a link to it, and another folder to work in."""
    folder, work = tmp_path / "my home", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(work)
    return folder


def ways(home: Path) -> list[str]:
    spellings = ["~/run", "~/run/", "~/./run", "~/other/../run", "../my home/run", "../link/run"]
    return [*spellings, str(home / "run")]


def test_spellings_of_one_place_are_one_path(home: Path) -> None:
    wanted = home / "run"
    assert {place(way) for way in ways(home)} == {wanted}
    assert {Storage(way).local_path for way in ways(home)} == {wanted}
    assert short(wanted) == wanted
    assert str(short(place("a/../b"))) == "b"


def test_what_is_no_place_is_refused(home: Path) -> None:
    Path("loop").symlink_to("loop")
    for path in ("~nobody-of-this-name/x", "loop/x"):
        with pytest.raises(ConfigError, match=f"^{path}: expected a path"):
            place(path)


def test_a_run_is_found_however_its_folder_is_written(home: Path, cli: Cli) -> None:
    (home / "other").mkdir()
    config = write_config(home.parent, run__dir="~/run", eval__episodes=1)
    assert cli("train", config, "--local").code == 0
    assert [path.name for path in Path().iterdir()] == []
    assert {path.name for path in home.iterdir()} == {"other", "run"}
    for count, way in enumerate(ways(home)):
        budget = f"run.env_steps={90 + 10 * count}"
        assert_refused(cli("train", config, f"run.dir={way}", "--local"), "exists", "'")
        assert cli("resume", way, budget, "--local").code == 0, way
        assert cli("train", config, f"run.dir={way}", budget, "--resume=auto", "--local").code == 0
        found = json.loads(cli("eval", way, "--episodes", "1", "--json").out)
        assert found["run"] == str(home / "run")
        assert reverie.load(way).spaces
    assert checkpoints(home).latest().document("record")["progress"]["env_steps"] == 150


def test_other_paths_of_commands_know_the_home_folder(home: Path, cli: Cli) -> None:
    (home / "run.yaml").write_text(
        yaml.safe_dump({"base": "~/base.yaml", "run": {"dir": "~/first"}, "seed": 3})
    )
    write_config(home).rename(home / "base.yaml")
    assert cli("train", "~/run.yaml", "--local").code == 0
    assert cli("export", "~/first/", "~/robot").code == 0
    assert (home / "robot" / "spaces.json").is_file()
    (home / "newest").symlink_to(next((home / "first" / "checkpoints").glob("0*")))
    for source in ("~/first", "~/newest"):
        run = home / Path(source).name.replace("first", "second")
        again = cli("train", "~/run.yaml", f"init.from={source}", f"run.dir={run}-a", "--local")
        assert again.code == 0, again.err
