"""What a sweep's file holds, as frozen dataclasses; `sweep_file` reads and checks it.

Which cells it makes, `cells` says; which of its keys decide that, `SweepFile.deciding`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from reverie.ranges import Count, CountOrNone, Few, NotNegative, Seed
from reverie.tuning.samplers import Sampler
from reverie.types import STRICT, JsonTree

Concurrent = Annotated[int, Interval(ge=1, le=10_000)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResources:
    """What one run takes."""

    __pydantic_config__: ClassVar[Any] = STRICT
    cpu: NotNegative = 1.0
    """CPUs; also the threads of its arithmetic, rounded up."""
    gpu: NotNegative = 0.0
    """GPUs; below 1 shares one."""
    memory_gb: NotNegative = 0.0
    """Memory that Ray reserves; 0 reserves none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopConfig:
    """When a run has had enough."""

    __pydantic_config__: ClassVar[Any] = STRICT
    env_steps: Count | None = None
    """The budget of every run, in place of its base's `run.env_steps`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Ranks configurations instead of running every cell."""

    __pydantic_config__: ClassVar[Any] = STRICT
    scheduler: Literal["asha", "pbt", "median"] | None = None
    """Stops, copies or prefers configurations by their means over seeds and tasks."""
    searcher: Literal["random", "optuna"] = "random"
    """Proposes configurations."""
    samples: Few = 8
    """Configurations."""
    metric: str = "eval/score"
    """What they are ranked by, normalised where the suite has references."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of it is better."""
    grace_env_steps: Count = 10_000
    """First rung: nothing is stopped before."""
    reduction_factor: Few = 3
    """Of as many configurations one goes on at each rung."""
    winners: Few = 1
    """Configurations that are run again at the end."""
    fresh_seeds: Few = 5
    """Seeds, not used before, on which they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmConfig:
    """How jobs are asked for; the names are sbatch's."""

    __pydantic_config__: ClassVar[Any] = STRICT
    account: str | None = None
    """Who pays."""
    partition: str | None = None
    """Where."""
    time: str | None = None
    """Limit of one job, e.g. "24:00:00"; quote it. A job that reaches it is queued again."""
    gres: str | None = None
    """E.g. "gpu:1"; the runs of a job share it."""
    mem: str | None = None
    """E.g. "32G"."""
    extra: tuple[str, ...] = ()
    """Further options of sbatch, e.g. ["--qos=low"]."""
    prologue: str = ""
    """Lines of bash before anything else, e.g. "module load cuda"."""
    runs_per_task: Few = 1
    """Cells that one task of the array runs side by side."""
    max_running: Few | None = None
    """Tasks that run at once."""
    signal_s: CountOrNone = 120
    """Seconds before the limit at which the runs are told to write a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """The sweep itself."""

    __pydantic_config__: ClassVar[Any] = STRICT
    dir: str | None = None
    """Its folder; by default `runs/sweep-<name of the file>`."""
    run_as: Literal["process", "actors"] = "process"
    """A run is one process, or several actors."""
    seed: Seed = 0
    """Of what `param_space` draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """One configuration that is varied; fields that are None are the sweep's."""

    tree: dict[str, Any]
    """Not yet checked; `init.from` may be `{cell: NAME}`."""
    tasks: tuple[str, ...] | None = None
    seeds: tuple[Seed, ...] | None = None
    space: dict[str, Sampler] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFile:
    """What is compared, and how it is run."""

    name: str
    bases: dict[str, Base]
    has_names: bool
    """The file names its bases, so methods are called after them."""
    tasks: tuple[str, ...] = ()
    """As written; empty: each base's own."""
    seeds: tuple[Seed, ...] = (0,)
    space: dict[str, Sampler] = field(default_factory=dict[str, Sampler])
    """Dotted key -> sampler."""
    samples: Few = 1
    """Draws of the random keys for each point of the grid."""
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    """Laid over every base."""
    stop: StopConfig = field(default_factory=StopConfig)
    search: SearchConfig | None = None
    resources: RunResources = field(default_factory=RunResources)
    max_concurrent: Concurrent | None = None
    """Runs at once; None: 1 on one machine, on a cluster what it holds."""
    max_failures: CountOrNone = 3
    """Times a run that failed is tried again."""
    slurm: SlurmConfig | None = None
    sweep: SweepOptions = field(default_factory=SweepOptions)

    def deciding(self) -> JsonTree:
        """What decides which cells there are and what each of them is, as plain values."""
        tree = dataclasses.asdict(self)
        for key in ("name", "resources", "max_concurrent", "max_failures", "slurm"):
            del tree[key]
        tree["sweep"] = {"seed": self.sweep.seed}
        return tree
