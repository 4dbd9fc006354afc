"""How each cell of a sweep is doing, from files alone, on any machine that sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from reverie.documents import json_text, parse, read_json
from reverie.errors import DocumentError
from reverie.lease import holders
from reverie.metrics import METRICS_FILE, parse_metrics
from reverie.storage import Storage
from reverie.tuning.cells import Cell
from reverie.tuning.sweep_folder import SweepFolder

SUMMARY_FILE = "summary.json"
TAIL = 32_768
"""Bytes at the end of a file that are read of a log or of metrics."""
SCORE = "eval/score"
Condition = Literal["done", "running", "waiting", "dead"]
CONDITIONS: tuple[Condition, ...] = ("done", "running", "waiting", "dead")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempts:
    """What became of a cell's processes; written by whoever starts them."""

    starts: int = 0
    failures: int = 0
    under_way: bool = False
    """The last one was started and nobody has seen its end."""
    code: int | None = None
    """What the last one ended with, -9 if signal 9 did it; None: nobody saw its end."""
    line: str = ""
    """The last line it said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellState:
    """One row of `status`."""

    cell: Cell
    condition: Condition
    """Dead: it began, is not done, and nobody writes its folder."""
    env_steps: int = 0
    score: float | None = None
    """Of its last evaluation."""
    eta_s: float | None = None
    attempts: Attempts = Attempts()
    note: str = ""
    """Of one that runs: where; of one that is dead: its last line; of one that waits: for whom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Summary:
    """What is looked at in a run's summary.json."""

    env_steps: int
    eval_episodes: int = 0
    score: float | None = None


def read_attempts(sweep: SweepFolder, cell: str) -> Attempts:
    path = sweep.state_file(cell)
    try:
        return parse(Attempts, read_json(path), str(path))
    except (FileNotFoundError, DocumentError, ValueError):
        return Attempts()


def write_attempts(sweep: SweepFolder, cell: str, attempts: Attempts) -> None:
    path = sweep.state_file(cell)
    Storage(str(path.parent)).write_atomic(path.name, json_text(asdict(attempts)).encode())


def forgive(sweep: SweepFolder, cell: str) -> None:
    """Let a cell fail as often as one that is new."""
    attempts = read_attempts(sweep, cell)
    if attempts.failures:
        write_attempts(sweep, cell, replace(attempts, failures=0))


def is_done(sweep: SweepFolder, cell: Cell) -> bool:
    """Whether a cell's run has spent its budget and was evaluated."""
    return _done(sweep.run_folder(cell.id), cell) is not None


def states(sweep: SweepFolder, cells: Sequence[Cell] | None = None) -> list[CellState]:
    """The state of every cell, or of `cells`, in order; waits only as `lease.holders` does."""
    cells = sweep.cells if cells is None else cells
    done = {cell.id: _done(sweep.run_folder(cell.id), cell) for cell in cells}
    left = [sweep.run_folder(cell.id) for cell in cells if done[cell.id] is None]
    held = holders([*left, sweep.path], sweep.path)
    is_driven = sweep.path in held
    found: list[CellState] = []
    for cell in cells:
        folder, summary = sweep.run_folder(cell.id), done[cell.id]
        attempts = read_attempts(sweep, cell.id)
        if summary is not None:
            found.append(
                CellState(
                    cell=cell,
                    condition="done",
                    env_steps=summary.env_steps,
                    score=summary.score,
                    attempts=attempts,
                )
            )
        elif folder in held:
            note = f"process {held[folder].pid} on {held[folder].host}"
            found.append(_unfinished(sweep, cell, attempts, "running", note))
        elif is_driven and attempts.under_way:
            found.append(_unfinished(sweep, cell, attempts, "running", "starting"))
        elif attempts.starts or folder.exists():
            line = attempts.line or last_line(sweep.log_file(cell.id))
            found.append(_unfinished(sweep, cell, attempts, "dead", line))
        else:
            note = ""
            if cell.after is not None and done.get(cell.after) is None:
                note = f"for {cell.after}"
            found.append(CellState(cell=cell, condition="waiting", attempts=attempts, note=note))
    return found


def last_line(path: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in _tail(path).decode(errors="replace").splitlines()]
    said = [line for line in lines if line]
    return said[-1].removeprefix("reverie: ")[:300] if said else ""


def repeated_steps(sweep: SweepFolder, cells: Iterable[Cell]) -> int:
    """Env steps that were taken again after a crash, as far as they had been logged before."""
    return sum(_repeated(sweep.run_folder(cell.id) / METRICS_FILE) for cell in cells)


def _repeated(path: Path) -> int:
    if not path.exists():
        return 0
    total, reached = 0, 0
    for row in parse_metrics(path)[0]:
        steps = row.get("env_steps")
        if not isinstance(steps, int):
            continue
        if row.get("event") == "resumed":
            total += max(0, reached - steps)
            reached = steps
        reached = max(reached, steps)
    return total


def _done(folder: Path, cell: Cell) -> _Summary | None:
    """The summary of a run that has spent its budget; one that never trained was not evaluated."""
    path = folder / SUMMARY_FILE
    try:
        summary = parse(_Summary, read_json(path), str(path))
    except (FileNotFoundError, DocumentError, ValueError):
        return None
    return summary if summary.env_steps >= cell.env_steps and summary.eval_episodes else None


def _unfinished(
    sweep: SweepFolder, cell: Cell, attempts: Attempts, condition: Condition, note: str
) -> CellState:
    steps, score, fps = 0, None, 0.0
    for row in _rows(sweep.run_folder(cell.id) / METRICS_FILE):
        steps = row.get("env_steps", steps)
        score = row.get(SCORE, score)
        fps = row.get("fps/env") or fps
    return CellState(
        cell=cell,
        condition=condition,
        env_steps=steps,
        score=score,
        eta_s=(cell.env_steps - steps) / fps if fps and condition == "running" else None,
        attempts=attempts,
        note=note,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    """The last whole rows of a metrics.jsonl."""
    found: list[dict[str, Any]] = []
    for line in _tail(path).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut by the tail or by a crash
        if isinstance(row, dict):
            found.append(cast(dict[str, Any], row))
    return found


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            return file.read()
    except FileNotFoundError:
        return b""
