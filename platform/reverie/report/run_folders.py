"""Run folders as curves: evaluations of metrics.jsonl and evaluations.jsonl, with what the
manifest, the configuration and the summary say of the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from reverie.config_tree import expand_env, read_one_yaml
from reverie.documents import read_json
from reverie.errors import ConfigError
from reverie.metrics import METRICS_FILE, RESERVED, Row, current_rows, parse_metrics
from reverie.report.study import AxisName, Curve, Facts
from reverie.report.sweeps import named
from reverie.report.tasks import benchmark, name_task
from reverie.report.trees import Tree, as_float, is_tree, section
from reverie.types import Array

CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "run_manifest.json"
SUMMARY_FILE = "summary.json"
EVALUATIONS_FILE = "evaluations.jsonl"
DEBUG_SIZES = ("tiny", "debug", "small")
"""Sizes of networks that no publication uses."""
_Point = tuple[float, float, float, float | None]
"""Env steps, value, updates, hours."""


@dataclass(frozen=True, slots=True)
class NoMetric:
    """A run that does not report what was asked for, and what it does report."""

    metric: str
    reported: tuple[str, ...]


def is_run_folder(path: Path) -> bool:
    return (path / METRICS_FILE).is_file() or (path / MANIFEST_FILE).is_file()


def run_folders(path: Path) -> Iterator[Path]:
    """`path` if it is a run folder, else all below it, by name; nothing within one is looked at."""
    for folder, names, _ in os.walk(path):
        if is_run_folder(Path(folder)):
            names.clear()
            yield Path(folder)
        names.sort()


def read_run(
    path: Path, shown: str, method: str | None, metric: str | None
) -> tuple[Curve | NoMetric, list[str]]:
    """The curve of a run folder and what was skipped in it.

    `method` is its name, by default what its sweep calls it, else the algorithm's;
    `metric` a name in metrics.jsonl, with
    or without `eval/`.

    Raises:
        ConfigError: a file that does not hold what a run writes there, in one line.
        OSError: one cannot be read.
    """
    manifest = _read_tree(path / MANIFEST_FILE, shown)
    config = _config(path, shown, manifest)
    suite, task = _task(config, shown)
    bench = benchmark(suite)
    name = metric or f"eval/{bench.metric}"
    notes: list[str] = []
    rows, parsed = _rows(path, shown, notes)
    hours = _hours(parsed, manifest)
    if metric and "/" not in metric:
        name = f"eval/{metric}"
    points, bad = _points(rows, name, hours)
    if name.startswith("eval/"):
        points |= _later(path, shown, name, manifest, points, notes)
    if bad:
        notes.append(f"{shown}: {bad} values of {name} are not finite and were skipped.")
    if not points:
        reported = {key for row in rows for key in row if key not in RESERVED}
        return NoMetric(name, tuple(sorted(reported))), notes
    if method is None and (found := named(path)) is not None:
        method = found.method(method_of(config))
    return _curve(points, task, suite, method, shown, name, config, manifest, path, rows), notes


def _curve(
    points: Mapping[float, _Point],
    task: str,
    suite: str,
    method: str | None,
    shown: str,
    metric: str,
    config: Tree,
    manifest: Tree,
    path: Path,
    rows: list[Row],
) -> Curve:
    table = [points[step] for step in sorted(points)]
    xs, ys, updates = (np.array([point[i] for point in table], float) for i in range(3))
    columns: dict[AxisName, Array] = {"updates": updates}
    facts = _facts(config, manifest, _read_tree(path / SUMMARY_FILE, shown), rows)
    hours = [point[3] for point in table]
    if None not in hours:
        columns["hours"] = np.array(hours, float)
        if facts.gpu_hours and facts.hours:
            columns["gpu_hours"] = columns["hours"] * (facts.gpu_hours / facts.hours)
    return Curve(
        task=task,
        suite=suite,
        method=method or method_of(config),
        seed=str(config.get("seed", 0)),
        xs=xs,
        ys=ys,
        source=shown,
        metric=metric,
        facts=facts,
        columns=columns,
    )


def method_of(config: Tree) -> str:
    """Algorithm, dialect and whether its losses are harmonised: `dreamerv3-2023+harmony`."""
    algorithm = section(config, "algorithm")
    name, dialect = str(algorithm.get("name")), algorithm.get("dialect")
    mode = section(algorithm, "harmony").get("mode", "off")
    return (
        name + (f"-{dialect}" if dialect else "") + ("" if mode in ("off", False) else "+harmony")
    )


# Files


def _config(path: Path, shown: str, manifest: Tree) -> Tree:
    """The configuration; the manifest's copy, which reads faster, where no resume changed it."""
    copied = manifest.get("config")
    if is_tree(copied) and not manifest.get("resumed"):
        return copied
    if not (path / CONFIG_FILE).exists():
        raise ConfigError(f"{shown}: expected {CONFIG_FILE} in a run folder, got none")
    return read_one_yaml(path / CONFIG_FILE)


def _task(config: Tree, shown: str) -> tuple[str, str]:
    if "data" in config and "env" not in config:
        raise ConfigError(f"{shown}: it learned from video and has no score to compare")
    env = expand_env(config.get("env")) or {}
    if env.get("factory"):
        env = {**env, "suite": "factory", "task": env["factory"]}
    if "suite" not in env or "task" not in env:
        raise ConfigError(f"{shown}: {CONFIG_FILE}: env: expected suite and task, got {[*env]}")
    suite = str(env["suite"])
    return suite, name_task(suite, str(env["task"]))


def _read_tree(path: Path, shown: str) -> Tree:
    """A JSON object; empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        tree = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{shown}/{path.name}: expected JSON, got {error}") from None
    if not is_tree(tree):
        raise ConfigError(f"{shown}/{path.name}: expected an object, got {type(tree).__name__}")
    return tree


def _rows(path: Path, shown: str, notes: list[str]) -> tuple[list[Row], list[Row]]:
    """Rows of metrics.jsonl that still hold, and all of them with events."""
    file = path / METRICS_FILE
    if not file.exists():
        return [], []
    parsed = _parsed(file, shown, notes)
    try:
        return current_rows(parsed), parsed
    except ValueError as error:
        raise ConfigError(f"{shown}: {error}") from None


def _parsed(file: Path, shown: str, notes: list[str]) -> list[Row]:
    parsed, torn = parse_metrics(file)
    if torn:
        lines = ", ".join(map(str, torn[:5])) + (", ..." if len(torn) > 5 else "")
        what = "1 torn line was" if len(torn) == 1 else f"{len(torn)} torn lines were"
        notes.append(f"{shown}/{file.name}: {what} skipped (line {lines}).")
    for number, row in enumerate(parsed, 1):
        if not is_tree(row):
            raise ConfigError(f"{shown}/{file.name}: row {number}: expected an object, got {row!r}")
    return parsed


# Points


def _points(
    rows: list[Row], name: str, hours: Mapping[int, float]
) -> tuple[dict[float, _Point], int]:
    """The metric by env steps, the last where it was written twice; and how often it was null."""
    points: dict[float, _Point] = {}
    bad = 0
    for row in rows:
        if name not in row:
            continue
        value = as_float(row[name])
        if value is None:
            bad += 1
            continue
        steps = _number(row, "env_steps")
        points[steps] = (steps, value, _number(row, "grad_updates"), hours.get(id(row)))
    return points, bad


def _later(
    path: Path,
    shown: str,
    name: str,
    manifest: Tree,
    points: Mapping[float, _Point],
    notes: list[str],
) -> dict[float, _Point]:
    """What `reverie eval` added under the run's protocol, where the run has none itself."""
    if not (path / EVALUATIONS_FILE).exists():
        return {}
    found: dict[float, _Point] = {}
    other = 0
    for row in _parsed(path / EVALUATIONS_FILE, shown, notes):
        value = as_float(row.get(name))
        if value is None:
            continue
        if row.get("protocol") != manifest.get("protocol"):
            other += 1
            continue
        steps = _number(row, "env_steps")
        if steps not in points:
            found[steps] = (steps, value, _number(row, "grad_updates"), None)
    if other:
        notes.append(
            f"{shown}/{EVALUATIONS_FILE}: {other} evaluations under another protocol were left out."
        )
    return found


def _hours(parsed: list[Row], manifest: Tree) -> dict[int, float]:
    """Hours of work up to each row, by its identity: pauses before a resume do not count."""
    started = manifest.get("started")
    if not isinstance(started, str):
        return {}
    begin, before, last = datetime.fromisoformat(started).timestamp(), 0.0, None
    hours: dict[int, float] = {}
    for row in parsed:
        now = _number(row, "time")
        if row.get("event") == "resumed" and last is not None:
            before, begin = before + last - begin, now
        last = now
        hours[id(row)] = max(before + now - begin, 0.0) / 3600
    return hours


def _number(row: Row, key: str) -> float:
    return as_float(row.get(key)) or 0.0


# Facts


def _facts(config: Tree, manifest: Tree, summary: Tree, rows: list[Row]) -> Facts:
    last: Row = rows[-1] if rows else {}
    steps, updates = _number(last, "env_steps"), _number(last, "grad_updates")
    frames = _number(last, "env_frames")
    budget = as_float(section(config, "run").get("env_steps"))
    finished = (
        bool(summary) and budget is not None and (as_float(summary.get("env_steps")) or 0) >= budget
    )
    seconds = as_float(summary.get("seconds")) if finished else _seconds(rows, manifest)
    hours = seconds / 3600 if seconds is not None else None
    hardware, gpus = _hardware(config, manifest)
    return Facts(
        protocol=str(manifest["protocol"]) if manifest.get("protocol") else None,
        training_ratio=as_float(section(config, "learner").get("training_ratio")),
        updates_per_env_step=updates / steps if steps else None,
        hardware=hardware,
        budget=None if budget is None else int(budget),
        action_repeat=round(frames / steps) if steps else None,
        finished=finished,
        hours=hours,
        gpu_hours=hours * gpus if hours is not None and gpus else None,
        marks=_marks(config, finished),
    )


def _seconds(rows: list[Row], manifest: Tree) -> float | None:
    hours = _hours(rows, manifest)
    return max(hours.values()) * 3600 if hours else None


def _marks(config: Tree, finished: bool) -> tuple[str, ...]:
    marks = [] if finished else ["unfinished"]
    if section(config, "env").get("quality") == "fast":
        marks.append("quality: fast")
    size = section(config, "algorithm").get("size")
    if size in DEBUG_SIZES:
        marks.append(f"debug size: {size}")
    return tuple(marks)


def _hardware(config: Tree, manifest: Tree) -> tuple[str | None, int]:
    """What the learner ran on, and how many GPUs that were."""
    resources = section(config, "resources")
    learners = int(as_float(resources.get("num_learners")) or 1)
    learner = section(manifest, "learner")
    if device := learner.get("device"):
        name = str(device) if learner.get("gpu") else f"CPU: {device}"
        gpus = learners if learner.get("gpu") else 0
        return (f"{gpus} x {name}" if gpus > 1 else name), gpus
    hardware = section(manifest, "hardware")
    if resources.get("device") == "cpu":
        return f"CPU: {hardware.get('cpu') or 'unknown'}", 0
    return None, 0
