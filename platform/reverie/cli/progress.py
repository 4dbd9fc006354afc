"""What a person sees while a run goes on, and at its end."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeGuard

import numpy as np

from reverie.pretrain_record import PretrainProgress, PretrainSummary, losses
from reverie.run_record import Progress, Summary

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

PLAIN_EVERY_S = 10.0
"""Seconds between two lines where the output is no terminal."""
LEARNED_UPDATES = (692, 1489)
"""Fewest and most updates until a plain preset on toy/catch scored 0.8, over all seeds that were
measured (`benchmarks/results/learning-*-catch*.json`).
"""
LEARNS_SOON = "reverie train dreamerv2/catch --local run.env_steps=1600"
"""Scores 1 on toy/catch within about four minutes on a CPU."""


class ProgressLine:
    """A live line on a terminal; a plain line now and then elsewhere (or without rich)."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._next_plain = 0.0

    def __enter__(self) -> ProgressLine:
        if sys.stdout.isatty():
            plain = sys.stderr
            self._live = _make_live()
            move_log(plain, sys.stderr)  # which now prints above the live line
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            above = sys.stderr
            self._live.stop()
            move_log(above, sys.stderr)

    def show(self, progress: Progress | PretrainProgress) -> None:
        """Show how far the run is; cheap enough to call at every step."""
        if self._live is not None:
            self._live.update(_live_text(progress))
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_EVERY_S
            print(progress_text(progress), flush=True)


def progress_text(progress: Progress | PretrainProgress) -> str:
    """One line: share, how far it is, time left, rates, what it is worth so far."""
    if isinstance(progress, PretrainProgress):
        return _pretrain_text(progress)
    share = progress.env_steps / progress.budget
    parts = [
        f"{share:4.0%}  {progress.env_steps:,}/{progress.budget:,} env steps",
        *([f"eta {_duration(progress.eta_s)}"] if progress.eta_s is not None else []),
        f"{progress.env_fps:.1f} steps/s",
        f"{progress.grad_updates:,} updates ({progress.updates_per_s:.2f}/s)",
    ]
    if progress.returns:
        mean = float(np.mean(progress.returns))
        parts.append(f"return {progress.returns[-1]:.2f} (mean of last 20: {mean:.2f})")
    if progress.last_eval is not None:
        parts.append(f"eval {progress.last_eval.score:.2f}")
    if progress.faults:
        parts.append(f"recovered from {counted(progress.faults, 'fault')}")
    return " | ".join(parts)


def _pretrain_text(progress: PretrainProgress) -> str:
    share = progress.grad_updates / progress.budget
    parts = [
        f"{share:4.0%}  {progress.grad_updates:,}/{progress.budget:,} updates",
        *([f"eta {_duration(progress.eta_s)}"] if progress.eta_s is not None else []),
        f"{progress.updates_per_s:.2f} updates/s",
        *(f"{name} {value:.2f}" for name, value in progress.losses.items()),
        *(f"held-out {name} {value:.2f}" for name, value in losses(progress.held_out).items()),
    ]
    if progress.faults:
        parts.append(f"recovered from {counted(progress.faults, 'fault')}")
    return " | ".join(parts)


def summary_text(summary: Summary | PretrainSummary) -> str:
    """The end of a run, for a terminal."""
    if isinstance(summary, PretrainSummary):
        return _rows_text(_pretrain_rows(summary))
    return _rows_text(_train_rows(summary))


def _pretrain_rows(summary: PretrainSummary) -> dict[str, str]:
    run = shlex.quote(summary.run)
    return {
        **{f"held-out {k}": f"{value:.2f}" for k, value in losses(summary.held_out).items()},
        "updates": f"{summary.grad_updates:,} ({counted(summary.trained_steps, 'frame')})",
        "time": _duration(summary.seconds),
        "idle": f"learner {summary.learner_idle_share:.0%}",
        "recovered faults": _pretrain_faults(summary),
        "checkpoint": summary.checkpoint,
        "TensorBoard": _board(summary.tensorboard),
        "imagined | real": summary.videos[-1] if summary.videos else "no video",
        "next": f"reverie train CONFIG init.from={run}",
    }


def _pretrain_faults(summary: PretrainSummary) -> str:
    if not summary.restarts:
        return "none"
    counts = ", ".join(f"{role} {count}" for role, count in sorted(summary.restarts.items()))
    return f"{counts}; {counted(summary.lost_updates, 'update')} made again"


def _board(folder: str | None) -> str:
    return f"tensorboard --logdir {shlex.quote(folder)}" if folder else "no files"


def _train_rows(summary: Summary) -> dict[str, str]:
    rows = {
        "score": _score(summary),
        "training return": _training(summary),
        **{name: f"{value:.2f}" for name, value in summary.suite_scores.items()},
        "env steps": f"{summary.env_steps:,} ({counted(summary.env_frames, 'frame')}, "
        f"{counted(summary.episodes, 'episode')})",
        "updates": f"{summary.grad_updates:,} ({counted(summary.trained_steps, 'trained step')})",
        "time": _duration(summary.seconds),
        "idle": f"learner {summary.learner_idle_share:.0%}, "
        f"workers {summary.worker_idle_share:.0%}",
        "recovered faults": _faults(summary),
        "checkpoint": summary.checkpoint,
        "TensorBoard": _board(summary.tensorboard),
        "imagined | real": summary.videos[-1] if summary.videos else "no video",
        "next": f"reverie eval {shlex.quote(summary.run)} --video",
    }
    if is_short(summary):
        few, many = LEARNED_UPDATES
        rows["short run"] = (
            f"toy/catch took {few:,} to {many:,} updates to learn; see it in four minutes:"
        )
        rows[""] = LEARNS_SOON
    return rows


def _rows_text(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(["", *(f"  {key:{width}}  {value}" for key, value in rows.items())])


def is_short(summary: Summary) -> bool:
    """Whether a run was too short to expect a score of it, and has none: fewer updates than some
    seed of toy/catch, the easiest task from pixels, and less than half way from random to human
    play (where the suite says what these are).
    """
    score = summary.human_normalised
    return summary.grad_updates < LEARNED_UPDATES[1] and (score is None or score < 0.5)


def _score(summary: Summary) -> str:
    if summary.score is None:
        return "not evaluated"
    text = (
        f"{summary.score:.2f} over {counted(summary.eval_episodes, 'episode')} ({summary.protocol})"
    )
    if summary.cut_episodes:
        text += f", {summary.cut_episodes} of them cut off (eval.max_steps)"
    if summary.human_normalised is not None:
        text += f", human-normalised {summary.human_normalised:.3f}"
    return text


def _faults(summary: Summary) -> str:
    if not summary.restarts:
        return "none"
    counts = ", ".join(f"{role} {count}" for role, count in sorted(summary.restarts.items()))
    return (
        f"{counts}; lost: {counted(summary.lost_steps, 'env step')}, "
        f"{counted(summary.lost_rows, 'replay row')}, {counted(summary.lost_updates, 'update')}"
    )


def counted(number: int, noun: str) -> str:
    """`1 episode`, `20 episodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _training(summary: Summary) -> str:
    if summary.train_return is None:
        return "no episode ended"
    last = summary.train_episodes
    over = f"mean of the last {last} episodes" if last > 1 else "1 episode"
    return f"{summary.train_return:.2f} ({over})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def move_log(old: TextIO, new: TextIO) -> None:
    """Point the root logger's handlers that write to `old` at `new`."""
    for handler in logging.getLogger().handlers:
        if _writes_to(handler, old):
            handler.setStream(new)


def _writes_to(
    handler: logging.Handler, stream: TextIO
) -> TypeGuard[logging.StreamHandler[TextIO]]:
    return getattr(handler, "stream", None) is stream


def _make_live() -> Live | None:
    try:
        from rich.live import Live
    except ImportError:
        return None
    live = Live("starting ...", refresh_per_second=4)
    live.start()
    return live


def _live_text(progress: Progress | PretrainProgress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=24)
    grid.add_column()
    bar = ProgressBar(total=progress.budget, completed=progress.done, width=24)
    grid.add_row(bar, progress_text(progress))
    return grid
