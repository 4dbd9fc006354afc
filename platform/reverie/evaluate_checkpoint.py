"""Scores the newest checkpoint of a run folder and films it: `reverie eval`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from reverie import evaluator, wiring
from reverie.agent_actor import make_agent_actor
from reverie.batch_stream import Assembler, Batch
from reverie.checkpoint import Checkpoint, CheckpointError
from reverie.config import TrainConfig, load_run_config
from reverie.documents import json_text, with_nulls
from reverie.evaluator import EvalResult
from reverie.paths import place, short
from reverie.policy import (
    POLICY_FILE,
    acting_config_file,
    find_checkpoint,
    load_learner,
    load_policy,
    make_agent,
    read_spaces,
)
from reverie.policy_learner import stream_specs
from reverie.protocols import Mode, StreamSpec, Videos
from reverie.seeds import LEARNING, SCORING, derive_seed
from reverie.types import Counters, JsonTree, Spaces, Window
from reverie.video import IMAGINED_FPS, write_run_video

log = logging.getLogger(__name__)
EPISODE_FPS = 30


def evaluate_checkpoint(
    run: Path,
    episodes: int | None,
    mode: Mode | None,
    *,
    video: bool,
    number: int | None = None,
) -> JsonTree:
    """Play the protocol's episodes (or `episodes`) and append the score to evaluations.jsonl.

    `number` chooses a checkpoint, by default the newest. Of it only the policy is needed. With
    `video` it also writes the first episode, and imagined beside real futures of windows from the
    checkpoint's replay.

    Raises:
        FileNotFoundError: no run folder, or no checkpoint in it yet.
        ConfigError: the checkpoint does not fit the run's configuration.
        CheckpointError: no such checkpoint, none that is whole, or weights that are not finite.
    """
    run = place(run)
    config, spaces = load_run_config(acting_config_file(run)), read_spaces(run)
    # A video also shows what the whole agent imagines.
    checkpoint = find_checkpoint(run, number, None if video else [POLICY_FILE])
    protocol = evaluator.protocol_of(config, mode)
    seed = derive_seed(config.seed, SCORING)
    actor = make_agent_actor(config, spaces, seed=seed, mode=protocol.mode)
    load_policy(actor.agent, checkpoint)
    counters = _counters(checkpoint)
    actor.counters = counters
    result = evaluator.score(config, actor, protocol, counters, episodes=episodes, record=video)
    found = with_nulls(_figures(run, checkpoint, result), "evaluation")
    with (run / "evaluations.jsonl").open("a") as file:
        file.write(json_text(found) + "\n")
    if video:
        filmed = {f"episode/{key}": frames for key, frames in result.video.items()}
        imagined = imagined_videos(run, config, spaces, checkpoint)
        found["videos"] = [
            *_write(run, filmed, result.env_steps, EPISODE_FPS),
            *_write(run, imagined, result.env_steps, IMAGINED_FPS),
        ]
    return found


def _counters(checkpoint: Checkpoint) -> Counters:
    try:
        progress = checkpoint.document("record")["progress"]
    except (CheckpointError, KeyError) as error:
        log.warning("how far the run was is not known and shown as 0 steps: %s", error)
        return Counters()
    return Counters(env_steps=progress["env_steps"], grad_updates=progress["grad_updates"])


def imagined_videos(
    run: Path, config: TrainConfig, spaces: Spaces, checkpoint: Checkpoint
) -> Videos:
    """The agent's report on one batch from the checkpoint's replay; empty without a window."""
    agent = make_agent(config, spaces, seed=derive_seed(config.seed, LEARNING), training=True)
    load_learner(agent, checkpoint)
    batches = _draw(run, config, stream_specs(config, agent.streams()), checkpoint)
    if batches is None:
        log.warning("%s: the replay holds no whole window yet, so nothing is imagined", run)
        return {}
    return agent.report(batches)[0]


def _draw(
    run: Path, config: TrainConfig, specs: dict[str, StreamSpec], checkpoint: Checkpoint
) -> dict[str, Batch] | None:
    """One batch of every stream, each from the shard that has most to draw; None without any."""
    shards = [
        wiring.make_shard(config, specs, index) for index in range(config.resources.num_shards)
    ]
    for shard, fragment in zip(shards, checkpoint.document("replay"), strict=True):
        for text in shard.load(run / wiring.REPLAY_FOLDER, fragment).texts:
            log.warning("nothing is imagined from a damaged file: %s", text)
    windows: dict[str, list[Window]] = {}
    for name, spec in specs.items():
        masses = [shard.masses()[name] for shard in shards]
        if not any(masses):
            return None
        windows[name] = shards[int(np.argmax(masses))].sample(name, spec.batch_size, 0, 0)
    return Assembler(specs, "cpu").batches(windows)


def _figures(run: Path, checkpoint: Checkpoint, result: EvalResult) -> JsonTree:
    return {
        "run": str(short(run)),
        "checkpoint": checkpoint.number,
        "env_steps": result.env_steps,
        "grad_updates": result.grad_updates,
        "protocol": result.protocol,
        "score": result.score,
        "human_normalised": result.normalised,
        "returns": [episode.ret for episode in result.episodes],
        **result.metrics(),
    }


def _write(run: Path, videos: Videos, env_steps: int, fps: int) -> list[str]:
    return [
        str(short(write_run_video(run, name, env_steps, frames, fps)))
        for name, frames in videos.items()
    ]
