"""Measures on this machine what a run takes: a few env steps and updates of its configuration.

Runs as a process of its own, so that its memory is that of a run: `python -m reverie.tuning.probe
CONFIG SECONDS` prints one JSON object.
"""

from __future__ import annotations

import dataclasses
import resource
import signal
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from reverie.config import TrainConfig, load_run_config
from reverie.documents import json_text
from reverie.stop_signals import StopSignals

ENV_STEPS, UPDATES = 200, 200
LONGER = 1_200
"""Env steps of the second try, where 200 hold nothing that can be sampled: longer than an episode
of the control suites."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What was measured."""

    env_steps: int
    updates: int
    env_step_s: float
    """Seconds of an env step that the policy takes, acting included."""
    update_s: float | None
    """Seconds of an update, the first ones included; None: nothing could be sampled."""
    trained_steps: float
    """Of an update, as the training ratio counts them."""
    peak_bytes: int
    """Resident memory at most."""
    rows: int
    """In the replay at the end."""
    row_bytes: float
    """Of a row in a chunk file, as it is kept on disk and, uncompressed, in memory."""
    checkpoint_bytes: int
    """Of a checkpoint without the replay."""


def probe(config: TrainConfig, seconds: float) -> Probe:
    """Run `ENV_STEPS` and then `UPDATES`, of the latter as many as fit in `seconds`."""
    found = _probe(config, ENV_STEPS, seconds)
    return found if found.updates else _probe(config, LONGER, seconds)


def _probe(config: TrainConfig, env_steps: int, seconds: float) -> Probe:
    from reverie.trainer import Trainer

    with tempfile.TemporaryDirectory(prefix="reverie-probe-") as folder:
        signals = StopSignals()
        trainer = Trainer(_short(config, env_steps, f"{folder}/run"), local=True, signals=signals)
        worked, learned, steps, updates, trained = 0.0, 0.0, 0, 0, 0
        timer = threading.Timer(seconds, lambda: setattr(signals, "first", signal.SIGALRM))
        timer.daemon = True
        timer.start()
        finished = False
        while not finished and signals.first is None:
            events = trainer.step()
            finished = events.finished
            for stats in events.collected:
                worked, steps = worked + stats.worked_s, steps + stats.env_steps
            for stats in events.trained:
                learned, updates = learned + stats.worked_s, max(updates, stats.grad_updates)
                trained = max(trained, stats.trained_steps)
        timer.cancel()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        trainer.save(go_on=False)
        trainer.close()
        replay, rest = (_bytes(Path(folder, "run", name)) for name in ("replay", "checkpoints"))
    return Probe(
        env_steps=steps,
        updates=updates,
        env_step_s=worked / max(steps, 1),
        update_s=learned / updates if updates else None,
        trained_steps=trained / max(updates, 1),
        peak_bytes=peak,
        rows=steps,
        row_bytes=replay / max(steps, 1),
        checkpoint_bytes=rest,
    )


def _short(config: TrainConfig, env_steps: int, folder: str) -> TrainConfig:
    """The configuration with a run of `env_steps` by the policy, then `UPDATES` at once."""
    run = dataclasses.replace(
        config.run,
        dir=folder,
        env_steps=env_steps,
        prefill=env_steps,
        prefill_actions="policy",
        checkpoint_every_s=1e9,
        log_every_s=1e9,
    )
    learner = dataclasses.replace(config.learner, pretrain=UPDATES)
    logging = dataclasses.replace(config.logging, wandb=False, tensorboard=False)
    init = type(config.init)()
    evaluation = dataclasses.replace(config.eval, every=0)
    return dataclasses.replace(
        config, run=run, learner=learner, logging=logging, init=init, eval=evaluation
    )


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    measured = probe(load_run_config(Path(sys.argv[1])), float(sys.argv[2]))
    sys.stdout.write(json_text(asdict(measured)) + "\n")
