"""Builds the parts of a run from its configuration; both ways of running use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from reverie import registry
from reverie.batch_stream import BatchStream
from reverie.checkpoint import Checkpoint
from reverie.checkpoint_format import FileEntry
from reverie.config import TrainConfig
from reverie.env_worker import CollectStats
from reverie.errors import ConfigError
from reverie.evaluator import EvalResult
from reverie.init_from import Source, initialise
from reverie.learner import TrainStats
from reverie.links import Batches, Grants, Shards
from reverie.policy import load_learner, make_agent
from reverie.policy_learner import stream_specs
from reverie.protocols import Initialised, StreamSpec
from reverie.replay.coordinator import ReplayCoordinator
from reverie.replay.shard import Damage, ReplayShard
from reverie.types import Json, Spaces, Tensors, Version
from reverie.weight_store import Pinned

REPLAY_FOLDER = "replay"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that went wrong and was fixed."""

    role: str
    """`env`, or what `reverie.cluster.roles` names: `env_worker`, `replay_shard`, ..."""
    index: int
    text: str
    lost_steps: int = 0
    """Env steps or replay rows that went with it."""
    lost_updates: int = 0
    restarted: bool = True
    """Whether a part was replaced; not where only what it keeps on disk was damaged."""


@dataclass(slots=True)
class Events:
    """What happened during one step of a run."""

    collected: list[CollectStats] = field(default_factory=list[CollectStats])
    trained: list[TrainStats] = field(default_factory=list[TrainStats])
    evaluated: list[EvalResult] = field(default_factory=list[EvalResult])
    faults: list[Fault] = field(default_factory=list[Fault])
    finished: bool = False

    def add(self, later: Events) -> None:
        """Take what happened after this as well."""
        self.collected += later.collected
        self.trained += later.trained
        self.evaluated += later.evaluated
        self.faults += later.faults
        self.finished = later.finished


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """The state of every part, cut at one moment."""

    tensors: Mapping[str, Mapping[str, Tensors]]
    """`learner`, `policy` and `pins`: nested state dicts of tensors."""
    documents: Mapping[str, Json]
    """`coordinator`, `replay` and `pins`: JSON-able."""
    files: list[FileEntry]
    """Replay files this state needs, as the shards name them."""


def agent_streams(config: TrainConfig, spaces: Spaces) -> dict[str, StreamSpec]:
    """What the configured agent samples."""
    agent = make_agent(config, spaces, seed=0, training=False)
    return stream_specs(config, agent.streams())


def try_agent(
    config: TrainConfig, spaces: Spaces, checkpoint: Checkpoint | None, source: Source | None
) -> Initialised | None:
    """Build the agent without memory and give it what the learner will begin with.

    What does not fit is so refused in one line, before any part of the run starts.

    Returns:
        What it took from `source`.

    Raises:
        ConfigError: sizes or spaces the agent refuses; a budget without one update; a replay
            without one window; a checkpoint of another agent.
    """
    agent = make_agent(config, spaces, seed=config.seed, training=True, device="meta")
    check_budget(config, agent.streams())
    check_capacity(config, agent.streams())
    if checkpoint is not None:
        load_learner(agent, checkpoint)
    return initialise(agent, source) if source is not None else None


def check_budget(config: TrainConfig, specs: Mapping[str, StreamSpec]) -> None:
    """Raise `ConfigError` where a run that is to train could not make one update."""
    learner, run = config.learner, config.run
    batch = next((spec.trained_steps for spec in specs.values()), 0)
    if not (batch and learner.training_ratio) or learner.pretrain:
        return
    least = run.prefill + math.ceil(batch / Fraction(str(learner.training_ratio)))
    if run.env_steps < least:
        raise ConfigError(
            f"run.env_steps: expected at least {least} for one update ({batch} trained steps at "
            f"learner.training_ratio={learner.training_ratio}, run.prefill={run.prefill}), "
            f"got {run.env_steps}; learner.training_ratio=0 collects without training"
        )
    longest = max(spec.window_length for spec in specs.values())
    rows = 2 * run.env_steps + 1  # were each decision an episode: a row for it, one for its reset
    if longest > rows:
        section = "algorithm" if getattr(config.algorithm, "batch_length", None) else "learner"
        raise ConfigError(
            f"{section}.batch_length: expected windows of at most {rows} rows, which is all that "
            f"run.env_steps={run.env_steps} can bring, got windows of {longest}"
        )


def check_capacity(config: TrainConfig, specs: Mapping[str, StreamSpec]) -> None:
    """Raise `ConfigError` where a replay shard could not hold one window, its context included."""
    longest = max((spec.window_length for spec in specs.values()), default=0)
    least = longest * config.resources.num_shards
    if config.replay.capacity < least:
        raise ConfigError(
            f"replay.capacity: expected at least {least}, a window of {longest} rows for each of "
            f"resources.num_shards={config.resources.num_shards}, got {config.replay.capacity}"
        )


def make_coordinator(config: TrainConfig, specs: dict[str, StreamSpec]) -> ReplayCoordinator:
    return ReplayCoordinator(
        specs,
        ratio=config.learner.training_ratio,
        prefill=config.run.prefill,
        pretrain_batches=config.learner.pretrain,
        budget=config.run.env_steps,
        steps_ahead=config.steps_ahead,
        envs_per_worker=config.resources.envs_per_worker,
        num_workers=config.resources.num_env_workers,
        num_shards=config.resources.num_shards,
        seed=config.seed,
        action_repeat=registry.suite(config.env.suite).action_repeat(config.env.options),
    )


def make_batches(
    config: TrainConfig,
    specs: dict[str, StreamSpec],
    coordinator: Grants,
    shards: Shards,
    device: str,
) -> Batches:
    """What the learner trains on: granted batches of the replay, on its device."""
    prefetch = 1 if config.run.lockstep else config.learner.prefetch
    return BatchStream(specs, coordinator, shards, device=device, prefetch=prefetch)


def replay_files(fragments: list[dict[str, Any]]) -> list[FileEntry]:
    """The files that the shards' fragments name, as a checkpoint lists them."""
    return [
        FileEntry(f"{REPLAY_FOLDER}/{entry['name']}", entry["size"], entry["crc32"])
        for fragment in fragments
        for entry in fragment["files"]
    ]


def pin_tensors(pinned: Sequence[Pinned]) -> dict[str, Tensors]:
    """Weights that wait for their evaluation, as a checkpoint keeps them."""
    return {
        str(pin.env_steps): {name: torch.tensor(value) for name, value in pin.state.items()}
        for pin in pinned
    }


def pin_document(pinned: Sequence[Pinned]) -> list[list[int]]:
    """What else a checkpoint keeps of them: incarnation, grad updates and env steps of each."""
    return [[*pin.version, pin.env_steps] for pin in pinned]


def load_pins(checkpoint: Checkpoint) -> list[Pinned]:
    """What `pin_tensors` and `pin_document` kept; none in a checkpoint that has no such part."""
    if "pins.pt" not in checkpoint.parts:
        return []
    states = checkpoint.tensors("pins")
    return [
        Pinned(
            Version(incarnation, grad_updates),
            env_steps,
            {name: value.numpy() for name, value in states[str(env_steps)].items()},
        )
        for incarnation, grad_updates, env_steps in checkpoint.document("pins")
    ]


def damage_faults(shard: int, damage: Damage, lost_rows: int) -> list[Fault]:
    """What a shard had to leave out as it was loaded, `lost_rows` in all; none where nothing."""
    if not damage.texts:
        return []
    text = f"{lost_rows} replay rows are lost, the run goes on without them: "
    text += "; ".join(damage.texts)
    return [
        Fault(role="replay_shard", index=shard, text=text, lost_steps=lost_rows, restarted=False)
    ]


def make_shard(config: TrainConfig, specs: dict[str, StreamSpec], shard: int) -> ReplayShard:
    return ReplayShard(
        shard,
        specs,
        capacity_rows=-(-config.replay.capacity // config.resources.num_shards),
        codec=config.replay.codec,
        grow_to=config.replay.chunk_length if config.quota < config.replay.chunk_length // 2 else 0,
        seed=config.seed,
    )
