"""Evaluation apart from training, by the suite's own protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from reverie import registry
from reverie.agent_actor import make_agent_actor
from reverie.config import TrainConfig
from reverie.env_factory import EnvFault, GuardedVectorEnv, spaces_of
from reverie.env_loop import act_where
from reverie.errors import ConfigError, EnvFailed, EvaluationStopped
from reverie.links import Actor, Weights
from reverie.protocols import MAX_STEPS, EnvSeed, EvalProtocol, Mode, VectorEnv
from reverie.row_buffer import EpisodeMeter
from reverie.seeds import EVAL_ENVS, EVALUATING, derive_seed
from reverie.stop_signals import ShouldStop, never
from reverie.types import Array, Counters, EpisodeResult, Spaces

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalResult:
    """The score of one version of the weights."""

    env_steps: int
    """Training env steps taken when the weights were pinned."""
    grad_updates: int
    episodes: list[EpisodeResult]
    score: float
    """Mean return."""
    normalised: float | None
    """Human-normalised score, where the suite has references."""
    protocol: str
    seconds: float
    suite_scores: dict[str, float] = field(default_factory=dict[str, float])
    """The benchmark's own figures, e.g. Crafter's score."""
    video: dict[str, Array] = field(default_factory=dict[str, Array])
    """First episode of the first environment, uint8 [T, H, W, 3] per image key, if recorded."""

    @property
    def cut_episodes(self) -> int:
        """Episodes that did not end by themselves; their returns count as they stood."""
        return sum(episode.is_cut for episode in self.episodes)

    def metrics(self) -> dict[str, float]:
        """Figures for the metrics log, under `eval/`."""
        returns = [episode.ret for episode in self.episodes]
        figures = {
            "score": self.score,
            "return_std": float(np.std(returns)),
            "length": float(np.mean([episode.length for episode in self.episodes])),
            "episodes": float(len(returns)),
            "cut_episodes": float(self.cut_episodes),
        }
        if self.normalised is not None:
            figures["human_normalised"] = self.normalised
        figures |= mean_logs(self.episodes) | self.suite_scores
        return {f"eval/{name}": value for name, value in figures.items()}


class Evaluator:
    """Plays full episodes with pinned weights in environments of its own."""

    def __init__(self, config: TrainConfig, spaces: Spaces, weights: Weights) -> None:
        self._config, self._weights = config, weights
        seed = derive_seed(config.seed, EVALUATING)
        self._protocol = protocol_of(config)
        self._actor = make_agent_actor(config, spaces, seed=seed, mode=self._protocol.mode)

    def evaluate(self, env_steps: int, should_stop: ShouldStop = never) -> EvalResult | None:
        """Score the weights pinned at `env_steps` and unpin them; None: nothing is pinned there.

        Raises:
            EnvFailed: an environment failed once more than `run.max_env_restarts` allows.
            EvaluationStopped: `should_stop` said so; they stay pinned.
        """
        pinned = self._weights.pinned(env_steps)
        if pinned is None:
            return None
        self._actor.load(pinned.version, pinned.state)
        counters = Counters(env_steps=env_steps, grad_updates=pinned.version.grad_updates)
        self._actor.counters = counters
        result = self._score(counters, should_stop)
        self._weights.unpin(env_steps)
        return result

    def _score(self, counters: Counters, should_stop: ShouldStop) -> EvalResult:
        """Score; anew where an environment fails, since half an evaluation is none, unless it would
        fail again.
        """
        failures = 0
        while True:
            try:
                return score(
                    self._config, self._actor, self._protocol, counters, should_stop=should_stop
                )
            except EnvFailed as error:
                failures += 1
                if error.will_repeat or failures > self._config.run.max_env_restarts:
                    raise
                log.warning("the evaluation begins anew: %s", error)


def score(
    config: TrainConfig,
    actor: Actor,
    protocol: EvalProtocol,
    counters: Counters,
    *,
    episodes: int | None = None,
    record: bool = False,
    should_stop: ShouldStop = never,
) -> EvalResult:
    """Play the episodes of `protocol`; `record` keeps the first one's frames.

    `actor` acts in the protocol's mode; `counters` tells how far the run was at its weights.

    Raises:
        EnvFailed: an environment failed.
        EvaluationStopped: `should_stop`, asked between two steps, said so.
    """
    begin = time.perf_counter()
    episodes = episodes or config.eval.episodes or protocol.episodes
    count = min(config.eval.envs, episodes)
    try:
        with closing(GuardedVectorEnv(config.eval_env, count, _seeds(config.seed))) as vector:
            played, video = play_episodes(
                vector,
                actor,
                episodes,
                max_steps=protocol.max_steps,
                record=record,
                should_stop=should_stop,
            )
    except EnvFault as fault:
        name = config.env.name
        text = f"environment {name} failed in an evaluation:\n{fault}"
        raise EnvFailed(text, fault.will_repeat) from fault
    _warn_of_cuts(played, protocol)
    mean = float(np.mean([episode.ret for episode in played]))
    return EvalResult(
        env_steps=counters.env_steps,
        grad_updates=counters.grad_updates,
        episodes=played,
        score=mean,
        normalised=protocol.normalised(mean),
        protocol=protocol.id,
        seconds=time.perf_counter() - begin,
        suite_scores=suite_scores(config, mean_logs(played)),
        video=video,
    )


def play_episodes(
    vector: VectorEnv,
    actor: Actor,
    episodes: int,
    *,
    max_steps: int = MAX_STEPS,
    record: bool = False,
    should_stop: ShouldStop = never,
) -> tuple[list[EpisodeResult], dict[str, Array]]:
    """Play exactly `episodes` episodes, spread over the environments beforehand.

    Each environment plays a fixed number of them: taking the first to finish would favour
    short episodes. One that took `max_steps` decisions is cut off and counts as it stands.

    Raises:
        EvaluationStopped: `should_stop`, asked between two steps, said so.
    """
    count = vector.num_envs
    left = np.full(count, episodes // count) + (np.arange(count) < episodes % count)
    meter, carry = EpisodeMeter(count), actor.initial_carry(count)
    actions, active = vector.spaces.action.zeros(count), np.ones(count, bool)
    results: list[EpisodeResult] = []
    frames: dict[str, list[Array]] = {}
    while active.any():
        if should_stop():
            raise EvaluationStopped(f"{len(results)} of {episodes} episodes were played")
        rows = vector.step(actions, active)
        if record:
            _record(frames, rows, vector.spaces)
        ended = meter.add(rows, active)
        if cut := meter.cut(max_steps):
            vector.restart(np.isin(np.arange(count), [env for env, _ in cut]))
        for env, result in ended + cut:
            results.append(result)
            left[env] -= 1
            record &= env != 0
        active = left > 0
        deciding = active & ~rows["is_last"]
        deciding[[env for env, _ in cut]] = False
        if deciding.any():
            acted = act_where(actor, rows, carry, deciding)
            actions[deciding], carry = acted.action, acted.carry
    return results, {key: np.stack(found) for key, found in frames.items()}


def protocol_of(config: TrainConfig, mode: Mode | None = None) -> EvalProtocol:
    """The evaluation protocol of the configured environment; its id tells what `eval.env` sets.

    `mode` wins over `eval.mode`, and both over the suite's. Acting by another mode than the suite's
    is another protocol, as is an `eval.max_steps` that is not the suite's: its id says so.
    """
    env, limit = config.eval_env, config.eval.max_steps
    mode = mode or config.eval.mode
    protocol = registry.suite(env.suite).protocol(env.task, env.options)
    if limit not in (None, protocol.max_steps):
        protocol = replace(protocol, max_steps=limit, id=f"{protocol.id}-max_steps={limit}")
    if mode is None or mode == protocol.mode:
        return protocol
    return replace(protocol, mode=mode, id=f"{protocol.id}-{mode}")


def check_eval_env(config: TrainConfig, spaces: Spaces) -> None:
    """Build the environment that `eval.env` makes, if any, and compare its spaces with training's.

    Raises:
        ConfigError: other spaces, in which an agent of these could not act; or what the suite
            itself refuses.
    """
    if config.eval_env == config.env:
        return
    try:
        found = spaces_of(config.eval_env)
    except ConfigError as error:
        raise ConfigError(f"eval.{error}") from error
    if found != spaces:
        options = ", ".join(f"{key}={value}" for key, value in config.eval.env.items())
        raise ConfigError(
            f"eval.env: {options} changes what the agent sees or does, got "
            f"{_differences(found, spaces)}; set it under env, for training too"
        )


def suite_scores(config: TrainConfig, means: Mapping[str, float]) -> dict[str, float]:
    """The benchmark's own figures from `mean_logs`; none where there is nothing to score."""
    suite = registry.suite(config.env.suite)
    return suite.scores(means) if means else {}


def mean_logs(episodes: Sequence[EpisodeResult]) -> dict[str, float]:
    """Mean over episodes of each logged value; where an environment left one out it is 0."""
    names = sorted({name for episode in episodes for name in episode.logs})
    return {
        name: float(np.mean([episode.logs.get(name, 0.0) for episode in episodes]))
        for name in names
    }


def _warn_of_cuts(episodes: Sequence[EpisodeResult], protocol: EvalProtocol) -> None:
    cut = sum(episode.is_cut for episode in episodes)
    if cut:
        log.warning(
            "%d of %d episodes did not end within %d steps and count as they stood then; "
            "eval.max_steps sets that limit",
            cut,
            len(episodes),
            protocol.max_steps,
        )


def _seeds(seed: int) -> EnvSeed:
    return lambda env, episode: derive_seed(seed, EVAL_ENVS + env, episode)


def _record(frames: dict[str, list[Array]], rows: dict[str, Array], spaces: Spaces) -> None:
    for key, spec in spaces.obs.items():
        if spec.is_image and spec.dtype == "uint8":
            frame = np.repeat(rows[key][0], 3, -1) if spec.shape[-1] == 1 else rows[key][0][..., :3]
            frames.setdefault(key, []).append(frame.copy())


def _differences(found: Spaces, wanted: Spaces) -> str:
    """What differs, each with what training has."""
    ours, theirs = (
        {key: f"{spec.dtype} {list(spec.shape)}" for key, spec in spaces.obs.items()}
        | {"action": f"{spaces.action.kind} {list(spaces.action.num) or spaces.action.width}"}
        for spaces in (found, wanted)
    )
    return ", ".join(
        f"{key} {ours.get(key, 'missing')} instead of {theirs.get(key, 'none')}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    )


def action_repeat_of(config: TrainConfig) -> int:
    """Frames per env step of the configured environment."""
    return registry.suite(config.env.suite).action_repeat(config.env.options)
