"""What happened in a run so far, added up across resumes: progress, metrics, summary."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from reverie import evaluator
from reverie.checkpoint import Checkpoint
from reverie.config import TrainConfig
from reverie.documents import parse
from reverie.evaluator import EvalResult
from reverie.learner import TrainStats
from reverie.metrics import Axis
from reverie.run_manifest import Device
from reverie.types import Counters, EpisodeResult, JsonTree
from reverie.wiring import Events, Fault

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SummaryT = TypeVar("SummaryT", bound="DataclassInstance", covariant=True)


@dataclass(slots=True)
class UpdateProgress:
    """How far the updates of a run are; for the live line."""

    budget: int
    """Env steps; updates in pre-training."""
    grad_updates: int = 0
    trained_steps: int = 0
    started: float = field(default_factory=time.perf_counter)
    updates_at_start: int = 0
    faults: int = 0

    @property
    def done(self) -> int:
        """How much of the budget."""
        return self.grad_updates

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def updates_per_s(self) -> float:
        return (self.grad_updates - self.updates_at_start) / max(self.seconds, 1e-9)


ProgressT = TypeVar("ProgressT", bound=UpdateProgress)


@dataclass(slots=True)
class Progress(UpdateProgress):
    """How far a run is, and how it is doing; for the live line."""

    env_steps: int = 0
    episodes: int = 0
    steps_at_start: int = 0
    returns: deque[float] = field(default_factory=lambda: deque[float](maxlen=20))
    last_eval: EvalResult | None = None
    longest_episode: int = 0
    """Decisions."""

    @property
    def done(self) -> int:
        return self.env_steps

    @property
    def env_fps(self) -> float:
        """Env steps per second since this process started the run."""
        return (self.env_steps - self.steps_at_start) / max(self.seconds, 1e-9)

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present pace; None before the first steps."""
        left = self.budget - self.env_steps
        return left / self.env_fps if self.env_steps > self.steps_at_start else None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished run amounted to; also written to summary.json."""

    run: str
    env_steps: int
    env_frames: int
    grad_updates: int
    trained_steps: int
    episodes: int
    seconds: float
    score: float | None
    human_normalised: float | None
    best_score: float | None
    protocol: str
    eval_episodes: int
    train_return: float | None
    """Mean return of the last `train_episodes` training episodes."""
    train_episodes: int
    """At most 20, and of this process alone."""
    learner_idle_share: float
    """Share of the learner's time without a batch."""
    worker_idle_share: float
    """Share of the workers' time without a quota."""
    restarts: dict[str, int]
    lost_steps: int
    """Env steps granted to workers that died; they count as consumed."""
    lost_rows: int
    """Replay rows that were in no checkpoint when their shard died, or in a damaged file."""
    lost_updates: int
    """Updates since the last checkpoint when the learner died."""
    uncounted_steps: int
    """Env steps taken while nothing could be sampled; the ratio does not count them."""
    checkpoint: str
    tensorboard: str | None
    """Folder of its event files, if any were written."""
    videos: list[str]
    cut_episodes: int = 0
    """Of `eval_episodes` those that did not end by themselves, see `eval.max_steps`."""
    suite_scores: dict[str, float] = field(default_factory=dict[str, float])
    """The benchmark's own figures: `episode/<name>` over all episodes of training, `eval/<name>`
    of the last evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved:
    """What `RunRecord.to_json` returned."""

    progress: dict[str, int] = field(default_factory=dict[str, int])
    videos: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict[str, int])
    lost: dict[str, int] = field(default_factory=dict[str, int])
    time: dict[str, float] = field(default_factory=dict[str, float])
    scores: list[float] = field(default_factory=list[float])
    log_sums: dict[str, float] = field(default_factory=dict[str, float])


class RunRecord(ABC, Generic[ProgressT, SummaryT]):
    """Adds up what happens in a run of any kind, across resumes.

    Args:
        progress: how far the run is; what `KEPT` names is taken from the checkpoint.
    """

    KEPT: ClassVar[tuple[str, ...]] = ("grad_updates", "trained_steps", "faults")
    """Fields of the progress that a checkpoint keeps."""
    axis: ClassVar[Axis]
    """What curves are drawn over."""

    def __init__(self, progress: ProgressT, checkpoint: Checkpoint | None) -> None:
        old = parse(_Saved, checkpoint.document("record"), "record") if checkpoint else _Saved()
        self._old = old
        self.progress = progress
        for key in self.KEPT:
            setattr(progress, key, old.progress.get(key, 0))
        progress.updates_at_start = progress.grad_updates
        self.videos, self._seconds_before = old.videos, old.seconds
        self._restarts = old.restarts
        self._lost = {"rows": 0, "updates": 0} | old.lost
        self._time: dict[str, float] = {"learner_waited": 0.0, "learner_worked": 0.0} | old.time
        self._train: dict[str, float] = {}
        self.learner_device: Device | None = None
        """None before it has reported."""
        self._marked_at, self._marked_updates = time.perf_counter(), progress.grad_updates

    @property
    def learner_seconds(self) -> float:
        """Seconds the learner has worked, across resumes."""
        return self._time["learner_worked"]

    @property
    def seconds(self) -> float:
        """Seconds of the run, across resumes."""
        return self._seconds_before + self.progress.seconds

    @abstractmethod
    def counters(self) -> Counters: ...

    @abstractmethod
    def summary(
        self, facts: Mapping[str, int | float], folder: Path, checkpoint: int
    ) -> SummaryT: ...

    def counters_at(self, at: int) -> Counters:
        """The counters beside a learner's report of that moment."""
        return self.counters()

    def take(self, events: Events) -> None:
        """Count in what happened."""
        for stats in events.trained:
            self._take_trained(stats)
        for fault in events.faults:
            self._take_fault(fault)

    def pop_metrics(self) -> dict[str, float]:
        """Figures since the last call: the newest of training, rates, idle shares."""
        now, updates = time.perf_counter(), self.progress.grad_updates
        rate = (updates - self._marked_updates) / max(now - self._marked_at, 1e-9)
        metrics = {f"train/{k}": v for k, v in self._train.items()}
        metrics |= {"fps/updates": rate, "idle/learner": self._idle("learner")}
        metrics |= {f"faults/{role}_restarts": float(n) for role, n in self._restarts.items()}
        self._marked_at, self._marked_updates, self._train = now, updates, {}
        return metrics

    def to_json(self) -> JsonTree:
        """What a resumed run has to know."""
        return {
            "progress": {key: getattr(self.progress, key) for key in self.KEPT},
            "videos": self.videos,
            "seconds": self.seconds,
            "restarts": self._restarts,
            "lost": self._lost,
            "time": self._time,
        }

    def _idle(self, role: str) -> float:
        waited, worked = self._time[f"{role}_waited"], self._time[f"{role}_worked"]
        return waited / (waited + worked) if waited + worked else 0.0

    def _ends(self, folder: Path, checkpoint: int) -> dict[str, Any]:
        """Fields of every summary."""
        board = folder / "tensorboard"
        counters = self.counters()
        return {
            "run": str(folder),
            "grad_updates": counters.grad_updates,
            "trained_steps": counters.trained_steps,
            "seconds": self.seconds,
            "learner_idle_share": self._idle("learner"),
            "restarts": self._restarts,
            "lost_updates": self._lost["updates"],
            "checkpoint": str(folder / "checkpoints" / f"{checkpoint:08d}"),
            "tensorboard": str(board) if board.is_dir() else None,
            "videos": self.videos,
        }

    def _take_trained(self, stats: TrainStats) -> None:
        self.progress.grad_updates = stats.grad_updates
        self.progress.trained_steps = stats.trained_steps
        self._time["learner_waited"] += stats.waited_s
        self._time["learner_worked"] += stats.worked_s
        self._train |= stats.metrics
        self.learner_device = stats.device or self.learner_device

    def _take_fault(self, fault: Fault) -> None:
        self.progress.faults += 1
        if fault.restarted:
            self._restarts[fault.role] = self._restarts.get(fault.role, 0) + 1
        self._lost["updates"] += fault.lost_updates


class TrainRecord(RunRecord[Progress, Summary]):
    """Adds up what happens in a run that learns from an environment."""

    KEPT = (
        *("env_steps", "grad_updates", "trained_steps", "episodes", "faults"),
        "longest_episode",
    )
    axis = "env_steps"

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint | None) -> None:
        super().__init__(Progress(config.run.env_steps), checkpoint)
        self._config = config
        self.action_repeat = evaluator.action_repeat_of(config)
        self.progress.steps_at_start = self.progress.env_steps
        # Earlier versions kept what is not finite, too.
        self._scores = [score for score in self._old.scores if math.isfinite(score)]
        sums = self._old.log_sums
        self._log_sums = {k: total for k, total in sums.items() if math.isfinite(total)}
        self._time = {"worker_waited": 0.0, "worker_worked": 0.0} | self._time
        self._window: dict[str, list[float]] = {}
        self._marked_steps = self.progress.env_steps

    def take(self, events: Events) -> None:
        progress = self.progress
        for stats in events.collected:
            self._lost["rows"] += stats.lost_rows
            progress.env_steps += stats.env_steps
            progress.episodes += len(stats.episodes)
            self._time["worker_waited"] += stats.waited_s
            self._time["worker_worked"] += stats.worked_s
            for episode in stats.episodes:
                self._take_episode(episode)
        for result in events.evaluated:
            progress.last_eval = result
            self._scores.append(result.score)
        super().take(events)

    def counters(self) -> Counters:
        progress = self.progress
        return Counters(
            env_steps=progress.env_steps,
            env_frames=progress.env_steps * self.action_repeat,
            trained_steps=progress.trained_steps,
            grad_updates=progress.grad_updates,
            episodes=progress.episodes,
        )

    def pop_metrics(self) -> dict[str, float]:
        """Means of the episodes since the last call, besides."""
        steps = self.progress.env_steps
        seconds = max(time.perf_counter() - self._marked_at, 1e-9)
        metrics = {f"episode/{k}": float(np.mean(v)) for k, v in self._window.items()}
        if metrics:
            metrics |= self._training_scores()
        metrics["fps/env"] = (steps - self._marked_steps) / seconds
        metrics["idle/workers"] = self._idle("worker")
        self._window, self._marked_steps = {}, steps
        return metrics | super().pop_metrics()

    def to_json(self) -> JsonTree:
        return super().to_json() | {"scores": self._scores, "log_sums": self._log_sums}

    def summary(self, facts: Mapping[str, int | float], folder: Path, checkpoint: int) -> Summary:
        progress, last = self.progress, self.progress.last_eval
        env_steps = int(facts["env_steps"])
        return Summary(
            **self._ends(folder, checkpoint),
            env_steps=env_steps,
            env_frames=env_steps * self.action_repeat,
            episodes=progress.episodes,
            score=last.score if last else None,
            human_normalised=last.normalised if last else None,
            best_score=max(self._scores, default=None),
            protocol=last.protocol if last else "",
            eval_episodes=len(last.episodes) if last else 0,
            train_return=float(np.mean(progress.returns)) if progress.returns else None,
            train_episodes=len(progress.returns),
            worker_idle_share=self._idle("worker"),
            lost_steps=int(facts["lost_steps"]),
            lost_rows=self._lost["rows"],
            uncounted_steps=int(facts["uncounted_steps"]),
            cut_episodes=last.cut_episodes if last else 0,
            suite_scores=self._training_scores() | _evaluation_scores(last),
        )

    def _training_scores(self) -> dict[str, float]:
        """The benchmark's own figures over all episodes of training so far."""
        means = {k: total / self.progress.episodes for k, total in self._log_sums.items()}
        scores = evaluator.suite_scores(self._config, means)
        return {f"episode/{name}": value for name, value in scores.items()}

    def _take_episode(self, episode: EpisodeResult) -> None:
        self.progress.returns.append(episode.ret)
        self.progress.longest_episode = max(self.progress.longest_episode, episode.length)
        figures = {"return": episode.ret, "length": float(episode.length), **episode.logs}
        for name, value in figures.items():
            self._window.setdefault(name, []).append(value)
        for name, value in episode.logs.items():
            if math.isfinite(value):  # what is not is shown as missing and must not stay for good
                self._log_sums[name] = self._log_sums.get(name, 0.0) + value

    def _take_fault(self, fault: Fault) -> None:
        super()._take_fault(fault)
        if fault.role == "env_worker":
            self.progress.env_steps += fault.lost_steps
        if fault.role == "replay_shard":
            self._lost["rows"] += fault.lost_steps


def _evaluation_scores(last: EvalResult | None) -> dict[str, float]:
    return {f"eval/{k}": v for k, v in last.suite_scores.items()} if last else {}
