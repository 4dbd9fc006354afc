"""Published score files, which the project does not ship: tests that read them skip without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.report.tasks import name_tasks, scores
from reverie.types import Array
from tests.conftest import ROOT

REFERENCE = ROOT.parent / "shared/reference"
HARMONY = "atari100k-harmony_dreamerv3.json"
DREAMER = "atari100k-dreamerv3_2023_reproduced.json"


def published_file(name: str) -> Path:
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"the published score file {name} is not beside the repository")
    return path


def final_scores(name: str) -> list[Array]:
    """Human-normalised finals [5] of the 26 games by name, read without the report's readers."""
    import numpy as np

    games = json.loads(published_file(name).read_text())["score"]
    named = name_tasks(games, name)
    return [
        scores(*named[game], np.array([runs[-1] for runs in games[game]])) for game in sorted(games)
    ]
