"""The learner of a run that acts: it publishes its weights, and pins them for evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reverie.config import TrainConfig
from reverie.group import ALONE, Group
from reverie.learner import Learner
from reverie.links import Batches, Ready, Weights
from reverie.protocols import StreamSpec
from reverie.types import Spaces, Tensors


class PolicyLearner(Learner):
    """Trains one agent on the batches it is given, for others to act with.

    Before it waits or returns for want of a batch, it publishes what it has learned.

    Args:
        weights: link to the weight store, a plain object in one process.
        batches, incarnation, group: as for `Learner`.
    """

    def __init__(
        self,
        config: TrainConfig,
        spaces: Spaces,
        batches: Batches,
        weights: Weights,
        *,
        device: str,
        incarnation: int = 0,
        group: Group = ALONE,
    ) -> None:
        super().__init__(
            config, spaces, batches, device=device, incarnation=incarnation, group=group
        )
        self._config, self._weights = config, weights
        self._published = -1
        self._next_pin = config.eval.every
        self._latest: Ready | None = None

    def publish(self) -> None:
        """Hand the newest weights to the weight store, if they are newer than the last."""
        if self._published < self._grad_updates:
            self._check_finite()
            self._weights.publish(self.version, self._policy_state())
            self._published = self._grad_updates

    def publish_first(self) -> None:
        """Publish the weights as they are, trained or not: workers act with them from now on."""
        self._published = -1
        self.publish()

    def pin(self, env_steps: int) -> None:
        """Pin the present weights for an evaluation and look at the latest batch."""
        self._check_finite()
        self._weights.pin(self.version, env_steps, self._policy_state())
        if self._latest is not None and self._config.eval.video:
            self._reports.append(self.report_on([self._latest.batches], env_steps))

    def state_dict(self) -> dict[str, Mapping[str, Tensors]]:
        state = super().state_dict()
        return state | {"learner": {**state["learner"], "next_pin": self._next_pin}}

    def load_state_dict(self, state: Mapping[str, Any], *, batches: int | None = None) -> None:
        super().load_state_dict(state, batches=batches)
        self._next_pin = int(state["next_pin"])
        self._published = -1

    def _before_waiting(self) -> None:
        self.publish()

    def _after_update(self, ready: Ready) -> None:
        super()._after_update(ready)
        self._latest = ready
        if self._grad_updates - max(self._published, 0) >= self._publish_every:
            self.publish()
        every, env_steps = self._config.eval.every, ready.counters.env_steps
        # The end of the budget has an evaluation of its own, of the last weights.
        if every and self._next_pin <= env_steps < self._config.run.env_steps:
            self.pin(env_steps)
            self._next_pin = (env_steps // every + 1) * every

    @property
    def _publish_every(self) -> float:
        lockstep = self._config.run.lockstep
        return float("inf") if lockstep else self._config.learner.publish_every_updates


def stream_specs(config: TrainConfig, specs: dict[str, StreamSpec]) -> dict[str, StreamSpec]:
    """The agent's streams, with `replay.freshest_first` applied to the uniform ones."""
    if not config.replay.freshest_first:
        return specs
    return {
        name: replace(spec, sampler="freshest") if spec.sampler == "uniform" else spec
        for name, spec in specs.items()
    }
