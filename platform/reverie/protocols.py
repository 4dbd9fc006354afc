"""The interfaces algorithms and environments implement. The platform knows them by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from reverie.group import ALONE, Group
from reverie.types import Array, Counters, Json, JsonTree, Rows, Spaces, Tensors

if TYPE_CHECKING:
    import gymnasium
    from _typeshed import DataclassInstance
    from torch import Tensor, nn

Mode = Literal["train", "sample", "mode"]
"""How to act: `train` explores, `sample` draws without extra noise, `mode` takes the best."""
EvalMode = Literal["sample", "mode"]
"""How evaluations may act."""
LearnsFrom = Literal["environment", "video"]
SamplerName = Literal["uniform", "freshest", "episodes"]
Precision = Literal["float32", "bfloat16"]
Carry = dict[str, Any]
"""Recurrent state of acting: a flat dict of arrays or tensors [N, ...], one row per environment."""
Metrics = dict[str, "Tensor"]
Videos = dict[str, Array]
"""uint8 [T, H, W, 3] per name."""
Feedback = dict[str, "Tensor"]
"""Values by step id, e.g. latents [B, T, ...]; must hold `step_id` int64 [B, T] unless empty.

A later batch with these rows holds them as `side/<key>`, and `side/valid` says where there are any.
"""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What an agent wants drawn from the replay for each update."""

    batch_size: int
    """Windows per batch."""
    batch_length: int
    """Rows per window that are trained on."""
    context: int = 0
    """Further rows at the start of each window, not counted as trained."""
    sampler: SamplerName = "uniform"
    """`uniform` over window starts, `freshest` new rows first, `episodes` complete ones."""
    every: int = 1
    """Updates between two draws; an update without a draw does not get this stream."""
    prioritize_ends: bool = False
    """`episodes` only: the last window of an episode gets `batch_length` extra slots."""

    @property
    def window_length(self) -> int:
        return self.batch_length + self.context

    @property
    def trained_steps(self) -> int:
        return self.batch_size * self.batch_length


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What the platform tells an agent about where and how it runs."""

    batch_size: int
    """`learner.batch_size`: windows per update, where the algorithm does not say otherwise."""
    batch_length: int
    """`learner.batch_length`: trained rows per window, likewise."""
    seed: int
    device: str = "cpu"
    precision: Precision = "float32"
    training: bool = True
    """False in actors that only act: they need no decoder, critic or optimizer."""
    group: Group = ALONE
    """The learners of the run; gradients, return ranges, batch statistics and flags go through
    it."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What an agent took over from another one, by `module/tensor`."""

    loaded: tuple[str, ...]
    skipped: dict[str, str]
    """Why: not chosen, or only in one of the two."""
    mismatched: dict[str, str]
    """Chosen and in both, but of different shapes; they keep their fresh values."""


class Agent(Protocol):
    """An algorithm: what it samples, how it learns, how it acts.

    Tensors of a batch are [B, T, ...] on `context.device`, images still uint8 and channel-last,
    `action` the one chosen AFTER each row; forcing `is_first[:, 0]` is the agent's business.
    An agent owns separate generators for acting and for learning. One made of modules and
    optimizers can leave saving, counting and starting from others to
    `reverie_algorithms.common.saved_agent.SavedAgent`.
    """

    Config: ClassVar[type[DataclassInstance]]
    """Frozen dataclass of the keys under `algorithm`, `name` among them, each with its meaning."""
    PAPER: ClassVar[str]
    """Where the algorithm was published; empty where it was not."""
    SIZES: ClassVar[Collection[str]]
    """The named values of `algorithm.size`; empty where there is none."""
    VARIANTS: ClassVar[Mapping[str, str]]
    """Published variants by name: what to set, and the paper."""
    LEARNS_FROM: ClassVar[LearnsFrom]
    """What its batches are made of; an agent that learns from video has no `act`."""
    COMPILABLE: ClassVar[tuple[str, ...]]
    """Methods that may be replaced by compiled ones: without graph breaks, side effects on
    tensors or draws of randomness."""

    def __init__(
        self, config: DataclassInstance, spaces: Spaces, context: AgentContext
    ) -> None: ...

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Json]) -> JsonTree:
        """Values that a size or dialect named in `raw` implies; `raw` itself wins over them.

        Raises:
            ValueError: an unknown size or dialect.
        """
        ...

    def streams(self) -> dict[str, StreamSpec]:
        """The draws for one update. The first stream's steps are what the ratio counts."""
        ...

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        """Take one gradient step.

        Metrics are scalar tensors left on the device; those named `loss/<name>` are watched for
        non-finite values. Must not read a value back to the host.
        """
        ...

    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        """Choose actions [N, *action.shape] for rows [N, ...] (observation keys and flags).

        Rows with `is_first` start from the initial state. Returns the new carry.
        """
        ...

    def initial_carry(self, count: int) -> Carry: ...

    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        """Pictures and figures for a person, e.g. imagined beside real futures."""
        ...

    def policy_state(self) -> dict[str, Array]:
        """The weights that acting needs, as numpy arrays."""
        ...

    def load_policy_state(self, state: Mapping[str, Array]) -> None: ...

    def state_dict(self) -> dict[str, Tensors]:
        """Everything a resumed run needs: nested dicts of tensors and plain scalars, with
        weights, optimizers, normalisers and generator states.

        `modules` holds the tensors of `modules()` under the same names: that is what another
        agent's `initialise` looks at.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Tensors]) -> None:
        """Raises: ValueError naming the first tensor that differs in name or shape."""
        ...

    def modules(self) -> dict[str, nn.Module]:
        """The trained parts by name."""
        ...

    def initialise(self, state: Mapping[str, Tensors], modules: Collection[str]) -> Initialised:
        """Start from parts of another agent, whose `state_dict()` this is.

        Copies what fits by name and shape into the named modules (into all where none is
        named); slow copies follow. The rest, optimizers included, keeps its fresh values.
        """
        ...

    def freeze(self, tensors: Collection[str]) -> None:
        """Leave these tensors (`module/tensor`) as they are in every update until the next call.

        Statistics that a forward pass gathers may move.
        """
        ...

    def module_sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Parameter counts by module: the trained ones, and slow copies."""
        ...


@runtime_checkable
class SideAgent(Protocol):
    """An agent whose acting, too, leaves something for later batches; most do not."""

    def side_of(self, carry: Carry) -> Rows:
        """Columns [N, ...] of the rows that were acted on last, from the carry that `act` returned.

        They travel with the rows and stand in batches as feedback does, with its names, shapes and
        types; a row's feedback wins over them.
        """
        ...


class VectorEnv(Protocol):
    """N environments stepped together; N = 1 to thousands."""

    num_envs: int
    spaces: Spaces

    def step(self, actions: Array, mask: Array) -> Rows:
        """Advance the environments where `mask` bool [N] is set and return all rows [N, ...].

        An environment whose previous row was last (or that was never stepped) is reset instead,
        ignoring its action. Rows hold observation keys, `reward`, the flags and `log/*`; rows
        outside the mask repeat their previous values. The arrays may be reused by the next call.

        Raises: whatever an environment raises, unchanged.
        """
        ...

    def restart(self, mask: Array) -> None:
        """Let the environments where `mask` bool [N] is set be reset by their next step, as if
        their last row had been last.
        """
        ...

    def close(self) -> None: ...


MAX_STEPS = 27_000
"""Decisions of the longest episodes that are evaluated where a suite knows none: 108,000 frames of
Atari."""


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """How a suite wants its scores taken, so that figures compare with published ones."""

    id: str
    """Suite, version and settings; scores under different ids do not compare."""
    mode: Mode = "mode"
    episodes: int = 10
    random_score: float | None = None
    human_score: float | None = None
    max_steps: int = MAX_STEPS
    """Decisions after which an evaluation cuts an episode off: the suite's own where it has one."""

    def normalised(self, score: float) -> float | None:
        """Human-normalised score: 0 plays like the random policy, 1 like the human."""
        if self.random_score is None or self.human_score is None:
            return None
        return (score - self.random_score) / (self.human_score - self.random_score)


Check = tuple[str, Literal["ok", "note", "broken"], str]
"""What was looked at, the verdict, and what to know or do."""


class Suite:
    """A family of environments. Stateless; its file is imported only when it is used.

    Those of users need not inherit it: the registry adds the defaults to any class that has
    `SUITE_NEEDS`.
    """

    Config: type
    """Frozen dataclass of the suite's options, the further keys under `env`."""
    extra: str | None = None
    """The pip extra that installs it, None if the core does."""
    deterministic: bool = False
    """Same seed and actions give the same frames."""

    def tasks(self) -> tuple[str, ...]:
        """Known task names; empty where any name may be given."""
        raise NotImplementedError

    def action_repeat(self, config: Any) -> int:
        raise NotImplementedError

    def protocol(self, task: str, config: Any) -> EvalProtocol:
        raise NotImplementedError

    def make(self, task: str, config: Any) -> gymnasium.Env[Any, Any]:
        """Build one environment with a Dict observation space and its native action space.

        Raises:
            KeyError: an unknown task, with the nearest names.
            ImportError: the package is missing, with the `pip install` line.
        """
        raise NotImplementedError

    def knows(self, task: str) -> bool:
        """Whether `task` is one of `tasks()`, or another spelling of one."""
        return task in self.tasks()

    def make_vector(self, task: str, config: Any, count: int, seeds: EnvSeed) -> VectorEnv | None:
        """Build `count` environments that are stepped natively; None: one by one, by `make`."""
        return None

    def assets(self, task: str) -> dict[str, str]:
        """Hashes by file name, for the run manifest."""
        return {}

    def scores(self, means: Mapping[str, float]) -> dict[str, float]:
        """The benchmark's own figures, from means over episodes of `EpisodeResult.logs`: of each
        evaluation, and of all episodes of training so far.
        """
        return {}

    def missing(self) -> str | None:
        """What is to be done before it can be used."""
        return None

    def rendering(self) -> str:
        """What draws its images in a word or two, e.g. "EGL" or "emulator"."""
        return "-"

    def examples(self) -> Sequence[tuple[str, Mapping[str, Json]]] | None:
        """Tasks, with options, that show what it looks like; None: some of `tasks()`."""
        return None

    def checks(self) -> Sequence[Check] | None:
        """What `reverie doctor <suite>` says of this machine; None: what `missing` says."""
        return None


AGENT_NEEDS = ("Config", "config_defaults", "streams", "update", "act", "state_dict")
"""By what a class is known as an agent."""
SUITE_NEEDS = ("Config", "tasks", "action_repeat", "protocol", "make")
"""What every suite brings itself."""
EnvSeed = Callable[[int, int], int]
"""(environment index within the worker, episode number) -> seed of that episode's reset."""
