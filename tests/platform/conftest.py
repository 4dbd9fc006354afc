"""Fixtures for tests that run commands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reverie.cli import main
from tests.platform.commands import Answer, Cli, write_config


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
