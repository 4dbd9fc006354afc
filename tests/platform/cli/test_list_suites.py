"""`reverie envs`: what there is, whether it works here, in a terminal of 100 characters."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from reverie import registry
from reverie.cli import main
from reverie.cli.list_suites import facts_of_all, suite_text, table
from reverie.errors import ConfigError
from tests.fakes import Counting

LACK = "many has no Python of its own in /somewhere/far/away/venvs/many-packages-of-it: "
REMEDY = "reverie env install many-packages-of-it"


class Many(Counting):
    """A suite with many tasks."""

    extra = "many"
    deterministic = False
    lack: str | None = LACK + REMEDY + ", or env.python=<interpreter>; java is missing"

    def tasks(self) -> tuple[str, ...]:
        return tuple(f"task-with-number-{number}" for number in range(60))

    def missing(self) -> str | None:
        return self.lack

    def rendering(self) -> str:
        return "a client in a process of its own"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three suites: one of each kind."""
    envs = {
        "many": f"{__name__}:Many",
        "toy": registry.ENVS["toy"],
        "gym": registry.ENVS["gym"],
        "broken": f"{__name__}:Missing",
    }
    monkeypatch.setattr(registry, "ENVS", envs)


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("width", [80, 100])
def test_rows_fit_the_terminal_and_commands_stay_whole(width: int) -> None:
    lines = table(width).splitlines()
    assert max(map(len, lines)) <= width
    rows = {line.split()[0]: line.split() for line in lines if line and line[0] != " "}
    assert rows["suite"] == ["suite", "usable", "deterministic", "rendering", "tasks"]
    assert rows["toy"][1:4] == ["yes", "yes", "numpy"]
    assert rows["many"][1:3] == ["no", "no"]
    assert rows["gym"][-2:] == ["any", "name"]
    assert any(REMEDY in line for line in lines)
    assert sum("task-with-number" in line for line in lines) == 2
    assert "60: " in table(width)
    assert "task-with-number-59" not in table(width)


@pytest.mark.usefixtures("only")
def test_one_suite_shows_all_its_tasks_and_options() -> None:
    text = suite_text("many", 100)
    assert max(map(len, text.splitlines())) <= 100
    words = text.split()
    assert {f"task-with-number-{number}" for number in range(60)} <= set(words)
    assert {"env.length,", "env.fault,"} <= set(words)
    assert text.startswith("many: A suite with many tasks.")
    assert REMEDY in text
    assert 'pip install "reverie[many]"' in text


@pytest.mark.usefixtures("only")
def test_a_file_that_does_not_import_is_one_row_and_not_the_end() -> None:
    found = facts_of_all()
    assert "its file does not import: AttributeError" in found["broken"]["missing"]
    assert found["toy"]["missing"] is None
    assert "does not import" in table(100)


def test_a_suite_whose_package_is_missing_is_listed_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unimportable(Counting):
        def __init__(self) -> None:
            raise ImportError("the suite 'x' needs x: pip install \"reverie[x]\"")

    monkeypatch.setattr(sys.modules[__name__], "Unimportable", Unimportable, raising=False)
    monkeypatch.setattr(registry, "ENVS", {"x": f"{__name__}:Unimportable"})
    assert 'needs x: pip install "reverie[x]"' in table(100)
    assert suite_text("x").startswith("x: -\nusable          no: the suite 'x' needs x")


@pytest.mark.usefixtures("only")
def test_json_holds_everything(capsys: Any) -> None:
    assert main(["envs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"many", "toy", "gym", "broken"}
    assert (found["many"]["deterministic"], len(found["many"]["tasks"])) == (False, 60)
    assert main(["envs", "toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"toy": found["toy"]}


def test_a_misspelled_suite_has_near_names(capsys: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean metaworld"):
        suite_text("metawrld")
    assert main(["envs", "tyo"]) == 2
    assert "did you mean toy?" in capsys.readouterr().err


def test_real_suites_say_what_draws_them() -> None:
    found = facts_of_all()
    assert found["toy"]["rendering"] == "numpy"
    for name in ("isolated", "robodesk", "robosuite"):
        assert found[name]["rendering"] == "in its own process"
