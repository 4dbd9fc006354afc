"""What happened in a pre-training run so far, added up across resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reverie.checkpoint import Checkpoint
from reverie.run_record import RunRecord, UpdateProgress
from reverie.settings import PretrainConfig
from reverie.types import Counters
from reverie.wiring import Events

LOSS = "loss/"


@dataclass(slots=True)
class PretrainProgress(UpdateProgress):
    """How far a pre-training run is, and how it is doing; for the live line."""

    losses: dict[str, float] = field(default_factory=dict[str, float])
    """The newest of training, by name."""
    held_out: dict[str, float] = field(default_factory=dict[str, float])
    """The newest of clips that are held out."""

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present pace; None before the first updates."""
        left = self.budget - self.grad_updates
        return left / self.updates_per_s if self.grad_updates > self.updates_at_start else None


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainSummary:
    """What a finished pre-training run amounted to; also written to summary.json."""

    run: str
    grad_updates: int
    trained_steps: int
    """Frames: batch_size x batch_length per update."""
    seconds: float
    held_out: dict[str, float]
    """Figures of the last look at held-out clips, losses among them."""
    learner_idle_share: float
    """Share of the learner's time without a batch."""
    restarts: dict[str, int]
    lost_updates: int
    """Updates since the last checkpoint when the learner died; they were made again."""
    checkpoint: str
    tensorboard: str | None
    """Folder of its event files, if any were written."""
    videos: list[str]


class PretrainRecord(RunRecord[PretrainProgress, PretrainSummary]):
    """Adds up what happens in a run that learns from video."""

    axis = "grad_updates"

    def __init__(self, config: PretrainConfig, checkpoint: Checkpoint | None) -> None:
        super().__init__(PretrainProgress(config.run.updates), checkpoint)

    def take(self, events: Events) -> None:
        super().take(events)
        for stats in events.trained:
            self.progress.losses |= losses(stats.metrics)
            for report in stats.reports:
                self.progress.held_out = dict(report.metrics)

    def counters(self) -> Counters:
        progress = self.progress
        return Counters(grad_updates=progress.grad_updates, trained_steps=progress.trained_steps)

    def counters_at(self, at: int) -> Counters:
        """`at` is in updates, and may be behind what is made since."""
        per_update = self.progress.trained_steps // max(self.progress.grad_updates, 1)
        return Counters(grad_updates=at, trained_steps=at * per_update)

    def summary(
        self, facts: Mapping[str, int | float], folder: Path, checkpoint: int
    ) -> PretrainSummary:
        return PretrainSummary(**self._ends(folder, checkpoint), held_out=self.progress.held_out)


def losses(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of the metrics that are losses, by their names alone."""
    return {k.removeprefix(LOSS): value for k, value in metrics.items() if k.startswith(LOSS)}
