"""`reverie env install`, `reverie doctor <suite>` and suites that lack something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reverie import registry
from reverie.cli import main
from reverie.cli.list_suites import table
from tests.fakes import Counting

STEPS: list[str] = []


class Fussy(Counting):
    """A suite with a Python of its own."""

    lack: str | None = "no Python of its own: reverie env install fussy"

    def missing(self) -> str | None:
        return self.lack

    def make(self, task: str, config: Any) -> Any:
        STEPS.append(task)
        return super().make(task, config)


class Checked(Fussy):
    """A suite that looks for itself."""

    def checks(self) -> list[tuple[str, str, str]]:
        return [("java", "broken", "version 17"), ("display", "ok", ":0")]


def install(suite: str, python: str, say: Any) -> Path:
    if suite == "bad":
        raise ValueError("no environment of its own for 'bad'")
    say(f"installing {suite} {python}")
    return Path("/venvs") / suite


@pytest.fixture(autouse=True)
def _suites(monkeypatch: pytest.MonkeyPatch) -> None:
    STEPS.clear()
    monkeypatch.setattr(registry, "INSTALL_ENV", f"{__name__}:install")
    for name in ("Fussy", "Checked"):
        monkeypatch.setitem(registry.ENVS, name.lower(), f"{__name__}:{name}")
    monkeypatch.setattr(Fussy, "lack", Fussy.lack)


def test_an_installed_suite_is_tried(capsys: Any) -> None:
    assert main(["env", "install", "fussy", "--python", "p"]) == 0
    out = capsys.readouterr().out
    assert "installing fussy p" in out
    assert "fussy is installed in /venvs/fussy" in out
    assert STEPS == ["count"]


def test_a_part_that_is_no_suite_is_installed_only(capsys: Any) -> None:
    assert main(["env", "install", "minerl-0.4.4"]) == 0
    assert "minerl-0.4.4 is installed" in capsys.readouterr().out


def test_what_cannot_be_installed_says_so(capsys: Any) -> None:
    assert main(["env", "install", "bad"]) == 2
    assert capsys.readouterr().err == "reverie: no environment of its own for 'bad'\n"


def test_the_list_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENVS", {"fussy": f"{__name__}:Fussy"})
    assert "reverie env install fussy" in table()
    monkeypatch.setattr(Fussy, "lack", None)
    assert "reverie env install fussy" not in table()


@pytest.mark.parametrize(
    ("suite", "code", "words"),
    [
        ("fussy", 2, "BROKEN fussy          no Python of its own"),
        ("checked", 2, "BROKEN java           version 17\nok     display        :0"),
        ("toy", 0, "ok     toy            installed"),
    ],
)
def test_the_doctor_looks_at_one_suite(capsys: Any, suite: str, code: int, words: str) -> None:
    assert main(["doctor", suite]) == code
    assert words in capsys.readouterr().out


def test_the_doctor_does_not_know_every_name(capsys: Any) -> None:
    assert main(["doctor", "mincraft"]) == 2
    assert "did you mean minecraft" in capsys.readouterr().err
