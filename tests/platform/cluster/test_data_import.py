"""An import as Ray tasks makes the same as one in a loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverie.cluster.data_import import RayGroups
from reverie.data.parts import ImportStopped
from reverie.errors import RunError
from tests.platform.commands import Cli
from tests.platform.data.films import bring_in, write_episode
from tests.platform.data.test_importer import contents

pytestmark = pytest.mark.ray


@pytest.fixture
def source(tmp_path: Path, ray_local: None) -> Path:
    for index in range(4):
        write_episode(tmp_path / f"v/{index}.npz", range(5 + index))
    return tmp_path / "v"


def test_tasks_make_the_same_as_a_loop(source: Path, tmp_path: Path, cli: Cli) -> None:
    (source / "broken.npz").write_bytes(b"")
    answer = cli("data", "import", source, tmp_path / "ray")
    assert answer.code == 0, answer
    assert "4 clips, 26 frames, 4 of the clips new, 1 broken" in answer.out
    bring_in(source, tmp_path / "loop")
    assert contents(tmp_path / "ray") == contents(tmp_path / "loop")


def test_told_to_stop(source: Path, tmp_path: Path) -> None:
    tasks = RayGroups(source, None)
    with pytest.raises(ImportStopped, match="run the same command again"):
        bring_in(source, tmp_path / "data", run_groups=tasks, should_stop=lambda: True)
    assert bring_in(source, tmp_path / "data", run_groups=tasks).clips == 4


def test_a_node_that_does_not_see_the_source(source: Path, tmp_path: Path) -> None:
    tasks = RayGroups(tmp_path / "elsewhere", None)
    with pytest.raises(RunError, match=r"elsewhere: node .* does not see it; all nodes must"):
        bring_in(source, tmp_path / "data", run_groups=tasks)


def test_a_target_that_cannot_be_written_is_told_in_one_line(
    source: Path, tmp_path: Path, cli: Cli
) -> None:
    bring_in(source, tmp_path / "data")
    for folder in ("parts", "shards"):
        for path in (tmp_path / "data" / folder).iterdir():
            path.unlink()
        (tmp_path / "data" / folder).rmdir()
        (tmp_path / "data" / folder).write_text("in the way")
    (tmp_path / "data/index.json").unlink()
    answer = cli("data", "import", source, tmp_path / "data")
    assert answer.code == 2
    assert "Traceback" not in answer.err
