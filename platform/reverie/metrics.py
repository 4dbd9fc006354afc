"""Figures of a run: metrics.jsonl always, TensorBoard and W&B beside it.

A line of metrics.jsonl is one JSON object: `time` (seconds since the epoch), the five counters,
and one number per metric. A value that is NaN or infinite is written as null and its name listed
under `nonfinite`. A line with `event` marks what happened (`resumed`, `video`) and holds no
metrics.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from reverie.documents import json_text
from reverie.names import identifier
from reverie.storage import naming
from reverie.types import Array, Counters, Json
from reverie.video import filmstrip

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
WANDB_ID_FILE = "wandb_id.txt"
STRIP_FRAMES = 8
COUNTERS = tuple(field.name for field in fields(Counters))
RESERVED = frozenset({"time", "event", "nonfinite", *COUNTERS})

Axis = Literal["env_steps", "grad_updates"]
"""The counter that curves are drawn over: updates in pre-training, which takes no env steps."""
Row = dict[str, float | str | list[str] | None]
"""One line."""
_Added = tuple["torch.device", tuple[str, ...]]
"""Metrics that were added together: their device and names."""


class _BoardWriter(Protocol):
    """`tensorboardX.SummaryWriter`."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> None: ...
    def add_image(self, tag: str, image: Array, step: int, /, *, dataformats: str) -> None: ...
    def close(self) -> None: ...


class _WandbRun(Protocol):
    """`wandb.Run`; values may be a `wandb.Video` as well, which has no type here."""

    def define_metric(self, name: str, /, *, step_metric: str | None = None) -> None: ...
    def log(self, values: Mapping[str, float], /) -> None: ...
    def finish(self) -> None: ...


class MetricsLogger:
    """Writes the metrics of one run; one process writes.

    Args:
        folder: the run folder; made if it is missing.
        tensorboard: also write event files to `<folder>/tensorboard`, if tensorboardX is there.
        wandb: also send to Weights & Biases, as the run whose id `<folder>/wandb_id.txt` keeps.
        config: plain nested dicts, shown by W&B.
        axis: what TensorBoard and W&B draw curves over.

    Raises:
        ImportError: W&B is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool = True,
        wandb: bool = False,
        wandb_project: str = "reverie",
        run_name: str | None = None,
        config: Mapping[str, Json] | None = None,
        axis: Axis = "env_steps",
    ) -> None:
        self._axis: Axis = axis
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = _LineFile(folder / METRICS_FILE)
        self._board = _TensorBoard(folder / "tensorboard", axis) if tensorboard else None
        self._wandb = None
        if wandb:
            self._wandb = _Wandb(folder, wandb_project, run_name, dict(config or {}), axis)

    def write(self, metrics: Mapping[str, float], counters: Counters) -> None:
        """Append one line and pass the figures on.

        Raises:
            ValueError: a metric named like a counter or `time`.
            OSError: the disk is full; no part of the line is then read as metrics.
        """
        if taken := sorted(RESERVED & metrics.keys()):
            raise ValueError(f"metrics: {taken} are columns of their own; use names like train/x")
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        row: Row = {**asdict(counters), **{name: finite.get(name) for name in values}}
        if len(finite) < len(values):
            row["nonfinite"] = sorted(values.keys() - finite.keys())
        self._lines.append(row)
        for sink in self._sinks():
            sink.write(finite, counters)

    def resumed(self, counters: Counters) -> None:
        """Mark that the run goes on from `counters`; what was written beyond is superseded.

        A run that begins anew, at no steps, supersedes all.
        """
        self._lines.append({"event": "resumed", **asdict(counters)})
        if self._board is not None:
            at = getattr(counters, self._axis)
            self._board.purge_from(at + 1 if at else 0)

    def video(self, name: str, path: Path, frames: Array, counters: Counters) -> None:
        """Show a video, written to `path` already: a filmstrip of `frames` uint8 [T, H, W, 3]."""
        self._lines.append({"event": "video", **asdict(counters), "name": name, "path": str(path)})
        for sink in self._sinks():
            sink.video(name, path, frames, counters)

    def close(self) -> None:
        """Flush and close everything; waits for W&B to send what is left."""
        self._lines.close()
        for sink in self._sinks():
            sink.close()

    def _sinks(self) -> list[_TensorBoard | _Wandb]:
        return [sink for sink in (self._board, self._wandb) if sink is not None]


class _LineFile:
    """Appends JSON lines, each with one write."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("ab", buffering=0)
        if _is_torn(path):
            with naming(path):
                self._file.write(b"\n")

    def append(self, row: Row) -> None:
        line = json_text({"time": time.time(), **row}).encode() + b"\n"
        with naming(self._path):
            written = self._file.write(line)
            if written == len(line):
                return
            self._file.write(b"\n")
        raise OSError(f"{self._path}: wrote {written} of {len(line)} bytes; disk full?")

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    """Event files over one counter; nothing but a logged line without tensorboardX."""

    def __init__(self, folder: Path, axis: Axis) -> None:
        self._folder, self._axis = folder, axis
        self._purge_step: int | None = None
        self._opened: _BoardWriter | None = None
        try:
            self._module = importlib.import_module("tensorboardX")
        except ImportError as error:
            logger.warning('no TensorBoard files (%s): pip install "reverie[tensorboard]"', error)
            self._module = None

    def purge_from(self, step: int) -> None:
        """Have TensorBoard hide what an earlier process wrote from `step` on."""
        self.close()
        self._purge_step = step

    def write(self, metrics: Mapping[str, float], counters: Counters) -> None:
        for writer in self._writers():
            for name, value in metrics.items():
                writer.add_scalar(_tag(name), value, getattr(counters, self._axis))

    def video(self, name: str, path: Path, frames: Array, counters: Counters) -> None:
        for writer in self._writers():
            strip = filmstrip(frames, STRIP_FRAMES)
            step = getattr(counters, self._axis)
            writer.add_image(_tag(name), strip, step, dataformats="HWC")

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _writers(self) -> Iterator[_BoardWriter]:
        """The writer, opened at its first use so that it knows what a resume supersedes."""
        if self._module is None:
            return
        writer = self._opened
        if writer is None:
            writer = self._opened = self._module.SummaryWriter(
                str(self._folder), purge_step=self._purge_step, flush_secs=30
            )
        yield writer


def _tag(name: str) -> str:
    """The tag of a metric: TensorBoard's names hold `.` at most, and two must not become one."""
    return identifier(name, plain="_-/", mark=".")


class _Wandb:
    """A W&B run over one counter; a resumed run goes on under its old id."""

    def __init__(
        self, folder: Path, project: str, name: str | None, config: dict[str, Json], axis: Axis
    ) -> None:
        try:
            self._module = importlib.import_module("wandb")
        except ImportError as error:
            raise ImportError(
                'logging.wandb: wandb is not installed; pip install "reverie[wandb]"'
            ) from error
        self._run: _WandbRun = self._module.init(
            project=project,
            name=name,
            id=_wandb_id(folder / WANDB_ID_FILE),
            resume="allow",
            config=config,
            dir=str(folder),
        )
        self._run.define_metric(axis)
        self._run.define_metric("*", step_metric=axis)

    def write(self, metrics: Mapping[str, float], counters: Counters) -> None:
        self._run.log({**metrics, **asdict(counters)})

    def video(self, name: str, path: Path, frames: Array, counters: Counters) -> None:
        self._run.log({name: self._module.Video(str(path)), **asdict(counters)})

    def close(self) -> None:
        self._run.finish()


class MeanMetrics:
    """Means over many updates, with the tensors left on their device until `pop`.

    An `add` costs one stack and one addition per device, and no transfer to the host.
    """

    def __init__(self) -> None:
        self._sums: dict[_Added, Tensor] = {}
        self._adds: dict[_Added, int] = {}
        self._floats: dict[str, tuple[float, int]] = {}

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Count in one value per name: a tensor with one element, or a number.

        Raises:
            ValueError: a tensor of more elements.
        """
        from torch import Tensor

        by_device: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in metrics.items():
            if not isinstance(value, Tensor):
                total, count = self._floats.get(name, (0.0, 0))
                self._floats[name] = total + float(value), count + 1
                continue
            if value.numel() != 1:
                raise ValueError(f"metric {name!r}: expected one element, got {tuple(value.shape)}")
            by_device.setdefault(value.device, {})[name] = value
        for device, values in by_device.items():
            self._add_tensors(device, values)

    def pop(self) -> dict[str, float]:
        """Mean per name since the last `pop`; waits for the device, with one transfer from it."""
        totals = dict(self._floats)
        for (_, names), values in self._read():
            for name, value in zip(names, values, strict=True):
                total, count = totals.get(name, (0.0, 0))
                totals[name] = total + value, count + self._adds[_, names]
        self._sums, self._adds, self._floats = {}, {}, {}
        return {name: total / count for name, (total, count) in totals.items()}

    def _add_tensors(self, device: torch.device, values: Mapping[str, Tensor]) -> None:
        import torch

        key = (device, tuple(values))
        with torch.no_grad():
            added = torch.stack([value.reshape(()).float() for value in values.values()])
            self._sums[key] = self._sums[key] + added if key in self._sums else added
        self._adds[key] = self._adds.get(key, 0) + 1

    def _read(self) -> Iterator[tuple[_Added, list[float]]]:
        """Bring the sums to the host, each device's in one piece."""
        for device in {device for device, _ in self._sums}:
            import torch

            keys = [key for key in self._sums if key[0] == device]
            flat: Array = torch.cat([self._sums[key] for key in keys]).cpu().numpy()
            for key in keys:
                yield key, [float(value) for value in flat[: len(key[1])]]
                flat = flat[len(key[1]) :]


def read_metrics(path: Path) -> list[Row]:
    """Read the rows of a metrics.jsonl that are still true, in order, events left out.

    Dropped are rows beyond the counters from which a later process resumed, rows that a later
    process wrote again (same position, same metrics), and torn lines.
    """
    rows, torn = parse_metrics(path)
    for number in torn:
        logger.warning(
            "%s: line %d is incomplete (crash while writing) and was skipped", path, number
        )
    return current_rows(rows)


def parse_metrics(path: Path) -> tuple[list[Row], list[int]]:
    """Every row of a metrics.jsonl or the like, events too, and the numbers of its torn lines."""
    rows: list[Row] = []
    torn: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                if line.strip():
                    torn.append(number)
                continue
            rows.append(row)
    return rows, torn


def current_rows(parsed: Iterable[Row]) -> list[Row]:
    """Those of `parse_metrics` that are still true: see `read_metrics`."""
    rows: list[tuple[int, Row]] = []
    process = 0
    for row in parsed:
        if row.get("event") == "resumed":
            process += 1
            rows = [(writer, old) for writer, old in rows if not _is_beyond(old, row)]
        elif "event" not in row:
            rows.append((process, row))
    last_writer = {_position(row): writer for writer, row in rows}
    return [row for writer, row in rows if writer == last_writer[_position(row)]]


def _is_beyond(row: Row, resumed: Row) -> bool:
    keys = ("env_steps", "grad_updates")
    begins_anew = not any(_count(resumed, key) for key in keys)
    return begins_anew or any(_count(row, key) > _count(resumed, key) for key in keys)


def _position(row: Row) -> tuple[float, float, frozenset[str]]:
    names = frozenset(row.keys() - RESERVED)
    return _count(row, "env_steps"), _count(row, "grad_updates"), names


def _count(row: Row, key: str) -> float:
    value = row.get(key)
    if not isinstance(value, int | float):
        raise ValueError(f"{METRICS_FILE}: expected a number as {key}, got {value!r}")
    return value


def _is_torn(path: Path) -> bool:
    """Whether the last line was cut short by a crash."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _wandb_id(path: Path) -> str:
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()
