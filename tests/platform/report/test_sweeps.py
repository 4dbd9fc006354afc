from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.errors import ConfigError
from reverie.report.sweeps import named


def write(folder: Path, cells: object, *, has_names: bool = True) -> None:
    text = json.dumps({"file": {"has_names": has_names}, "cells": cells})
    (folder / "sweep.json").write_text(text)


def test_runs_of_a_sweep_are_called_after_base_and_point(tmp_path: Path) -> None:
    run = tmp_path / "runs/a.s0"
    run.mkdir(parents=True)
    assert named(run) is None
    write(tmp_path, [{"id": "a.s0", "base": "a", "label": "lr=0.1"}])
    found = named(run)
    assert found is not None
    assert found.method("dreamerv2") == "a lr=0.1"
    assert named(tmp_path / "runs/b.s0") is None
    write(tmp_path, [{"id": "a.s0", "base": "a", "label": ""}], has_names=False)
    found = named(run)
    assert found is not None
    assert found.method("dreamerv2") == "dreamerv2"


def test_a_broken_file_of_a_sweep_is_named(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with pytest.raises(ConfigError, match=r"sweep\.json: expected a list of cells"):
        named(tmp_path / "runs/a.s0")
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ConfigError, match=r"sweep\.json: expected JSON"):
        named(tmp_path / "runs/a.s0")
