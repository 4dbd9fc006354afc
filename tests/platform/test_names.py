"""Names of users reach files and tags whole, and no two of them become one."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.metrics import MetricsLogger
from reverie.names import identifier
from reverie.types import Counters
from reverie.video import write_run_video

ODD = (
    "a/b",
    "a_b",
    "a.b",
    "a b",
    "a%2Fb",
    "a%b",
    "..",
    "",
    "a/../b",
    "a\\b",
    "größe",
    "图",
    "a\nb",
)


def test_an_ordinary_name_stays_as_it_is() -> None:
    for name in ("image", "eye_in_hand-2", "größe"):
        assert identifier(name) == identifier(name, only=".") == name


@pytest.mark.parametrize(
    "options", [{}, {"only": "."}, {"plain": "_-/", "mark": "."}], ids=["file", "module", "tag"]
)
def test_two_names_never_become_one(options: dict[str, Any]) -> None:
    names = ["".join(chars) for n in range(5) for chars in product("a2F%./", repeat=n)]
    names += [name for name in ODD if name not in names]
    assert len({identifier(name, **options) for name in names}) == len(names)


def test_videos_of_all_names_lie_in_one_folder(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    paths = {write_run_video(tmp_path, f"episode/{name}", 3, frames, 10) for name in ODD}
    assert len(paths) == len(ODD)
    assert {path.parent for path in paths} == {tmp_path / "videos"}
    assert all(path.is_file() for path in paths)
    plain = write_run_video(tmp_path, "episode/image", 3, frames, 10)
    assert plain.name == "episode_image-00000003.mp4"


def test_tags_of_all_names_reach_tensorboard_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboardX")
    caplog.set_level("INFO")
    logger = MetricsLogger(tmp_path)
    logger.write({f"episode/{name}_sum": 1.0 for name in ODD} | {"fps/env": 2.0}, Counters())
    logger.close()
    assert "illegal" not in caplog.text
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    for tag in (b"episode/a/b_sum", b"episode/a.20b_sum", b"episode/a.2Eb_sum", b"fps/env"):
        assert tag in events, tag
