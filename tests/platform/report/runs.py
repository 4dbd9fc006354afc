"""Run folders as a run leaves them, written line by line through the logger that runs use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.metrics import MetricsLogger
from reverie.types import Counters

CONFIG: dict[str, Any] = {
    "algorithm": {
        "name": "dreamerv3",
        "dialect": "2023",
        "size": "large",
        "harmony": {"mode": "off"},
    },
    "learner": {"training_ratio": 64.0},
    "resources": {"device": "cpu", "num_learners": 1},
    "run": {"env_steps": 400},
    "seed": 0,
    "env": {"suite": "atari100k", "task": "pong"},
}


def changed(**parts: Mapping[str, Any] | int) -> dict[str, Any]:
    """The configuration with sections laid over."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in parts.items():
        config[key] = {**config[key], **value} if isinstance(value, Mapping) else value
    return config


def make_run(
    folder: Path,
    scores: Mapping[int, float],
    *,
    finished: bool = True,
    repeat: int = 4,
    protocol: str = "atari100k-v1",
    metric: str = "eval/score",
    manifest: Mapping[str, Any] | None = None,
    **parts: Mapping[str, Any] | int,
) -> Path:
    """A run folder with evaluations by env steps; half an update per env step."""
    config = changed(**parts)
    logger = MetricsLogger(folder, tensorboard=False)
    for steps, score in scores.items():
        logger.write({metric: score}, counters(steps, repeat))
    logger.close()
    tree = {
        "started": "2026-11-01T00:00:00+00:00",
        "hardware": {"cpu": "AMD EPYC", "gpus": []},
        "protocol": protocol,
        "config": config,
        "resumed": [],
        **(manifest or {}),
    }
    (folder / "run_manifest.json").write_text(json.dumps(tree))
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    if finished:
        steps = config["run"]["env_steps"]
        summary = {"env_steps": steps, "seconds": 7200.0, "score": 1.0}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def counters(steps: int, repeat: int = 4) -> Counters:
    return Counters(
        env_steps=steps,
        env_frames=steps * repeat,
        trained_steps=steps * 32,
        grad_updates=steps // 2,
        episodes=1,
    )


def write_times(folder: Path, seconds: list[float]) -> None:
    """Set the times of a run's lines, in seconds from its start."""
    from datetime import UTC, datetime

    begin = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, second in zip(rows, seconds, strict=True):
        row["time"] = begin + second
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
