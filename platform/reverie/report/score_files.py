"""Score files of any origin as curves: JSON (also gzipped) in four forms, and long CSV.

The forms of JSON:

    [{task, method, seed, xs, ys}, ...]            curves, as DreamerV3's score files
    {"steps": [x], "score": {game: [[y] per seed]}}  thuml's, steps in frames
    {game: [score per seed]}                       finals, as those of IRIS, DIAMOND and Simulus
    {method: {game: [score per seed]}}             the same of several methods

A CSV has one row per evaluation, and columns that `--map` names. Whatever does not hold what it
should is refused with file, key, what was got and what is wanted.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from reverie.documents import MAX_BYTES, from_json
from reverie.errors import ConfigError
from reverie.report.study import Curve, Facts
from reverie.report.tasks import benchmark, name_tasks
from reverie.report.trees import as_float, is_list, is_tree, short
from reverie.types import Array, Json

Unit = Literal["frames", "steps"]
COLUMNS = {
    "task": ("task", "env", "game"),
    "method": ("method", "algorithm", "algo"),
    "seed": ("seed",),
    "xs": ("xs", "env_steps", "step"),
    "ys": ("ys", "value", "return"),
}
"""What a row of a CSV holds, and the names of columns that are taken without a map."""
SUFFIXES = (".json", ".json.gz", ".csv")
FORMS = (
    "a list of {task, method, seed, xs, ys}, {steps: [...], score: {game: [[...]]}},"
    " {game: [scores]} or {method: {game: [scores]}}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """What the user says about sources that do not say it themselves."""

    metric: str | None = None
    """Of run folders, e.g. `eval/length`; None: the suite's own."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of CSV files: what -> name of its column."""
    unit: Unit | None = None
    """Of x in files that do not say."""
    at: float | None = None
    """Env steps at which scores without x were taken; None: the benchmark's."""
    allow_uneven: bool = False
    """Take score files whose tasks differ in seeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Raw:
    """A curve before its task is known and its x is counted in env steps."""

    task: str
    method: str
    seed: str
    xs: Array | None
    """None: a final score."""
    ys: Array
    unit: Unit | None
    where: str


def is_score_file(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def read_score_file(
    path: Path, shown: str, method: str | None, options: ReadOptions
) -> tuple[list[Curve], list[str]]:
    """Curves of one file and what was skipped; `shown` is its path as the user wrote it.

    `method` renames what the file holds; of several methods it goes before their names.

    Raises:
        ConfigError: in one line.
        OSError: it cannot be read.
    """
    notes: list[str] = []
    if path.name.endswith(".csv"):
        raws = _read_csv(path, shown, options, notes)
    else:
        raws = _read_json(path, shown)
    if not raws:
        raise ConfigError(f"{shown}: expected scores, got none")
    _refuse_torn_names(raws)
    if not options.allow_uneven:
        _refuse_uneven(raws, shown)
    names = name_tasks((raw.task for raw in raws), shown)
    methods = {raw.method for raw in raws}
    curves: list[Curve] = []
    for raw in raws:
        suite, task = names[raw.task]
        if method is not None:
            raw = replace(raw, method=method if len(methods) == 1 else f"{method}/{raw.method}")
        xs, facts = _env_steps(raw, suite, options)
        curves.append(
            Curve(
                task=task,
                suite=suite,
                method=raw.method,
                seed=raw.seed,
                xs=xs,
                ys=raw.ys,
                source=shown,
                facts=facts,
            )
        )
    return curves, notes


def _refuse_torn_names(raws: Iterable[_Raw]) -> None:
    """JSON can hold half of a character (a lone surrogate), which no file can."""
    for raw in raws:
        for name in (raw.task, raw.method, raw.seed):
            if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
                raise ConfigError(f"{raw.where!a}: expected names of text, got {name!a}")


def _refuse_uneven(raws: Iterable[_Raw], shown: str) -> None:
    """A finished file of scores whose tasks differ in seeds has most likely lost some."""
    seeds: dict[str, dict[str, int]] = {}
    for raw in raws:
        counts = seeds.setdefault(raw.method, {})
        counts[raw.task] = counts.get(raw.task, 0) + 1
    for method, counts in seeds.items():
        most = max(counts.values())
        few = {task: count for task, count in counts.items() if count < most}
        if few:
            told = ", ".join(f"{count} of {task}" for task, count in list(few.items())[:3])
            raise ConfigError(
                f"{shown}: {method}: expected {most} seeds of each task, got {told}; add the"
                " missing ones, or --allow-mixed"
            )


def _env_steps(raw: _Raw, suite: str | None, options: ReadOptions) -> tuple[Array, Facts]:
    """The curve's x in env steps, and what that says of the run."""
    bench = benchmark(suite)
    if raw.xs is None:
        at = options.at or bench.finals_at
        if at is None:
            raise ConfigError(
                f"{raw.where}: expected the env steps at which its scores were taken, got none;"
                " say --at STEPS"
            )
        return np.array([float(at)]), Facts()
    unit = raw.unit or options.unit
    if unit is None and bench.frames_differ:
        raise ConfigError(
            f"{raw.where}: expected x of {suite} in frames or in env steps, and it does not say;"
            f" add --unit frames (of which {bench.repeat} are a step) or --unit steps"
        )
    if unit == "frames":
        return raw.xs / bench.repeat, Facts(action_repeat=bench.repeat)
    return raw.xs, Facts()


# JSON


def _read_json(path: Path, shown: str) -> list[_Raw]:
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as file:
                tree = from_json(file.read(MAX_BYTES + 1))
        else:
            with path.open("rb") as file:
                tree = from_json(file.read(MAX_BYTES + 1))
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise ConfigError(f"{shown}: expected JSON, got {error}") from None
    method = path.name.removesuffix(".gz").removesuffix(".json")
    if is_list(tree):
        return [_listed(entry, f"{shown}: curve {n}", method) for n, entry in enumerate(tree, 1)]
    if not is_tree(tree):
        raise ConfigError(f"{shown}: expected {FORMS}, got {type(tree).__name__}")
    if "steps" in tree:
        return _steps_by_seeds(tree, shown, method)
    if tree and all(is_tree(games) for games in tree.values()):
        return [
            raw
            for name, games in tree.items()
            if is_tree(games)
            for raw in _finals(games, f"{shown}: {name}", name)
        ]
    return _finals(tree, shown, method)


def _listed(entry: Json, where: str, method: str) -> _Raw:
    """One of a list of curves."""
    if not is_tree(entry):
        raise ConfigError(f"{where}: expected {{task, method, seed, xs, ys}}, got {short(entry)}")
    for key in ("task", "xs", "ys"):
        if key not in entry:
            raise ConfigError(f"{where}: {key}: expected it, got only {', '.join(entry)}")
    task, seed = entry["task"], entry.get("seed", 0)
    where = f"{where} ({task}, seed {seed})"
    unit = entry.get("unit")
    if unit not in (None, "frames", "steps"):
        raise ConfigError(f"{where}: unit: expected frames or steps, got {unit!r}")
    return _checked(
        _Raw(
            task=str(task),
            method=str(entry.get("method", method)),
            seed=str(seed),
            xs=_numbers(entry["xs"], f"{where}: xs"),
            ys=_numbers(entry["ys"], f"{where}: ys"),
            unit=unit,
            where=where,
        )
    )


def _steps_by_seeds(tree: Mapping[str, Json], shown: str, method: str) -> list[_Raw]:
    steps = _numbers(tree["steps"], f"{shown}: steps")
    tables = [key for key, value in tree.items() if key != "steps" and is_tree(value)]
    if len(tables) != 1 and "score" not in tables:
        raise ConfigError(f"{shown}: expected `score` beside `steps`, got {', '.join(tree)}")
    key = "score" if "score" in tables else tables[0]
    games = tree[key]
    assert is_tree(games)
    raws: list[_Raw] = []
    for game, runs in games.items():
        place = f"{shown}: {key}.{game}"
        if not is_list(runs):
            raise ConfigError(f"{place}: expected a list of seeds, got {short(runs)}")
        for seed, ys in enumerate(runs):
            where = f"{place}[{seed}]"
            raw = _Raw(
                task=game,
                method=method,
                seed=str(seed),
                xs=steps,
                ys=_numbers(ys, where),
                unit="frames",
                where=where,
            )
            raws.append(_checked(raw))
    return raws


def _finals(games: Mapping[str, Json], where: str, method: str) -> list[_Raw]:
    raws: list[_Raw] = []
    for game, runs in games.items():
        if not is_list(runs):
            raise ConfigError(f"{where}: expected {FORMS}, got {game}: {short(runs)}")
        for seed, y in enumerate(_numbers(runs, f"{where}: {game}")):
            raws.append(
                _Raw(
                    task=game,
                    method=method,
                    seed=str(seed),
                    xs=None,
                    ys=np.array([y]),
                    unit=None,
                    where=where,
                )
            )
    return raws


def _numbers(values: Json, where: str) -> Array:
    """Finite numbers as float64 [N]."""
    if not is_list(values):
        raise ConfigError(f"{where}: expected a list of numbers, got {short(values)}")
    if not values:
        raise ConfigError(f"{where}: expected numbers, got an empty list")
    # The quick way first: a file has hundreds of thousands of them.
    if {type(value) for value in values} <= {int, float}:
        found: Array = np.array(values, np.float64)
        if np.isfinite(found).all():
            return found
    for index, value in enumerate(values):
        if as_float(value) is None:
            raise ConfigError(
                f"{where}[{index}]: expected a finite number, got {short(value)}; take it out"
            )
    return np.array([as_float(value) for value in values], np.float64)


def _checked(raw: _Raw) -> _Raw:
    """The curve, if each y has its x and x rises."""
    xs = raw.xs
    assert xs is not None
    if len(xs) != len(raw.ys):
        raise ConfigError(
            f"{raw.where}: expected as many ys as xs, got {len(raw.ys)} and {len(xs)}"
        )
    falls = np.flatnonzero(np.diff(xs) <= 0)
    if len(falls):
        at = int(falls[0]) + 1
        raise ConfigError(
            f"{raw.where}: xs[{at}]: expected more than {xs[at - 1]:g}, got {xs[at]:g}; sort the"
            " evaluations and keep one of each x"
        )
    if xs[0] < 0:
        raise ConfigError(f"{raw.where}: xs[0]: expected at least 0, got {xs[0]:g}")
    return raw


# CSV


def parse_map(text: str) -> dict[str, str]:
    """Read `task=env,xs=step`.

    Raises:
        ConfigError: not written like that.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals or not column or name.strip() not in COLUMNS:
            raise ConfigError(
                f"--map: expected {'|'.join(COLUMNS)}=COLUMN,..., got {part!r};"
                " e.g. task=env,xs=step,ys=return,method=algo"
            )
        columns[name.strip()] = column.strip()
    return columns


def _read_csv(path: Path, shown: str, options: ReadOptions, notes: list[str]) -> list[_Raw]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.reader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{shown}: expected CSV, got {error}") from None
    if not rows:
        raise ConfigError(f"{shown}: expected a line with the names of columns, got an empty file")
    header, *lines = rows
    places = _places(header, shown, options.columns)
    unit = "steps" if header[places["xs"]] == "env_steps" else None
    curves: dict[tuple[str, str, str], tuple[list[Json], list[Json], int]] = {}
    torn = 0
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        if len(line) < len(header) and number == len(rows):
            torn += 1
            continue
        if len(line) != len(header):
            raise ConfigError(
                f"{shown}: line {number}: expected {len(header)} columns, got {len(line)}"
            )
        method = line[places["method"]] if "method" in places else path.stem
        key = line[places["task"]], method, line[places["seed"]]
        xs, ys, _ = curves.setdefault(key, ([], [], number))
        for name, values in (("xs", xs), ("ys", ys)):
            values.append(_number(line[places[name]], shown, number, header[places[name]]))
    if torn:
        notes.append(f"{shown}: 1 torn line at the end was skipped.")
    return [
        _checked(
            _Raw(
                task=task,
                method=method,
                seed=seed,
                xs=_numbers(xs, f"{shown}: {task}, seed {seed}: xs"),
                ys=_numbers(ys, f"{shown}: {task}, seed {seed}: ys"),
                unit=unit,
                where=f"{shown}: from line {first} ({task}, {method}, seed {seed})",
            )
        )
        for (task, method, seed), (xs, ys, first) in curves.items()
    ]


def _places(header: Sequence[str], shown: str, columns: Mapping[str, str]) -> dict[str, int]:
    """Index of each column that is read."""
    places: dict[str, int] = {}
    for name, usual in COLUMNS.items():
        wanted: Iterable[str] = [columns[name]] if name in columns else usual
        found = next((column for column in wanted if column in header), None)
        if found is not None:
            places[name] = header.index(found)
        elif name != "method" or name in columns:
            lacking = columns.get(name, name)
            raise ConfigError(
                f"{shown}: expected a column {lacking!r} for {name}, got {', '.join(header)};"
                f" add --map {name}=COLUMN"
            )
    return places


def _number(text: str, shown: str, line: int, column: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(
            f"{shown}: line {line}: {column}: expected a finite number, got {text!r}; take it out"
        )
    return number
