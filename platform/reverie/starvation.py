"""Says why a run finds nothing to sample in its replay, and what to change."""

from __future__ import annotations

from collections.abc import Mapping

from reverie.config import TrainConfig
from reverie.errors import RunError
from reverie.protocols import StreamSpec

PATIENCE = 1_000
"""Env steps without a window, beyond the prefill, that are told once."""


class NeverTrained(RunError):
    """A run that was to train and found no window to train on; its checkpoint is kept."""


def reason(
    config: TrainConfig, specs: Mapping[str, StreamSpec], env_steps: int, longest: int
) -> str:
    """Why no window could be drawn after `env_steps` by an agent that samples `specs` (one at
    least), and the key to change; `longest` is the decisions of the longest episode that has
    ended, 0 where none has.
    """
    spec = max(specs.values(), key=lambda spec: spec.window_length)
    own = getattr(config.algorithm, "batch_length", None)
    key = f"{'algorithm' if own else 'learner'}.batch_length"
    wanted = f"no window of {spec.window_length} rows in the replay after {env_steps:,} env steps"
    rows = longest + 1  # one row for each decision, one for the observation after the last
    if spec.sampler != "episodes":
        return (
            f"{key}: {wanted}: each of {config.num_streams} environments brings its own rows, and "
            f"begins a new series of them when it is rebuilt; write a smaller {key}, fewer "
            "resources.envs_per_worker, or more run.env_steps"
        )
    if not longest:
        return (
            f"run.env_steps: {wanted}: whole episodes are drawn, and none has ended yet; put a "
            "gymnasium.wrappers.TimeLimit around the environment, or write more run.env_steps"
        )
    if rows > config.replay.capacity // config.resources.num_shards:
        return (
            f"replay.capacity: {wanted}: whole episodes are kept, and the longest had {rows:,} "
            f"rows; write replay.capacity={rows * config.resources.num_shards} or more"
        )
    if rows >= spec.window_length:
        return f"run.env_steps: {wanted}: the first episode of that length has only just ended"
    return (
        f"{key}: {wanted}: windows lie in one episode, and the longest had {rows:,} rows; write "
        f"{key}={max(1, rows - spec.context)} or less"
    )
