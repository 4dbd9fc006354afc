"""Scores the newest checkpoint of a run folder: `reverie eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reverie import evaluator
from reverie.config import load_config
from reverie.env_factory import derive_seed
from reverie.policy import config_file, make_agent, newest_checkpoint, policy_arrays, read_spaces
from reverie.protocols import Mode
from reverie.types import Counters
from reverie.video import write_video


def evaluate_run(
    run: Path, episodes: int | None, mode: Mode | None, *, video: bool
) -> dict[str, Any]:
    """Play the protocol's episodes (or `episodes`) and append the score to evaluations.jsonl.

    Raises:
        FileNotFoundError: no run folder, or no checkpoint in it yet.
    """
    config, spaces = load_config(config_file(run)), read_spaces(run)
    checkpoint = newest_checkpoint(run)
    agent = make_agent(config, spaces, seed=derive_seed(config.seed, 5), training=False)
    agent.load_policy_state(policy_arrays(checkpoint))
    progress = checkpoint.document("record")["progress"]
    counters = Counters(env_steps=progress["env_steps"], grad_updates=progress["grad_updates"])
    result = evaluator.score(config, agent, counters, episodes=episodes, mode=mode, record=video)
    found: dict[str, Any] = {
        "run": str(run),
        "checkpoint": checkpoint.number,
        "env_steps": result.env_steps,
        "grad_updates": result.grad_updates,
        "protocol": result.protocol,
        "score": result.score,
        "human_normalised": result.normalised,
        "returns": [episode.ret for episode in result.episodes],
        **result.metrics(),
    }
    with (run / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps(found) + "\n")
    if video:
        found["videos"] = [
            str(
                write_video(
                    run / "videos" / f"episode_{key}-{result.env_steps:08d}.mp4", frames, 30
                )
            )
            for key, frames in result.video.items()
        ]
    return found
