"""What ends up in metrics.jsonl, TensorBoard and W&B, and what it costs the device."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reverie.metrics import MeanMetrics, MetricsLogger, read_metrics
from reverie.types import Counters

FRAMES = np.zeros((5, 8, 8, 3), np.uint8)


def at(env_steps: int, grad_updates: int = 0) -> Counters:
    return Counters(
        env_steps=env_steps,
        env_frames=4 * env_steps,
        trained_steps=10 * grad_updates,
        grad_updates=grad_updates,
        episodes=1,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def only_jsonl(folder: Path) -> MetricsLogger:
    return MetricsLogger(folder, tensorboard=False)


def test_one_line_per_write_readable_at_once(tmp_path: Path) -> None:
    logger = only_jsonl(tmp_path / "run")
    logger.write({"train/x": 1.5, "train/y": np.float32(2)}, at(10, 3))
    (line,) = lines(tmp_path / "run")
    assert line.pop("time") > 1.7e9
    assert line == {
        "env_steps": 10,
        "env_frames": 40,
        "trained_steps": 30,
        "grad_updates": 3,
        "episodes": 1,
        "train/x": 1.5,
        "train/y": 2.0,
    }
    logger.write({}, at(11))
    assert len(lines(tmp_path / "run")) == 2
    logger.close()


def test_non_finite_values_are_null_and_named(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.write({"b": math.nan, "a": -math.inf, "c": 1.0}, at(1))
    logger.close()
    (line,) = lines(tmp_path)
    assert line["nonfinite"] == ["a", "b"]
    assert [line[name] for name in "abc"] == [None, None, 1.0]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("name", ["time", "env_steps", "event", "nonfinite"])
def test_metric_named_like_a_column_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        only_jsonl(tmp_path).write({name: 1.0}, at(1))


def test_reading_drops_what_a_resume_superseded(tmp_path: Path) -> None:
    first = only_jsonl(tmp_path)
    for steps, value in ((10, 1), (20, 2), (30, 3)):
        first.write({"x": value}, at(steps, steps))
        first.write({"eval": value}, at(steps, steps))
    first.write({"late": 1}, at(20, 21))
    second = only_jsonl(tmp_path)
    second.resumed(at(20, 20))
    second.write({"x": 22}, at(20, 20))
    second.write({"x": 33}, at(30, 30))
    second.write({"x": 34}, at(30, 30))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["env_steps"], row.get("x"), row.get("eval")) for row in rows] == [
        (10, 1, None),
        (10, None, 1),
        (20, None, 2),
        (20, 22, None),
        (30, 33, None),
        (30, 34, None),
    ]
    assert len(lines(tmp_path)) == 11
    assert lines(tmp_path)[7]["event"] == "resumed"


def test_reading_after_two_resumes_keeps_the_last(tmp_path: Path) -> None:
    for value in (1, 2, 3):
        logger = only_jsonl(tmp_path)
        if value > 1:
            logger.resumed(at(10))
        logger.write({"x": value}, at(10))
        logger.write({"x": value}, at(20))
    only_jsonl(tmp_path).resumed(at(20))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["env_steps"], row["x"]) for row in rows] == [(10, 3), (20, 3)]


def test_a_run_that_begins_anew_supersedes_all_that_was_written(tmp_path: Path) -> None:
    only_jsonl(tmp_path).write({"x": 1}, at(0))
    second = only_jsonl(tmp_path)
    second.resumed(at(0))
    second.write({"y": 2}, at(0))
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row["y"] == 2


def test_a_line_without_its_counters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 3, "grad_updates": "two"}\n')
    with pytest.raises(ValueError, match="expected a number as grad_updates, got 'two'"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_torn_last_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    only_jsonl(tmp_path).write({"x": 1}, at(1))
    with path.open("ab") as file:
        file.write(b'{"time": 1.0, "env_st')
    assert [row["x"] for row in read_metrics(path)] == [1]
    assert "line 2 is incomplete (crash while writing) and was skipped" in caplog.text
    only_jsonl(tmp_path).write({"x": 2}, at(2))
    assert [row["x"] for row in read_metrics(path)] == [1, 2]


def test_full_disk_is_reported() -> None:
    from reverie.metrics import _LineFile

    with pytest.raises(OSError, match="No space left"):
        _LineFile(Path("/dev/full")).append({"x": 1})


class FakeWriter:
    made: list[FakeWriter]

    def __init__(self, folder: str, purge_step: int | None, flush_secs: int) -> None:
        self.folder, self.purge_step, self.calls = folder, purge_step, []
        FakeWriter.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.calls.append((name, value, step))

    def add_image(self, name: str, image: Any, step: int, dataformats: str) -> None:
        self.calls.append((name, image.shape, step, dataformats))

    def close(self) -> None:
        self.calls.append("closed")


@pytest.fixture
def fake_board(monkeypatch: pytest.MonkeyPatch) -> type[FakeWriter]:
    FakeWriter.made = []
    module = types.SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    return FakeWriter


def test_tensorboard_runs_over_env_steps(tmp_path: Path, fake_board: Any) -> None:
    logger = MetricsLogger(tmp_path)
    logger.write({"x": 1.0, "y": math.nan}, at(7, 3))
    logger.video("eval/dream", tmp_path / "v.mp4", FRAMES, at(8))
    logger.close()
    (writer,) = fake_board.made
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.calls == [("x", 1.0, 7), ("eval/dream", (8, 40, 3), 8, "HWC"), "closed"]
    assert lines(tmp_path)[-1]["path"] == str(tmp_path / "v.mp4")
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_tensorboard_hides_what_a_resume_superseded(tmp_path: Path, fake_board: Any) -> None:
    logger = MetricsLogger(tmp_path)
    logger.resumed(at(20))
    logger.write({"x": 1.0}, at(21))
    assert [writer.purge_step for writer in fake_board.made] == [21]


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.write({"x": 1.0}, at(1))
    logger.video("dream", tmp_path / "v.mp4", FRAMES, at(1))
    logger.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert file.stat().st_size > 100


def test_without_tensorboardx_there_is_jsonl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with caplog.at_level(logging.WARNING):
        logger = MetricsLogger(tmp_path)
    logger.write({"x": 1.0}, at(1))
    logger.video("dream", tmp_path / "v.mp4", FRAMES, at(1))
    logger.close()
    assert len(caplog.records) == 1
    assert 'pip install "reverie[tensorboard]"' in caplog.text
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


class FakeWandb:
    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.logged: list[Any] = []
        self.finished = 0

    def init(self, **kwargs: Any) -> FakeWandb:
        self.inits.append(kwargs)
        return self

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.logged.append((args, kwargs))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def Video(self, path: str) -> str:
        return f"video of {path}"

    def finish(self) -> None:
        self.finished += 1


def wandb_logger(folder: Path) -> MetricsLogger:
    return MetricsLogger(
        folder,
        tensorboard=False,
        wandb=True,
        wandb_project="project",
        run_name="name",
        config={"seed": 1},
    )


def test_wandb_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        logger = wandb_logger(tmp_path)
        logger.write({"x": 1.0}, at(5))
        logger.video("dream", tmp_path / "v.mp4", FRAMES, at(6))
        logger.close()
    ids = {init["id"] for init in fake.inits}
    assert ids == {(tmp_path / "wandb_id.txt").read_text()}
    first = fake.inits[0]
    assert (first["project"], first["name"], first["config"]) == ("project", "name", {"seed": 1})
    assert {init["resume"] for init in fake.inits} == {"allow"}
    assert (("*",), {"step_metric": "env_steps"}) in fake.logged
    assert {"x": 1.0, **vars_of(at(5))} in fake.logged
    assert {"dream": f"video of {tmp_path / 'v.mp4'}", **vars_of(at(6))} in fake.logged
    assert fake.finished == 2


def vars_of(counters: Counters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in counters.__slots__}


def test_missing_wandb_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r'pip install "reverie\[wandb\]"'):
        wandb_logger(tmp_path)


class NoHostReads(TorchDispatchMode):
    """Fails where a tensor's value is brought to the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), "a tensor was read"
        assert "_to_copy" not in str(func) or (kwargs or {}).get("device") is None
        return func(*args, **(kwargs or {}))


def test_means_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10, 3)).astype(np.float32)
    mean = MeanMetrics()
    for row in values:
        mean.add({"a": torch.tensor(row[0]), "b": torch.tensor(row[1:2]), "c": float(row[2])})
    popped = mean.pop()
    for name, wanted in zip("abc", values.mean(0), strict=True):
        assert popped[name] == pytest.approx(wanted, rel=1e-5)
    assert mean.pop() == {}


def test_means_of_names_that_come_now_and_then() -> None:
    mean = MeanMetrics()
    mean.add({"a": torch.tensor(1.0), "b": torch.tensor(True)})
    mean.add({"a": torch.tensor(2)})
    mean.add({"a": 6.0, "b": torch.tensor(0.0, dtype=torch.bfloat16)})
    assert mean.pop() == {"a": 3.0, "b": 0.5}


def test_adding_reads_nothing_and_keeps_no_graph_or_buffer() -> None:
    mean = MeanMetrics()
    value = torch.tensor(1.0, requires_grad=True)
    buffer = torch.tensor(5.0)
    with NoHostReads():
        for _ in range(3):
            mean.add({"a": value * 2, "b": buffer})
            buffer.add_(1)
    assert not any(total.requires_grad for total in mean._sums.values())
    assert mean.pop() == {"a": 2.0, "b": 6.0}


def test_metric_that_is_no_scalar_is_named() -> None:
    with pytest.raises(ValueError, match=r"'loss/x'.*\(2,\)"):
        MeanMetrics().add({"loss/x": torch.zeros(2)})
