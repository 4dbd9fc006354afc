from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.tuning.cells import Plan, count_cells, plan
from reverie.tuning.sweep_file import read_sweep
from tests.platform.tuning.sweeps import write_sweep


def planned(folder: Path, settings: dict[str, Any] | None = None, **keys: Any) -> Plan:
    return plan(read_sweep(write_sweep(folder, settings, **keys)))


def test_every_base_task_point_and_seed_is_a_cell(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        bases={"plain": "base.yaml", "wide": {"base": "base.yaml", "learner.batch_size": 8}},
        tasks=["toy/catch", "toy/two_cameras"],
        seeds=3,
        param_space={"learner.batch_length": {"grid": [4, 5]}},
        stop={"env_steps": 90},
    )
    assert len(found.cells) == len({cell.id for cell in found.cells}) == 2 * 2 * 2 * 3
    cell = found.cells[-1]
    assert cell.id == "wide.toy.two_cameras.p1.s2"
    assert (cell.base, cell.task, cell.seed) == ("wide", "toy/two_cameras", 2)
    assert (cell.label, cell.env_steps) == ("batch_length=5", 90)
    config = found.configs[cell.config]
    assert (config.learner.batch_size, config.learner.batch_length) == (8, 5)
    assert (config.env.name, config.run.env_steps) == ("toy/two_cameras", 90)


def test_names_of_users_never_become_folders_as_they_are(tmp_path: Path) -> None:
    names = ["../../evil", "a.b", "a%2Eb", ""]
    found = planned(tmp_path, bases=dict.fromkeys(names, "base.yaml"))
    ids = [cell.id for cell in found.cells]
    assert len(set(ids)) == 4
    assert all("/" not in name and not name.startswith(".") for name in ids)
    with pytest.raises(ConfigError, match="shorten the base's name"):
        planned(tmp_path, bases={"x" * 200: "base.yaml"})


def test_more_than_ten_thousand_cells_are_counted_and_refused(tmp_path: Path) -> None:
    space = {f"learner.{key}": {"grid": list(range(1, 101))} for key in ("batch_size", "prefetch")}
    file = read_sweep(write_sweep(tmp_path, seeds=2, param_space=space))
    assert count_cells(file) == 20_000
    with pytest.raises(ConfigError, match="20,000 cells are more than 10,000; --yes"):
        plan(file)


def test_a_cell_waits_for_the_one_it_starts_from(tmp_path: Path) -> None:
    tune = {"base": "base.yaml", "init.from": {"cell": "plain"}, "init.modules": ["policy"]}
    found = planned(tmp_path, bases={"plain": "base.yaml", "tune": tune}, seeds=2)
    waits = {cell.id: cell.after for cell in found.cells}
    first, second, third, fourth = waits
    assert waits == {first: None, second: None, third: first, fourth: second}
    assert found.configs[found.cells[2].config].init.from_ == f"cell:{found.cells[0].config}"


def after(name: Any) -> dict[str, Any]:
    return {"base": "base.yaml", "init.from": name if isinstance(name, dict) else {"cell": name}}


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ({"plain": "base.yaml", "a": after("plian")}, "unknown cell 'plian'; did you mean plain?"),
        ({"a": after("a")}, "a cell cannot start from itself"),
        ({"a": after("b"), "b": after("a")}, "a cell cannot start from itself: "),
        ({"a": after({"cel": "b"})}, "expected a run folder or {cell: NAME}"),
        (
            {"plain": {"base": "base.yaml", "seeds": [5, 6]}, "a": after("plain")},
            "plain has no seed 0; it has 5, 6",
        ),
        (
            {"plain": {"base": "base.yaml", "tasks": "toy/*"}, "a": after("plain")},
            "cells are called 'plain'; name one of",
        ),
    ],
)
def test_wrong_sources_are_refused(bases: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        planned(tmp_path, bases=bases)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"param_space": {"learner.batch_sise": {"grid": [1]}}},
            "param_space: learner.batch_sise: unknown key; did you mean batch_size",
        ),
        ({"param_space": {"learner.batch_size": {"grid": [0]}}}, "param_space: learner.batch_size"),
        ({"tasks": "toy/cach"}, "tasks: env.task: unknown task 'cach' of toy; did you mean catch?"),
        ({"stop": {"env_steps": 5}}, "stop: run.prefill: expected at most the 5"),
        ({"overrides": {"run.prefil": 5}}, "overrides: run.prefil: unknown key"),
        (
            {"bases": {"a": {"base": "base.yaml", "run.prefil": 5}}},
            "bases.a: run.prefil: unknown key",
        ),
    ],
)
def test_a_wrong_configuration_is_told_where_it_stands(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        planned(tmp_path, **keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
