"""Score files of every form, and what is said of those that are wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.report.score_files import ReadOptions, parse_map, read_score_file
from reverie.report.study import Curve
from tests.platform.report.published import DREAMER, published_file

STEPS, FRAMES = ReadOptions(unit="steps"), ReadOptions(unit="frames")


def write(folder: Path, tree: Any, name: str = "ours.json") -> Path:
    path = folder / name
    text = tree if isinstance(tree, str) else json.dumps(tree)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(path: Path, options: ReadOptions = STEPS, method: str | None = None) -> list[Curve]:
    return read_score_file(path, path.name, method, options)[0]


def curve(**parts: Any) -> dict[str, Any]:
    whole = {"task": "atari_jamesbond", "method": "m", "seed": 1, "xs": [4, 8], "ys": [1, 2.5]}
    return {**whole, **parts}


@pytest.mark.parametrize("name", ["ours.json", "ours.json.gz"])
def test_lists_of_curves(tmp_path: Path, name: str) -> None:
    (found,) = read(write(tmp_path, [curve()], name), FRAMES)
    assert (found.task, found.suite, found.method) == ("jamesbond", "atari100k", "m")
    assert (found.seed, found.source) == ("1", name)
    assert found.xs.tolist() == [1, 2]  # four frames a step
    assert found.ys.tolist() == [1, 2.5]
    assert found.facts.action_repeat == 4


def test_steps_by_seeds_count_frames(tmp_path: Path) -> None:
    tree = {"steps": [40, 80], "score": {"james_bond": [[1, 2], [3, 4]], "pong": [[5, 6], [7, 8]]}}
    found = read(write(tmp_path, tree), STEPS)
    assert [(one.task, one.seed, one.method) for one in found] == [
        ("jamesbond", "0", "ours"),
        ("jamesbond", "1", "ours"),
        ("pong", "0", "ours"),
        ("pong", "1", "ours"),
    ]
    assert found[1].xs.tolist() == [10, 20]
    assert found[1].ys.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("tree", "method"),
    [({"Jamesbond": [1, 2]}, "ours"), ({"IRIS": {"Jamesbond": [1, 2]}}, "IRIS")],
)
def test_finals_by_game_stand_at_the_benchmarks_end(tmp_path: Path, tree: Any, method: str) -> None:
    found = read(write(tmp_path, tree), ReadOptions())
    assert [(one.task, one.seed, one.method) for one in found] == [
        ("jamesbond", "0", method),
        ("jamesbond", "1", method),
    ]
    assert found[1].xs.tolist() == [100_000]
    assert found[1].ys.tolist() == [2]


def test_finals_of_an_unknown_benchmark_need_their_x(tmp_path: Path) -> None:
    path = write(tmp_path, {"lift": [1, 2]})
    with pytest.raises(ConfigError, match=r"ours.json: expected the env steps .* say --at STEPS"):
        read(path)
    (found, _) = read(path, ReadOptions(at=500))
    assert found.xs.tolist() == [500]
    assert found.suite is None


def test_a_name_replaces_the_method_or_goes_before_several(tmp_path: Path) -> None:
    path = write(tmp_path, [curve(), curve(seed=2)])
    assert {one.method for one in read(path, method="x")} == {"x"}
    path = write(tmp_path, [curve(), curve(method="n")])
    assert [one.method for one in read(path, method="x")] == ["x/m", "x/n"]


def test_frames_or_steps_must_be_said_where_they_differ(tmp_path: Path) -> None:
    path = write(tmp_path, [curve()])
    with pytest.raises(ConfigError, match=r"atari100k in frames or in env steps.*--unit frames"):
        read(path, ReadOptions())
    said = write(tmp_path, [curve(unit="steps")], "said.json")
    assert read(said, FRAMES)[0].xs.tolist() == [4, 8]  # the file's own word wins
    assert read(write(tmp_path, [curve(task="lift")], "b.json"), ReadOptions())[0].suite is None


CSV = "env,algo,seed,step,return\npong,ours,0,100,1\npong,ours,0,200,2\npong,ours,1,100,3\n"
MAP = "task=env,xs=step,ys=return,method=algo"


def test_long_csv_by_map(tmp_path: Path) -> None:
    found = read(write(tmp_path, CSV, "a.csv"), ReadOptions(columns=parse_map(MAP), unit="steps"))
    assert [(one.task, one.seed, one.xs.tolist(), one.ys.tolist()) for one in found] == [
        ("pong", "0", [100, 200], [1, 2]),
        ("pong", "1", [100], [3]),
    ]


def test_usual_columns_need_no_map_and_env_steps_no_unit(tmp_path: Path) -> None:
    text = "task,method,seed,env_steps,value\npong,ours,0,100,1\n"
    (found,) = read(write(tmp_path, text, "a.csv"), ReadOptions())
    assert found.xs.tolist() == [100]


def test_a_torn_last_line_is_skipped_counted_and_shown(tmp_path: Path) -> None:
    path = write(tmp_path, CSV + "pong,our", "a.csv")
    found, notes = read_score_file(path, "a.csv", None, STEPS)
    assert sum(len(one.xs) for one in found) == 3
    assert notes == ["a.csv: 1 torn line at the end was skipped."]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([curve(ys=[1, float("nan")])], "curve 1 (atari_jamesbond, seed 1): ys[1]: expected a fin"),
        ([curve(ys=[1, True])], "ys[1]: expected a finite number, got True"),
        ([curve(ys=[1, None])], "ys[1]: expected a finite number, got None"),
        ([curve(xs=[8, 4])], "xs[1]: expected more than 8, got 4; sort the evaluations"),
        ([curve(xs=[4, 4])], "xs[1]: expected more than 4, got 4"),
        ([curve(xs=[-4, 4])], "xs[0]: expected at least 0, got -4"),
        ([curve(xs=[4])], "expected as many ys as xs, got 2 and 1"),
        ([curve(xs=[], ys=[])], "xs: expected numbers, got an empty list"),
        ([curve(ys="high")], "ys: expected a list of numbers, got 'high'"),
        ([curve(unit="hours")], "unit: expected frames or steps, got 'hours'"),
        ([{"task": "pong"}], "curve 1: xs: expected it, got only task"),
        ([3], "curve 1: expected {task, method, seed, xs, ys}, got 3"),
        ([], "ours.json: expected scores, got none"),
        ([curve(task="atari_pongg"), curve()], "unknown task 'atari_pongg' of atari100k; did you"),
        ({"steps": [1], "score": {"pong": 3}}, "score.pong: expected a list of seeds, got 3"),
        ({"steps": [1]}, "expected `score` beside `steps`, got steps"),
        ({"pong": 3}, "got pong: 3"),
        ({"pong": [1, float("inf")]}, "pong[1]: expected a finite number, got inf"),
        ("{", "ours.json: expected JSON"),
        ("3", "ours.json: expected a list of {task"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, tree: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, tree))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("return", "reward"), "a.csv: expected a column 'return' for ys, got env, al"),
        (CSV.replace(",2\n", ",nan\n"), "a.csv: line 3: return: expected a finite number, got 'n"),
        (CSV.replace("0,200", "0,50"), "a.csv: from line 2 (pong, ours, seed 0): xs[1]: expected"),
        (CSV.replace("pong,ours,0,200", "pong,0,200"), "a.csv: line 3: expected 5 columns, got 4"),
        ("", "a.csv: expected a line with the names of columns, got an empty file"),
        ("env,algo,seed,step,return\n", "a.csv: expected scores, got none"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    options = ReadOptions(columns=parse_map(MAP), unit="steps")
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, text, "a.csv"), options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["task", "task=", "tusk=env", ""])
def test_a_map_is_names_and_columns(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--map: expected task\|method\|seed\|xs\|ys=COLUMN"):
        parse_map(text)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [curve()], "a.json.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ConfigError, match=r"a.json.gz: expected JSON, got"):
        read(path)


def test_published_files_are_read_whole() -> None:
    found = read(published_file(DREAMER))
    assert (len(found), len({one.task for one in found})) == (130, 26)
    assert {float(one.xs[-1]) for one in found} == {100_000}
    uneven = ReadOptions(unit="steps", allow_uneven=True)
    lists = read(published_file("atari100k-dreamerv3.json.gz"), FRAMES)
    assert (len(lists), {one.method for one in lists}) == (130, {"dreamerv3"})
    assert len(read(published_file("dmc_vision-drqv2.json.gz"), uneven)) == 187


def test_a_name_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a\\ud800": {"pong": [1, 2]}}')
    with pytest.raises(ConfigError, match=r"expected names of text, got 'a\\ud800'"):
        read(path)
