"""A search on a real Ray: its driver and one of its members die, and it is gone on with."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray.tune")

from reverie.lease import holders
from reverie.tuning.group import read_groups
from tests.platform.tuning.sweeps import start, write_sweep

pytestmark = pytest.mark.ray
WAIT_S = 120.0
KEY = "learner.training_ratio"


@pytest.mark.timeout(600)
def test_a_search_whose_driver_and_member_die_ends_as_if_they_had_lived(tmp_path: Path) -> None:
    file = write_sweep(
        tmp_path,
        {"run__env_steps": 160, "eval__every": 40, "run__prefill": 20, "run__quota": 1},
        seeds=2,
        param_space={KEY: {"choice": [1, 2, 4, 8]}},
        search={"scheduler": "asha", "samples": 2, "grace_env_steps": 40, "fresh_seeds": 1},
        resources={"cpu": 0.4},
    )
    groups = tmp_path / "s/groups"
    first = start("sweep", file, cwd=tmp_path)
    _wait_for(lambda: any(one.rungs for one in read_groups(groups)))
    folders = list(groups.glob("*/runs/*"))
    for owner in list(holders(folders, tmp_path).values())[:1]:
        os.kill(owner.pid, signal.SIGKILL)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {one.id: one.rungs for one in read_groups(groups)}

    second = start("sweep", file, "--resume", cwd=tmp_path)
    out, err = second.communicate(timeout=400)
    assert second.returncode == 0, (out, err)
    found = read_groups(groups)
    assert {one.id for one in found} == before.keys()
    assert len(found) == 2
    for one in found:
        assert not one.failed
        assert one.rungs[: len(before[one.id])] == before[one.id]
        steps = [rung.env_steps for rung in one.rungs]
        assert steps == [40, 120, 160][: len(steps)]
    assert max(len(one.rungs) for one in found) == 3
    assert re.search(r"on 1 fresh runs, which chose nothing: -?\d", out), out


def _wait_for(is_there: object) -> None:
    assert callable(is_there)
    deadline = time.monotonic() + WAIT_S
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_that_is_told_to_stop_saves_and_is_gone_on_with(tmp_path: Path) -> None:
    file = write_sweep(
        tmp_path,
        {"run__env_steps": 3_000, "eval__every": 40, "run__prefill": 20, "run__quota": 1},
        param_space={KEY: {"choice": [1, 2]}},
        search={"scheduler": "asha", "samples": 1, "grace_env_steps": 40, "fresh_seeds": 1},
        resources={"cpu": 0.4},
        overrides={"eval.episodes": 1},
    )
    groups = tmp_path / "s/groups"
    first = start("sweep", file, cwd=tmp_path)
    _wait_for(lambda: any(one.rungs for one in read_groups(groups)))
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 143, (out, err)
    assert "every member has ended, go on with: reverie sweep retry s" in err
    (before,) = read_groups(groups)
    assert not before.failed

    again = start("sweep", "retry", tmp_path / "s", cwd=tmp_path)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, (out, err)
    (after,) = read_groups(groups)
    assert not after.failed
    assert after.restarts == 0
    assert after.rungs[: len(before.rungs)] == before.rungs
    assert after.rungs[-1].env_steps == 3_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_population_based_training_copies_groups_and_changes_their_settings(tmp_path: Path) -> None:
    file = write_sweep(
        tmp_path,
        {"run__env_steps": 120, "eval__every": 40, "run__prefill": 20, "run__quota": 1},
        param_space={KEY: {"choice": [1, 2, 4, 8]}},
        search={"scheduler": "pbt", "samples": 4, "grace_env_steps": 40, "fresh_seeds": 1},
        resources={"cpu": 0.2},
    )
    process = start("sweep", file, cwd=tmp_path)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, (out, err)
    found = read_groups(tmp_path / "s/groups")
    copied = [one for one in found if one.adopted]
    assert copied, found
    names = {one.id for one in found}
    for one in found:
        assert not one.failed
        assert set(one.adopted) <= names - {one.id}
        assert [rung.env_steps for rung in one.rungs] == [40, 80, 120]
    for one in copied:
        (run,) = (tmp_path / "s/groups" / one.id / "runs").iterdir()
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["learner"]["training_ratio"] == one.point[KEY]
