"""The report as files: page, JSON, Markdown, long CSV, score files."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reverie.documents import json_text
from reverie.errors import ConfigError
from reverie.lease import LEASE_FILE, FolderTaken, Lease
from reverie.report import page
from reverie.report.markdown import markdown
from reverie.report.study import Curve, Report, Study, Style
from reverie.report.table import is_own
from reverie.report.tasks import scores
from reverie.storage import Storage
from reverie.types import Array

PAGE_FILE = "index.html"
REPORT_FILE = "report.json"
"""By this file a folder is known as that of a report, which the next one may overwrite."""
COLUMNS = (
    *("task", "method", "seed", "env_steps", "value", "score", "metric", "updates", "hours"),
    *("protocol", "training_ratio", "budget", "action_repeat", "hardware", "marks", "source"),
)
"""Of the long-form CSV; empty where a source does not say."""


@contextmanager
def output_folder(
    folder: Path, option: str = "--out", known_by: str = REPORT_FILE
) -> Generator[Storage]:
    """Hold a folder for a report: a new one, an empty one, or that of an earlier report.

    `option` names the folder in errors, `known_by` the file by which an earlier one is known.

    Raises:
        ConfigError: it holds something else, or another process writes a report there.
        OSError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{option} {folder}: expected a folder, got a file")
    if folder.is_dir() and not (folder / known_by).exists():
        others = sorted(path.name for path in folder.iterdir() if LEASE_FILE not in path.name)
        if others:
            raise ConfigError(
                f"{option} {folder}: expected a new folder, an empty one or one of an earlier"
                f" report, got one in use ({', '.join(others[:3])}); choose another"
            )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lease = Lease(folder)
    except FolderTaken:
        raise ConfigError(
            f"{option} {folder}: another process writes a report there; wait for it or choose"
            " another"
        ) from None
    try:
        yield Storage(folder)
    finally:
        lease.release()


def write_files(
    storage: Storage, study: Study, report: Report, style: Style | None = None
) -> list[str]:
    """Write everything that is text; returns the names of the files.

    Raises:
        ConfigError: a method's colour is not `#rrggbb`.
    """
    texts = {
        REPORT_FILE: report_json(report),
        PAGE_FILE: page.write(report, style),
        "report.md": markdown(report),
        "curves.csv": curves_csv(study),
        "scores.json": score_list(study),
        "finals.json": final_scores(report),
    }
    for name, text in texts.items():
        storage.write_atomic(name, text.encode())
    return list(texts)


def report_json(report: Report) -> str:
    """The whole report, its fields by name, arrays as lists."""
    return json_text(_plain(asdict(report)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore
    if isinstance(value, np.ndarray):
        return [float(f"{number:.7g}") for number in value.tolist()]
    return value


def curves_csv(study: Study) -> str:
    """Every evaluation of every run, one per line, whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for curve in study.curves:
        own = scores(curve.suite, curve.task, curve.ys) if is_own(curve) else curve.ys
        facts = curve.facts
        # All but the numbers is the same in each line of a run, and quoted once.
        first = _quoted(_name(curve), curve.method, curve.seed)
        metric = _quoted(curve.metric)
        last = _quoted(
            facts.protocol,
            facts.training_ratio,
            facts.budget,
            facts.action_repeat,
            facts.hardware,
            "; ".join(facts.marks),
            curve.source,
        )
        columns = [_texts(curve.columns.get(name), len(own)) for name in ("updates", "hours")]
        numbers = zip(*map(_texts, (curve.xs, curve.ys, own)), *columns, strict=True)
        for x, y, score, updates, hours in numbers:
            text.write(f"{first},{x},{y},{score},{metric},{updates},{hours},{last}\n")
    return text.getvalue()


def _quoted(*cells: str | float | None) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _texts(values: Array | None, count: int = 0) -> list[str]:
    """Numbers as text that reads as the same numbers; empty where there are none."""
    return [""] * count if values is None else [repr(value) for value in values.tolist()]


def score_list(study: Study) -> str:
    """Every curve as {task, method, seed, xs, ys}; x in env steps, as `unit` says."""
    curves = [
        {
            "task": _name(curve),
            "method": curve.method,
            "seed": int(curve.seed) if curve.seed.isdigit() else curve.seed,
            "xs": curve.xs.tolist(),
            "ys": curve.ys.tolist(),
            "unit": "steps",
        }
        for curve in study.curves
    ]
    return json_text(curves)


def _name(curve: Curve) -> str:
    return curve.task if curve.suite is None else f"{curve.suite}/{curve.task}"


def final_scores(report: Report) -> str:
    """Values at the x of the tables as {method: {task: [value per seed]}}."""
    found: dict[str, dict[str, list[float]]] = {facts.method: {} for facts in report.methods}
    for panel in report.panels:
        for final in panel.finals:
            found[final.method][panel.task] = list(final.by_seed.values())
    return json_text(found, indent=1)
