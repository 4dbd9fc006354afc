"""The commands of the README are those of the command line, and its files are there."""

from __future__ import annotations

import re
import shlex

import pytest

from reverie.cli.commands import parse
from reverie.config import load_config
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [line.partition("#")[0] for line in "\n".join(BLOCKS).splitlines()]
COMMANDS = [
    part.strip()
    for line in LINES
    if line.startswith("reverie ")
    for part in re.split(r"[;|]", line)
    if part.strip()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    words = shlex.split(command.removeprefix("reverie ").replace("CONFIG", "a.yaml"))
    arguments = parse(words)
    assert callable(arguments.command)
    if (path := getattr(arguments, "config", "a.yaml")) != "a.yaml":
        load_config(path, [text for text in arguments.overrides if "factory" not in text])


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[\w./-]+/[\w./-]+\.(?:yaml|py)", README))))
def test_files_that_are_named_are_there(path: str) -> None:
    assert (ROOT / path).is_file()
