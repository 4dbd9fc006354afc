"""The part `learn` of `gpu.py`: DreamerV3-2025 with HarmonyDream on Atari 100K, in one process.

One row per game with its curve: evaluations, and the return of every episode of training, by env
step. The run lies in `--out` with its checkpoints; a later call goes on from the newest one, and
what the curve holds beyond it is made again.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from typing import Any

PRESET = "tune_configs/harmonydream/atari100k_2025.yaml"
GAMES = ("pong", "boxing")
SETTINGS = (
    "algorithm.size=12m",
    "eval.every=20_000",
    "eval.episodes=5",
    "eval.envs=5",
    "eval.video=false",
    "logging.tensorboard=false",
    "run.checkpoint_every_s=100",
    "resources.learner_threads=4",
)
"""The preset's 200m at a size whose curve fits into minutes, and short evaluations."""
TINY = (
    "algorithm.size=1m",
    "algorithm.rssm.deter=32",
    "algorithm.rssm.units=8",
    "algorithm.encoder.depth=2",
    "algorithm.decoder.depth=2",
    "algorithm.horizon=2",
    "learner.batch_size=2",
    "learner.batch_length=4",
    "learner.training_ratio=1",
    "replay.chunk_length=8",
    "run.env_steps=80",
    "run.prefill=40",
    "eval.every=0",
    "resources.device=cpu",
    "resources.learner_threads=1",
)
SPARE_S = 25.0
"""Kept for the last checkpoint."""


def run_learn(options: argparse.Namespace, ledger: Any, deadline: Any) -> list[str]:
    """Train one game after the other, as far as the time reaches."""
    games = GAMES[:1] if options.dry_run else GAMES
    for game in games:
        if ledger.rows.get(game, {}).get("state") != "passed" and deadline.left() > 2 * SPARE_S:
            train(game, options, ledger, deadline)
    return [*games]


def train(game: str, options: argparse.Namespace, ledger: Any, deadline: Any) -> None:
    """Go on with one game's run; ends after a checkpoint."""
    from gpu import ROOT

    from reverie.config import load_config
    from reverie.trainer import Trainer

    folder = options.out.resolve() / ("gpu-runs-dry" if options.dry_run else "gpu-runs") / game
    settings = [f"env={env_of(game, options.dry_run)}", *SETTINGS, f"run.dir={folder}"]
    settings += [*(TINY if options.dry_run else ()), *options.set]
    begin = time.perf_counter()
    trainer = Trainer(load_config(ROOT / PRESET, settings), local=True, resume="auto")
    curve = Curve(game, settings, ledger, trainer, begin)
    try:
        finished, first = False, trainer.progress.grad_updates
        while not finished and deadline.left() > SPARE_S:
            events = trainer.step()
            finished = events.finished
            curve.take(events)
            if options.dry_run and trainer.progress.grad_updates - first >= 3:
                break
        if finished:
            curve.take(trainer.finish())
        trainer.save(go_on=False)
        curve.write("passed" if finished or options.dry_run else "begun")
    finally:
        trainer.close()


def env_of(game: str, dry_run: bool) -> str:
    """The game; a dry run does without the emulator where it is not installed."""
    if dry_run and importlib.util.find_spec("ale_py") is None:
        return "toy/catch"
    return f"atari100k/{game}"


class Curve:
    """One game's row: what evaluations and episodes returned so far."""

    def __init__(
        self, game: str, settings: list[str], ledger: Any, trainer: Any, begin: float
    ) -> None:
        self._game, self._ledger, self._trainer, self._begin = game, ledger, trainer, begin
        self._settings = [word for word in settings if not word.startswith("run.dir=")]
        before, at = ledger.rows.get(game, {}), trainer.progress.env_steps
        self._seconds_before = before.get("seconds", 0.0)
        self._calls = before.get("calls", 0) + 1
        self._evaluations = [p for p in before.get("evaluations", []) if p["env_steps"] <= at]
        self._episodes = [pair for pair in before.get("episodes", []) if pair[0] <= at]
        self._written = 0.0

    def take(self, events: Any) -> None:
        """Add what happened in one step; write now and then, and with each evaluation."""
        at = self._trainer.progress.env_steps
        for stats in events.collected:
            self._episodes += [[at, round(episode.ret, 3)] for episode in stats.episodes]
        for result in events.evaluated:
            point = {"env_steps": result.env_steps, "updates": result.grad_updates}
            point |= {"score": round(result.score, 3), "episodes": len(result.episodes)}
            point |= {"hns": result.normalised, "eval_s": round(result.seconds, 1)}
            self._evaluations.append(point | {"seconds": self._seconds()})
            print(f"  {self._game}: {self._evaluations[-1]}", flush=True)
        if events.evaluated or time.perf_counter() - self._written > 15:
            self.write("begun")

    def write(self, state: str) -> None:
        """Write the row."""
        self._written = time.perf_counter()
        progress = self._trainer.progress
        self._ledger.put(
            self._game,
            state=state,
            env_steps=progress.env_steps,
            updates=progress.grad_updates,
            seconds=self._seconds(),
            calls=self._calls,
            preset=PRESET,
            settings=self._settings,
            evaluations=self._evaluations,
            episodes=self._episodes,
        )

    def _seconds(self) -> float:
        return round(self._seconds_before + time.perf_counter() - self._begin, 1)
