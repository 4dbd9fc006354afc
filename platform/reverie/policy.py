"""Agents from configurations, and trained policies from run folders.

Imports neither ray nor gymnasium: a robot or a notebook needs torch and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from reverie import registry
from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.config import algorithm_fault, resolve_algorithm, source_of
from reverie.config_check import build, check
from reverie.config_tree import read_one_yaml, read_yaml
from reverie.documents import read_json
from reverie.errors import ConfigError, is_refusal
from reverie.group import ALONE, Group
from reverie.native_spaces import NativeActions
from reverie.observations import ObservationReader, check_native
from reverie.paths import place
from reverie.protocols import Agent, AgentContext, Carry, Mode
from reverie.ranges import Seed
from reverie.seeds import SCORING, derive_seed
from reverie.settings import ExperimentConfig, TrainLearnerConfig
from reverie.storage import Storage
from reverie.types import FLAG_KEYS, Array, Counters, Spaces

CONFIG_FILE = "config.yaml"
SPACES_FILE = "spaces.json"
POLICY_FILE = "policy.pt"
"""The part of a checkpoint that acting needs."""
MAX_ELEMENTS = 50_000_000
"""Numbers in one observation key, for which networks are built from a file's word alone."""


def make_agent(
    config: ExperimentConfig,
    spaces: Spaces,
    *,
    seed: int,
    training: bool,
    device: str = "cpu",
    group: Group = ALONE,
) -> Agent:
    """Build the configured agent; `training=False` builds only what acting needs.

    On device `meta` its tensors have shapes and no memory: enough to count and to compare.

    Raises:
        ConfigError: what the agent itself refuses, e.g. sizes that do not fit.
    """
    context = AgentContext(
        batch_size=config.learner.batch_size,
        batch_length=config.learner.batch_length,
        seed=seed,
        device=device,
        precision=config.learner.precision,
        training=training,
        group=group,
    )
    dialect = getattr(config.algorithm, "dialect", None)
    agent = registry.algorithm(config.algorithm.name, dialect)
    try:
        with _without_memory() if device == "meta" else nullcontext():
            return agent(config.algorithm, spaces, context)
    except ValueError as error:
        if is_refusal(error, agent):
            raise ConfigError(algorithm_fault(error)) from error
        raise


def _without_memory() -> AbstractContextManager[Any]:
    import torch

    return torch.device("meta")


def load(
    run: str | Path,
    *,
    mode: Mode = "mode",
    device: str = "cpu",
    seed: int | None = None,
    checkpoint: int | None = None,
) -> Policy:
    """Load the policy of the newest usable checkpoint of a run folder, or of the one named.

    Without a `seed` it draws what `reverie eval` draws where that plays one episode at a time.
    Reads `config.yaml`, `spaces.json` and the checkpoint's `policy.pt`, nothing else.

    Raises:
        FileNotFoundError: `run` is not a run folder or holds no checkpoint yet.
        ConfigError: the checkpoint does not fit the run's configuration.
        CheckpointError: no such checkpoint, none that is whole, or weights that are not finite.
    """
    config, spaces = _acting_config(Path(run)), read_spaces(run)
    seed = derive_seed(config.seed, SCORING) if seed is None else seed
    agent = make_agent(config, spaces, seed=seed, training=False, device=device)
    load_policy(agent, find_checkpoint(run, checkpoint, [POLICY_FILE]))
    return Policy(agent, spaces, mode, run)


def find_checkpoint(
    run: str | Path, number: int | None = None, parts: Collection[str] | None = None
) -> Checkpoint:
    """The newest usable checkpoint of a run folder, or the one of that number.

    Only `parts` (file names) of it are verified where they are given.

    Raises:
        FileNotFoundError: there is none yet.
        CheckpointError: no such checkpoint, or none that is whole.
    """
    store = CheckpointStore(Storage(str(run)), keep=1)
    if number is not None:
        return store.load(number, parts)
    checkpoint = store.latest(parts)
    if checkpoint is None:
        raise FileNotFoundError(f"{run}: no checkpoint yet; wait for the first or resume the run")
    return checkpoint


def config_file(run: str | Path) -> Path:
    """The configuration a run folder was started with, which is whole.

    Raises:
        FileNotFoundError: `run` is not a run folder.
        ConfigError: it would have other files read, perhaps outside the folder.
    """
    path = place(run) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"not a run folder: no {CONFIG_FILE} in {run}")
    if base := read_one_yaml(path).get("base"):
        raise ConfigError(
            f"{path}: base: expected a run's whole configuration, got one built on {base!r}; write"
            " the values of that file into it, without the key"
        )
    return path


def acting_config_file(run: str | Path) -> Path:
    """As `config_file`, of a run whose agent acts.

    Raises:
        ConfigError: it learned from video.
    """
    path = config_file(run)
    if source_of(read_yaml(path)) == "video":
        raise ConfigError(
            f"{run}: it learned from video and chooses no actions; train an agent that starts from"
            f" it: reverie train CONFIG init.from={run}"
        )
    return path


def read_spaces(run: str | Path) -> Spaces:
    """The spaces a run folder was started with.

    Raises:
        ConfigError: their file is missing or broken.
    """
    path = place(run) / SPACES_FILE
    remedy = "resume the run, which writes it anew, or copy it from a run of the same environment"
    try:
        spaces = Spaces.from_json(read_json(path))
        sizes = {key: spec.size for key, spec in spaces.obs.items()}
        for key, size in (sizes | {"action": spaces.action.flat_size}).items():
            if not 0 <= size <= MAX_ELEMENTS:
                raise ValueError(f"at most {MAX_ELEMENTS} numbers in {key!r}, got {size}")
        check_native(spaces)
        return spaces
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected the run's spaces, got no file; {remedy}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected the run's spaces: {error}; {remedy}") from None


def _acting_config(run: Path) -> ExperimentConfig:
    """What acting needs of a run's configuration; the suite is left alone, so that a machine
    without environments can act.
    """
    path = acting_config_file(run)
    tree = read_yaml(path)
    for section in ("algorithm", "learner"):
        if section not in tree:
            raise ConfigError(f"{path}: expected a section {section!r}, got {sorted(tree)}")
    try:
        return ExperimentConfig(
            algorithm=resolve_algorithm(tree["algorithm"]),
            learner=build(TrainLearnerConfig, tree["learner"], "learner"),
            seed=check(Seed, tree.get("seed", 0), "seed"),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def load_policy(agent: Agent, checkpoint: Checkpoint) -> None:
    """Give an agent the weights that acting needs.

    Raises:
        ConfigError: naming the first tensor that does not fit.
    """
    state = {name: tensor.numpy() for name, tensor in checkpoint.tensors("policy").items()}
    _load(agent.load_policy_state, state, checkpoint)


def load_learner(agent: Agent, checkpoint: Checkpoint) -> None:
    """Give an agent that trains everything that was saved of it.

    Raises:
        ConfigError: naming the first tensor that does not fit.
    """
    _load(agent.load_state_dict, checkpoint.tensors("learner")["agent"], checkpoint)


def _load(load: Callable[[Any], None], state: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    try:
        load(state)
    except ValueError as error:
        raise ConfigError(f"checkpoint {checkpoint.number} is of another agent: {error}") from error


class Policy:
    """A trained agent that acts in the language of its environment.

    It carries its recurrent state from call to call.
    """

    def __init__(self, agent: Agent, spaces: Spaces, mode: Mode, run: str | Path) -> None:
        self._agent, self.spaces, self._run = agent, spaces, run
        self._mode: Mode = mode
        self._reader = ObservationReader(spaces)
        self._native = spaces.native.action.converter() if spaces.native else None
        self._carry: Carry | None = None
        self._count = 0

    def reset(self) -> None:
        """Forget the past: the next observation starts an episode."""
        self._carry = None

    def act(self, obs: Any, *, normalised: bool = False) -> Array:
        """Choose an action for one observation, or actions for a batch of them.

        Args:
            obs: what the environment of the run gives, or what `reverie.make_env` gives: arrays
                as they are or with one leading batch axis; an array alone stands for the only key.
            normalised: Return what the agent chose: float32 [A] in [-1, 1], int64 [] or int64 [k]
                from 0. An environment whose actions Reverie normalises takes these.

        Returns:
            What the environment's own action space contains, in its dtype and shape (of Discrete
            a numpy scalar); with a batch axis if `obs` had one.

        Raises:
            ValueError: a missing key, a wrong shape, a value that is not finite, or a dtype that
                would have to be cast with a loss.
            ConfigError: an earlier version made the run and did not keep the space.
        """
        convert = None if normalised else self._to_native()
        rows, single = self._reader.read(obs)
        count = len(next(iter(rows.values())))
        past = self._carry if count == self._count else None
        first = past is None
        carry = self._agent.initial_carry(count) if past is None else past
        rows |= {key: np.full(count, first and key == "is_first") for key in FLAG_KEYS}
        rows["reward"] = np.zeros(count, np.float32)
        action, self._carry = self._agent.act(rows, carry, self._mode, Counters())
        self._count = count
        chosen = action[0] if single else action
        return convert(chosen) if convert else chosen

    def _to_native(self) -> NativeActions:
        if self._native is None:
            raise ConfigError(
                f"{self._run}: {SPACES_FILE} does not say which actions the environment itself"
                " takes; `reverie resume` of the run writes it anew with this version, and"
                " act(obs, normalised=True) returns what the agent chose, from -1 to 1 or from 0"
            )
        return self._native
