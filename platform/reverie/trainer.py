"""A run that learns from an environment, from its configuration to its summary."""

from __future__ import annotations

import logging

from reverie import env_factory, evaluator, registry, wiring
from reverie.config import TrainConfig
from reverie.init_from import Source
from reverie.links import Backend
from reverie.run_loop import STARTING, RunLoop, Start, no_ray
from reverie.run_record import Progress, Summary, TrainRecord
from reverie.starvation import PATIENCE, NeverTrained, reason
from reverie.types import Counters
from reverie.wiring import Events

log = logging.getLogger(__name__)


class Trainer(RunLoop[TrainConfig, Progress, Summary]):
    """Trains one agent in its environment, in this process (`local=True`) or as Ray actors.

    Arguments and errors are those of `RunLoop`. `run` may raise `NeverTrained` besides: the replay
    never held what the agent samples; nothing is evaluated.
    """

    _asks_at: int | None = None
    """Env steps at which it is time to say why nothing is learned; None: there is no need."""

    def _prepare(self, source: Source | None) -> Start:
        spaces = env_factory.spaces_of(self.config.env)
        evaluator.check_eval_env(self.config, spaces)
        self._asks_at = self.config.run.prefill + PATIENCE
        return Start(
            spaces=spaces,
            protocol=evaluator.protocol_of(self.config).id,
            assets=registry.suite(self.config.env.suite).assets(self.config.env.task),
            taken=wiring.try_agent(self.config, spaces, self._checkpoint, source),
        )

    def _make_record(self) -> TrainRecord:
        return TrainRecord(self.config, self._checkpoint)

    def _make_backend(self, local: bool, address: str | None, source: Source | None) -> Backend:
        parts = self.config, self.spaces, self.folder, self._checkpoint, source
        if local:
            from reverie.local_run import LocalRun

            log.info(STARTING)
            return LocalRun(*parts, should_stop=self._signals.told)
        try:
            from reverie.cluster.run import RayRun
        except ModuleNotFoundError as error:
            raise no_ray(error) from error
        log.info(STARTING)
        return RayRun(*parts, address=address, should_stop=self._signals.told)

    def _show(self, events: Events) -> None:
        counters = self._record.counters()
        for result in events.evaluated:
            at = Counters(
                env_steps=result.env_steps,
                env_frames=result.env_steps * evaluator.action_repeat_of(self.config),
                grad_updates=result.grad_updates,
                trained_steps=counters.trained_steps,
                episodes=counters.episodes,
            )
            self._metrics.write(result.metrics(), at)
            log.info(
                "evaluation at %d env steps: score %.2f over %d %s (%s)",
                result.env_steps,
                result.score,
                len(result.episodes),
                "episode" if len(result.episodes) == 1 else "episodes",
                result.protocol,
            )

    def _after_step(self) -> None:
        """Say once why steps are taken that nothing can be learned from, while there is time."""
        if self._asks_at is None or self.progress.env_steps < self._asks_at:
            return
        missing = PATIENCE - int(self._backend.facts()["uncounted_steps"])
        if self.progress.grad_updates or not self.config.learner.training_ratio:
            self._asks_at = None
        elif missing > 0:
            self._asks_at = self.progress.env_steps + missing
        else:
            self._asks_at = None
            log.warning("nothing is learned yet: %s", self._why_hungry())

    def _check_end(self) -> None:
        """Raise `NeverTrained` at the end of a run that was to train and never did."""
        if self.progress.grad_updates or not self.config.learner.training_ratio:
            return
        if not wiring.agent_streams(self.config, self.spaces):
            return
        self._sum_up()
        raise NeverTrained(
            f"{self._why_hungry()}; no update was made and nothing evaluated, state and replay "
            f"are kept: reverie resume {self._home.shown} with that and a larger run.env_steps"
        )

    def _why_hungry(self) -> str:
        specs = wiring.agent_streams(self.config, self.spaces)
        progress = self.progress
        return reason(self.config, specs, progress.env_steps, progress.longest_episode)
