"""The settings of a run: frozen dataclasses, one per section of the YAML file.

Every field has a default where a sensible one exists, and a line that says what it means;
`config.py` reads, merges and checks what a user wrote and builds these.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Interval
from pydantic import JsonValue

from reverie.protocols import EvalMode, Precision
from reverie.ranges import (
    Batch,
    Count,
    CountOrNone,
    Few,
    NotNegative,
    SecondsOrNone,
    Seed,
    Threads,
    ThreadsOrAll,
)
from reverie.types import STRICT, JsonTree
from reverie.yaml_words import write_yaml

T = TypeVar("T")


def key_of(name: str) -> str:
    """The key of a field in YAML: its name, less the `_` that keeps it from being a keyword."""
    return name.removesuffix("_")


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvConfig:
    """Which environment, and how long it may take. Further keys belong to the suite."""

    __pydantic_config__: ClassVar = STRICT
    suite: str
    """Registered suite (`reverie envs` lists them) or `module:Class`."""
    task: str
    """Task of the suite; `env=atari100k/pong` sets suite and task at once."""
    factory: str | None = None
    """`module:function` returning a `gymnasium.Env` of yours, in place of suite and task."""
    step_timeout_s: SecondsOrNone = 60.0
    """Seconds one step or reset may take before the environment is rebuilt; 0 waits forever."""
    options: Any = None
    """The suite's own options; written directly under `env`."""

    @property
    def name(self) -> str:
        """`suite/task`, as it is written in a configuration."""
        return f"{self.suite}/{self.task}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayConfig:
    """How experience is kept."""

    __pydantic_config__: ClassVar = STRICT
    capacity: Count = 1_000_000
    """Rows kept over all shards; the oldest chunks (or episodes) go first."""
    chunk_length: Batch = 64
    """Most rows per chunk; workers insert twice per `chunk_length` steps of an environment, or once
    per `run.quota`."""
    codec: Literal["none", "lz4", "zstd"] = "none"
    """Compression of image keys in memory; `none` samples fastest."""
    freshest_first: bool = False
    """Serve each new window once before sampling uniformly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """How batches become gradient steps."""

    __pydantic_config__: ClassVar = STRICT
    batch_size: Batch = 16
    """Windows per batch."""
    batch_length: Batch = 64
    """Rows per window."""
    precision: Precision = "float32"
    """Arithmetic of the networks; losses and optimizers stay in float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the losses with torch.compile, as CUDA graphs on a GPU; `auto` does so on CUDA only:
    on a CPU it costs minutes and gains nothing."""
    prefetch: Annotated[int, Interval(ge=1, le=1024)] = 2
    """Batches under way at once: the next one and those requested ahead of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainLearnerConfig(LearnerConfig):
    """How batches become gradient steps, and how many of them an env step is worth."""

    training_ratio: NotNegative = 1024.0
    """Trained steps (`batch_size` x `batch_length` per update) per env step."""
    pretrain: CountOrNone = 0
    """Updates owed at once when the prefill ends."""
    publish_every_updates: Count = 16
    """Updates between two publications of weights to the environment workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesConfig:
    """Who runs where."""

    __pydantic_config__: ClassVar = STRICT
    num_learners: Literal[1] = 1
    """Learner actors; only 1 in this version."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the learner trains; `auto` takes a GPU if torch sees one."""
    num_cpus_per_learner: NotNegative = 1.0
    """CPUs Ray reserves for the learner."""
    num_gpus_per_learner: NotNegative = 1.0
    """GPUs Ray reserves for the learner when it trains on CUDA; below 1 shares one."""
    learner_threads: ThreadsOrAll = 0
    """Threads of the learner's CPU arithmetic; 0 takes every core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResourcesConfig(ResourcesConfig):
    """Who runs where."""

    num_env_workers: Few = 1
    """Actors that step environments."""
    envs_per_worker: Few = 1
    """Environments each of them steps together."""
    num_shards: Few = 1
    """Replay shards."""
    num_cpus_per_env_worker: NotNegative = 1.0
    """CPUs Ray reserves for each env worker, scaled down where the cluster has fewer."""
    worker_threads: Threads = 1
    """Threads of each acting process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResourcesConfig(ResourcesConfig):
    """Who runs where."""

    num_loaders: Few = 1
    """Actors that read video; each brings its share of every batch. The number changes no frame."""
    num_cpus_per_loader: NotNegative = 1.0
    """CPUs Ray reserves for each loader, scaled down where the cluster has fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which video is learned from."""

    __pydantic_config__: ClassVar = STRICT
    folders: tuple[str, ...] = ()
    """Data sets as `reverie data import` writes them. More than one make a mixture: each window
    draws its data set first."""
    weights: tuple[NotNegative, ...] | None = None
    """Share of each data set in a mixture, in any unit; null: equal shares."""
    holdout: Annotated[float, Interval(ge=0, lt=1)] = 0.02
    """Share of clips that is never trained on, by hash of the clip's name; at least one clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Evaluation apart from training, by the suite's protocol."""

    __pydantic_config__: ClassVar = STRICT
    every: CountOrNone = 10_000
    """Env steps between two evaluations of the weights of that moment; 0: only at the end."""
    episodes: Few | None = None
    """Episodes per evaluation; the suite's own number by default."""
    envs: Few = 4
    """Environments the evaluator steps together."""
    mode: EvalMode | None = None
    """How evaluations act: `sample` draws from the policy, `mode` takes its best action; by default
    as the suite does. Set it where an algorithm was published with the other on this suite."""
    max_steps: Count | None = None
    """Decisions after which an episode is cut off and counts as it stands; by default the suite's
    own limit, 27,000 where none is known."""
    env: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Options of the suite that differ in evaluations, e.g. `{hard_reset_every: 1}`."""
    video: bool = True
    """Write an mp4 of imagined beside real futures with each evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Safety and housekeeping of one run."""

    __pydantic_config__: ClassVar = STRICT
    dir: str | None = None
    """Run folder; by default `runs/<algorithm>-<task>-s<seed>-<time>`."""
    checkpoint_every_s: SecondsOrNone = 600.0
    """Seconds between checkpoints."""
    keep_checkpoints: Few = 2
    """Checkpoints kept; older ones are deleted."""
    log_every_s: SecondsOrNone = 10.0
    """Seconds between lines of metrics.jsonl."""
    max_actor_restarts: CountOrNone = 10
    """Times each killed actor is replaced before the run stops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRunConfig(RunConfig):
    """Budget, safety and housekeeping of one training run."""

    env_steps: Count = 100_000
    """Budget in decisions, prefill included; met exactly."""
    prefill: CountOrNone = 1_024
    """First env steps, by default with random actions; `learner.training_ratio` counts from
    there."""
    prefill_actions: Literal["random", "policy"] = "random"
    """Who acts in the prefill: a random policy, or the agent with its fresh weights."""
    quota: Batch | None = None
    """Env steps of each environment between two looks at the newest weights, and how many it may be
    ahead of training; by default half a `replay.chunk_length`, and two of these ahead, so that one
    is taken while the other is trained. On Ray `dreamerv3/catch` without training takes 42.1 ms of
    CPU per env step with 1 and 9.4 by default, in one process 5.3 and 6.5 (2026-11-28, 2 busy
    cores, one run each)."""
    lockstep: bool = False
    """Collect, train and publish in strict turns: slower, but Ray then equals `--local`."""
    max_env_restarts: CountOrNone = 10
    """Times each worker rebuilds a failing environment before the run stops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRunConfig(RunConfig):
    """Budget, safety and housekeeping of one pre-training run."""

    updates: Count = 1_200_000
    """Budget in gradient steps; met exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainEvalConfig:
    """Looks at clips that were held out."""

    __pydantic_config__: ClassVar = STRICT
    every: CountOrNone = 5_000
    """Updates between two looks; 0: only at the end."""
    batches: Few = 4
    """Batches of held-out clips that losses are averaged over, the same ones each time."""
    video: bool = True
    """Write an mp4 of imagined beside real futures with each look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InitConfig:
    """Start from parts of another run; environment, replay and optimizers are new (no resume)."""

    __pydantic_config__: ClassVar = STRICT | {"alias_generator": key_of}
    from_: str | None = None
    """Run folder (its newest checkpoint) or folder of one checkpoint to take weights from."""
    modules: tuple[str, ...] = ()
    """Trained parts to take, e.g. `[encoder, rssm]`; empty takes every tensor that fits."""
    freeze_updates: CountOrNone = 0
    """First updates that leave the weights taken as they are; other weights are trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """Where metrics go besides metrics.jsonl."""

    __pydantic_config__: ClassVar = STRICT
    tensorboard: bool = True
    """Write event files to `tensorboard/` in the run folder."""
    wandb: bool = False
    """Send metrics to Weights & Biases (`pip install "reverie[wandb]"`)."""
    wandb_project: str = "reverie"
    """Weights & Biases project."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """What every kind of run needs; each kind brings sections of its own."""

    algorithm: Any
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    run: RunConfig = field(default_factory=RunConfig)
    init: InitConfig = field(default_factory=InitConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    seed: Seed = 0
    """Seed of networks, sampling, acting and environments."""

    def to_dict(self) -> JsonTree:
        """Plain nested dicts that resolve to this configuration again."""
        return dataclasses.asdict(self, dict_factory=_by_key)

    def to_yaml(self) -> str:
        return write_yaml(self.to_dict())

    @property
    def subject(self) -> str:
        """What is learned from, as a run folder's name says it."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(ExperimentConfig):
    """A run that learns from an environment."""

    env: EnvConfig
    learner: TrainLearnerConfig = field(default_factory=TrainLearnerConfig)
    resources: TrainResourcesConfig = field(default_factory=TrainResourcesConfig)
    run: TrainRunConfig = field(default_factory=TrainRunConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    @property
    def subject(self) -> str:
        return self.env.task

    @property
    def num_streams(self) -> int:
        return self.resources.num_env_workers * self.resources.envs_per_worker

    @property
    def quota(self) -> int:
        """Env steps of each environment between two looks at the weights."""
        return self.run.quota or max(1, self.replay.chunk_length // 2)

    @property
    def steps_ahead(self) -> int:
        """Env steps by which each environment may be ahead of training."""
        return self.run.quota or self.replay.chunk_length

    @property
    def eval_env(self) -> EnvConfig:
        """The environment of evaluations: `env`, with what `eval.env` changes."""
        if not self.eval.env:
            return self.env
        options = dataclasses.replace(self.env.options, **self.eval.env)
        return dataclasses.replace(self.env, options=options)

    def to_dict(self) -> JsonTree:
        """Plain nested dicts that `resolve_config` turns into this configuration again."""
        # Not `super()`: the class that `slots` makes is another one than this body's.
        tree = ExperimentConfig.to_dict(self)
        env = dataclasses.asdict(self.env)
        options = env.pop("options")
        if env["factory"] is not None:
            del env["suite"], env["task"]
        tree["env"] = {**{k: v for k, v in env.items() if v is not None}, **(options or {})}
        return tree


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig(ExperimentConfig):
    """A run that learns from video."""

    data: DataConfig = field(default_factory=DataConfig)
    resources: PretrainResourcesConfig = field(default_factory=PretrainResourcesConfig)
    run: PretrainRunConfig = field(default_factory=PretrainRunConfig)
    eval: PretrainEvalConfig = field(default_factory=PretrainEvalConfig)

    @property
    def subject(self) -> str:
        return "+".join(Path(folder).name for folder in self.data.folders)


def sections_of(kind: type[ExperimentConfig]) -> dict[str, type]:
    """The sections of a kind of run that one dataclass checks alone, by name."""
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in hints if name not in ("algorithm", "env", "seed")}


def _by_key(fields: list[tuple[str, T]]) -> dict[str, T]:
    return {key_of(name): value for name, value in fields}
