"""The learner: batches in, gradient steps."""

# torch.from_numpy has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from reverie.allocator import keep_memory
from reverie.compiling import begin_update, compile_agent
from reverie.errors import ConfigError, NonFiniteLoss
from reverie.finite import first_not_finite, first_not_finite_array
from reverie.group import ALONE, Group
from reverie.init_from import Source, initialise
from reverie.links import Batches, Ready
from reverie.metrics import MeanMetrics
from reverie.policy import make_agent
from reverie.protocols import Metrics, Videos
from reverie.run_manifest import Device, device_of
from reverie.seeds import LEARNING, derive_seed
from reverie.settings import ExperimentConfig
from reverie.stop_signals import ShouldStop, never
from reverie.types import Array, Spaces, Tensors, Version

LOSS_PREFIX = "loss/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a person may look at: pictures and figures of the weights of one moment."""

    at: int
    """Env steps; updates in pre-training."""
    videos: Videos = field(default_factory=Videos)
    metrics: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainStats:
    """What one call of `train` did."""

    updates: int
    grad_updates: int
    trained_steps: int
    waited_s: float
    """Seconds without a batch."""
    worked_s: float
    metrics: dict[str, float]
    reports: list[Report]
    device: Device | None = None
    """What the learner computes on."""


class Learner:
    """Trains one agent on the batches it is given.

    Args:
        batches: what it trains on.
        incarnation: how many learners this run had before; part of its version.
        group: the learners that take every step together.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spaces: Spaces,
        batches: Batches,
        *,
        device: str,
        incarnation: int = 0,
        group: Group = ALONE,
    ) -> None:
        self._group = group
        self._settings, self._stream = config, batches
        self._device, self._incarnation = device, incarnation
        self._computes_on = device_of(device)
        if device == "cpu":
            keep_memory()
        seed = derive_seed(config.seed, LEARNING)
        self.agent = make_agent(
            config, spaces, seed=seed, training=True, device=device, group=group
        )
        self._uses_graphs = compile_agent(self.agent, config.learner.compile, device)
        self._batch_steps = next(iter(self.agent.streams().values())).trained_steps
        self._grad_updates = 0
        self._batches = 0
        self._bad: dict[str, Tensor] = {}
        self._metrics = MeanMetrics()
        self._reports: list[Report] = []
        self._frozen: tuple[str, ...] = ()

    @property
    def version(self) -> Version:
        return Version(self._incarnation, self._grad_updates)

    def train(
        self,
        seconds: float = float("inf"),
        patience: float = 0.0,
        most: int | None = None,
        should_stop: ShouldStop = never,
    ) -> TrainStats:
        """Update until `seconds` have passed, `most` updates are made, no batch is granted or
        `should_stop`, asked before each update, says so.

        Waits for what batches are made of, and at most `patience` seconds for one to be granted.

        Raises:
            NonFiniteLoss: a loss became NaN or infinite.
        """
        begin, waited, updates = time.perf_counter(), 0.0, 0
        while time.perf_counter() - begin < seconds and updates != most:
            if should_stop():
                break
            asked = time.perf_counter()
            ready = self._stream.next()
            if ready is None:
                self._before_waiting()
                if not self._stream.wait(patience):
                    waited += time.perf_counter() - asked
                    break
                waited += time.perf_counter() - asked
                continue
            waited += time.perf_counter() - asked
            self._update(ready)
            updates += 1
        return self._stats(updates, waited, time.perf_counter() - begin - waited)

    def initialise(self, source: Source) -> None:
        """Start from parts of another run, held still for the first updates if so configured.

        Raises:
            ConfigError: a module the agent does not have, or nothing that fits.
        """
        found = initialise(self.agent, source)
        self._freeze(found.loaded if self._settings.init.freeze_updates else ())

    def start(
        self, state: Mapping[str, Tensors] | None, batches: int, source: Source | None
    ) -> None:
        """Load `state`, or else start from `source`.

        `batches` is the limiter's count: what a learner that died had trained stays counted.
        """
        if state is not None:
            self.load_state_dict(state, batches=batches)
        else:
            self._batches = batches
            if source is not None:
                self.initialise(source)

    def report_on(self, batches: Iterable[Mapping[str, Mapping[str, Tensor]]], at: int) -> Report:
        """Look at the present weights on batches that are not trained on.

        Args:
            batches: each by stream name, [B, T, ...] on the device.
            at: where the run stands, in env steps or updates.

        Returns:
            Pictures of the first batch, and the mean of each figure over all.

        Raises:
            NonFiniteLoss: rather than showing what a NaN has spoiled.
        """
        self._check_finite()
        videos: Videos | None = None
        metrics = MeanMetrics()
        for batch in batches:
            seen, figures = self.agent.report(batch)
            videos = seen if videos is None else videos
            metrics.add(figures)
        return Report(at=at, videos=videos or {}, metrics=metrics.pop())

    def state_dict(self) -> dict[str, Mapping[str, Tensors]]:
        """Everything a resumed learner needs; the policy's weights apart, for `reverie.load`.

        Raises:
            NonFiniteLoss: rather than saving a state that a NaN has spoiled.
        """
        self._check_finite()
        self._stream.settle()
        policy = {k: torch.from_numpy(v.copy()) for k, v in self._policy_state().items()}
        agent = self.agent.state_dict()
        if (name := first_not_finite(agent, "agent")) is not None:
            raise NonFiniteLoss(self._spoiled(f"tensor {name}"))
        learner = {
            "agent": agent,
            "grad_updates": self._grad_updates,
            "batches": self._batches,
            "frozen": list(self._frozen),
        }
        return {"learner": learner, "policy": policy}

    def load_state_dict(self, state: Mapping[str, Any], *, batches: int | None = None) -> None:
        """Go on from `state`; `batches` overrides its count where the limiter is ahead of it."""
        self.agent.load_state_dict(state["agent"])
        self._grad_updates = int(state["grad_updates"])
        self._batches = int(state["batches"]) if batches is None else batches
        self._freeze(tuple(state["frozen"]))

    def _update(self, ready: Ready) -> None:
        counters = replace(
            ready.counters,
            grad_updates=self._grad_updates,
            trained_steps=self._batches * self._batch_steps,
        )
        if self._frozen and self._grad_updates >= self._settings.init.freeze_updates:
            self._freeze(())
        if self._uses_graphs:
            # What the former update returned is copied by now: summed, or written back.
            begin_update()
        metrics, feedback = self.agent.update(ready.batches, counters)
        self._grad_updates += 1
        self._batches += 1
        self._watch(metrics)
        self._metrics.add(metrics)
        self._stream.trained(ready.number, feedback)
        self._after_update(ready)

    def _freeze(self, tensors: tuple[str, ...]) -> None:
        self._frozen = tensors
        self.agent.freeze(tensors)

    def _before_waiting(self) -> None:
        """There is no batch now."""

    def _after_update(self, ready: Ready) -> None:
        """An update on `ready` was made and confirmed."""
        if self._device == "cpu":
            self._check_finite()

    def _watch(self, metrics: Metrics) -> None:
        """Remember on the device which losses were ever not finite."""
        for name, value in metrics.items():
            if name.startswith(LOSS_PREFIX):
                bad = ~torch.isfinite(torch.as_tensor(value))
                self._bad[name] = self._bad[name] | bad if name in self._bad else bad

    def _check_finite(self) -> None:
        if not self._bad:
            return
        stacked = torch.stack([flag.reshape(()) for flag in self._bad.values()])
        flags = cast(list[bool], self._group.any(stacked).tolist())
        names = [name for name, bad in zip(self._bad, flags, strict=True) if bad]
        if names:
            raise NonFiniteLoss(self._spoiled(", ".join(names)))

    def _policy_state(self) -> dict[str, Array]:
        """What acting needs. Raises: NonFiniteLoss, rather than acting with what is spoiled."""
        state = dict(self.agent.policy_state())
        if (name := first_not_finite_array(state)) is not None:
            raise NonFiniteLoss(self._spoiled(f"tensor policy/{name}"))
        return state

    def _spoiled(self, what: str) -> str:
        return (
            f"{what} became NaN or infinite by update {self._grad_updates}; the last checkpoint"
            " is kept: resume from it with a smaller learning rate or learner.precision=float32"
        )

    def _stats(self, updates: int, waited: float, worked: float) -> TrainStats:
        reports, self._reports = self._reports, []
        return TrainStats(
            updates=updates,
            grad_updates=self._grad_updates,
            trained_steps=self._batches * self._batch_steps,
            waited_s=waited,
            worked_s=worked,
            metrics=self._metrics.pop() if updates else {},
            reports=reports,
            device=self._computes_on,
        )


def pick_device(wanted: str) -> str:
    """Resolve `resources.device`.

    Raises:
        ConfigError: CUDA is asked for and torch sees none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("resources.device is cuda, but torch sees no GPU on this machine")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
