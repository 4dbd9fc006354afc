from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from reverie import presets
from reverie.config import load_config
from reverie.errors import ConfigError
from reverie.presets import find_config, preset_files
from tests.conftest import ROOT
from tests.fakes import tree
from tests.platform.commands import Cli, assert_refused


@pytest.mark.parametrize("name", ["harmonydream/atari100k", "harmonydream/atari100k.yaml"])
def test_a_preset_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ROOT / "tune_configs/harmonydream/atari100k.yaml"


def test_a_file_of_that_name_wins_and_a_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dreamerv3/catch").mkdir(parents=True)
    assert find_config("dreamerv3/catch") == preset_files()["dreamerv3/catch"]
    mine = tmp_path / "dreamerv3/catch.yaml"
    mine.write_text(yaml.safe_dump(tree(seed=8)))
    assert load_config("dreamerv3/catch.yaml").seed == 8


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("harmonydram/atari100k", "nearest presets: harmonydream/atari100k, "),
        ("tune_configs/dreamerv3/cach.yaml", "nearest presets: dreamerv3/catch"),
        ("cartpole_balance", "nearest presets: dreamerv3/cartpole_balance"),
        ("zzz", "from apv, contextwm, dreamerv2, dreamerv3, drqv2, harmonydream, ipv"),
    ],
)
def test_a_typo_offers_the_nearest_presets(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_config(name)
    assert str(error.value).startswith(f"no preset or file {name!r}; ")
    assert hint in str(error.value)


def test_without_presets_files_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "PLACES", (tmp_path / "none",))
    assert find_config(ROOT / "tune_configs/dreamerv3/catch.yaml").is_file()
    with pytest.raises(ConfigError, match="this installation holds no presets"):
        find_config("dreamerv3/catch")


@pytest.mark.parametrize("command", ["train", "describe"])
def test_commands_take_presets(command: str, cli: Cli, tmp_path: Path) -> None:
    assert_refused(cli(command, "drqv2/cach"), "no preset or file 'drqv2/cach'", "drqv2/catch")
    refused = cli(command, "drqv2/catch", f"run.dir={tmp_path / 'run'}", "algorithm.tua=1")
    assert_refused(refused, "algorithm.tua: unknown key")


def test_a_wheel_takes_the_presets_where_they_are_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {presets.FOLDER: f"reverie/{presets.FOLDER}"}
    package = ROOT / next(name for name in wheel["packages"] if name.endswith("/reverie"))
    assert presets.PLACES[0] == package / presets.FOLDER
