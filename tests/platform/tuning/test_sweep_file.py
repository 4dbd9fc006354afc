from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.tuning.sweep_file import expand_tasks, read_sweep
from tests.platform.tuning.sweeps import write_sweep

SPACE = {"param_space": {"learner.batch_size": {"choice": [2, 4]}}}


def test_a_key_of_the_sweep_changes_it_and_another_all_its_runs(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, resources={"cpu": 0.5})
    words = ["seeds=2", "resources.cpu=0.25", "resources.device=cpu", "learner.batch_size=3"]
    file = read_sweep(path, words)
    assert file.seeds == (0, 1)
    assert file.resources.cpu == 0.25
    assert file.overrides == {"resources": {"device": "cpu"}, "learner": {"batch_size": 3}}


def test_a_base_may_have_tasks_seeds_and_a_space_of_its_own(tmp_path: Path) -> None:
    entry = {
        "base": "base.yaml",
        "tasks": "toy/catch",
        "seeds": [7],
        "param_space": {"learner.batch_size": {"grid": [2]}},
        "learner.batch_length": 4,
    }
    base = read_sweep(write_sweep(tmp_path, bases={"one": entry})).bases["one"]
    assert (base.tasks, base.seeds) == (("toy/catch",), (7,))
    assert base.space is not None
    assert base.space["learner.batch_size"].values == (2,)
    assert base.tree["learner"]["batch_length"] == 4
    assert base.tree["learner"]["batch_size"] == 4


def test_lists_of_tasks() -> None:
    assert len(expand_tasks("atari100k/*", "tasks")) == 26
    assert len(expand_tasks("dmc/vision20", "tasks")) == 20
    assert expand_tasks("dmc/vision20", "tasks")[0] == "dmc/acrobot_swingup"
    for name in ("metaworld/contextwm6", "metaworld/ivideogpt6"):
        assert len(expand_tasks(name, "tasks")) == 6
        assert "metaworld/door-lock" in expand_tasks(name, "tasks")
    assert expand_tasks("toy/catch", "tasks") == ("toy/catch",)


def test_lists_of_tasks_may_overlap(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tasks=["toy/catch", "toy/*"])
    assert read_sweep(path).tasks.count("toy/catch") == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": 3}, "seed: unknown key; did you mean seeds or sweep?"),
        ({"bases": None}, "base: expected either base or bases, got neither"),
        ({"base": "base.yaml"}, "base: expected either base or bases, got both"),
        ({"bases": {}}, "bases: expected at least one name, got none"),
        ({"bases": {"a": 3}}, "bases.a: expected a mapping of keys, got 3"),
        ({"bases": {"a": "bse.yaml"}}, "bases.a: no preset or file 'bse.yaml'"),
        ({"bases": {"a": {"seeds": 1}}}, "bases.a.base: missing"),
        ({"bases": {"a": {"base": "base.yaml", "lerner": 1}}}, "did you mean learner?"),
        ({"seeds": 0}, "seeds: expected"),
        ({"seeds": "3"}, "seeds: expected"),
        ({"seeds": [1, 1]}, "seeds: expected each seed once"),
        ({"tasks": "catch"}, "tasks: expected SUITE/TASK, SUITE/* or a list"),
        ({"tasks": "gym/*"}, "tasks: gym/*: no such suite with known tasks"),
        ({"tasks": []}, "tasks: expected at least one task, got none"),
        ({"resources": {"cpus": 1}}, "resources.cpus: unknown key; did you mean cpu?"),
        ({"resources": {"cpu": -1}}, "resources.cpu: expected a finite number of 0 or more"),
        ({"slurm": {"memory": "1G"}}, "slurm.memory: unknown key"),
        ({"max_concurrent": 0}, "max_concurrent: expected a whole number from 1"),
        ({"overrides": {"seed": 1}}, "overrides: seed: write it as `seeds` of the sweep"),
        ({"overrides": {"run.dir": "a"}}, "overrides: run.dir: write it as `sweep.dir`"),
        ({"sweep": {"dir": "s3://a/b"}}, "sweep.dir: expected a folder that every machine sees"),
        ({"samples": 3}, "samples: 3 draws of nothing"),
        ({"search": {"scheduler": "asha"}}, "search: nothing to search"),
        (
            {"search": {"scheduler": "asha", "reduction_factor": 1}} | SPACE,
            "search.reduction_factor: expected at least 2, got 1",
        ),
        ({"search": {"scheduler": "pbt", "searcher": "optuna"}} | SPACE, "search.searcher: pbt"),
        ({"search": {}, "samples": 2} | SPACE, "write it as search.samples"),
        ({"search": {"scheduler": "hyperband"}}, "search.scheduler: expected asha"),
        ({"sweep": {"run_as": "actors"}}, "sweep.run_as: actors is not there yet"),
        ({"param_space": {"learner.batch_size": {"logunifrom": [1, 2]}}}, "loguniform"),
        ({"param_space": {"seed": {"grid": [1]}}}, "write it as `seeds` of the sweep"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        read_sweep(write_sweep(tmp_path, **keys))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
