"""A command, what it answers, and a short run of stubs to give it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from reverie.checkpoint import CheckpointStore
from reverie.storage import Storage
from tests.fakes import tree


@dataclasses.dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


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
