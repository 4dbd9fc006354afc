"""Small real parts for tests: suites and agents that run the whole path, found as `tests.fakes:X`.

The two stub agents prove the interface: one owns an imagined buffer and draws two streams of
different shapes and rates, the other acts by searching in a learned table.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from reverie.group import ALONE, Alone
from reverie.protocols import AgentContext, EvalProtocol, StreamSpec
from reverie.types import STEP_ID, STRICT, ActionSpec, ArraySpec, Rows, Spaces
from reverie_algorithms.common.initialise import take
from reverie_algorithms.common.optim import Adam, AdamGroup

EPISODE = 7


class WatchedGroup(Alone):
    """A single learner's group that remembers what it was asked to average and to gather."""

    def __init__(self) -> None:
        self.averaged: list[tuple[int, ...]] = []
        """Shapes."""
        self.calls = 0
        """Of `mean_`."""
        self.gathered: list[tuple[int, ...]] = []

    def mean_(self, tensors: Any) -> None:
        self.calls += 1
        self.averaged += [tuple(tensor.shape) for tensor in tensors]

    def gather(self, tensor: Tensor) -> Tensor:
        self.gathered.append(tuple(tensor.shape))
        return super().gather(tensor)


class Zeroing(Alone):
    """A group whose mean of anything is 0."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def mean_(self, tensors: Any) -> None:
        for tensor in tensors:
            self.seen.append(tuple(tensor.shape))
            tensor.zero_()


class CountingEnv(gymnasium.Env[Any, Any]):
    """Counts its steps in the observation; an episode has `length` decisions."""

    def __init__(
        self,
        length: int = EPISODE,
        delay_s: float = 0.0,
        fault: str = "",
        at: int = 20,
        build_s: float = 0.0,
        note: str = "",
    ):
        time.sleep(build_s)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
                "count": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(3)
        self._length, self._delay_s, self._fault, self._at = length, delay_s, fault, at
        self._steps, self._total, self._note = 0, 0, note

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._total += 1
        if self._note:
            Path(self._note).touch()
        if self._delay_s:
            time.sleep(self._delay_s)
        obs = self._obs()
        if self._fault and self._total == self._at:
            obs = self._break(obs)
        return obs, float(action == 1), self._steps >= self._length, False, {}

    def _obs(self) -> dict[str, Any]:
        image = self.np_random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return {"image": image, "count": np.array([self._steps, self._total], np.float32)}

    def _break(self, obs: dict[str, Any]) -> dict[str, Any]:
        if self._fault == "raise":
            raise ZeroDivisionError("the simulator fell over")
        if self._fault == "hang":
            time.sleep(3600)
        if self._fault == "nan":
            return obs | {"count": np.full(2, np.nan, np.float32)}
        if self._fault == "shape":
            return obs | {"count": np.zeros(3, np.float32)}
        return obs


class Counting:
    """Suite of `CountingEnv`s."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Options of the counting environment."""

        __pydantic_config__: ClassVar[Any] = STRICT
        length: int = EPISODE
        """Decisions per episode."""
        delay_s: float = 0.0
        """Seconds each step takes."""
        fault: str = ""
        """raise, hang, nan or shape."""
        at: int = 20
        """Step of an environment's life at which the fault happens."""
        build_s: float = 0.0
        """Seconds that building one takes."""
        note: str = ""
        """File that comes to be with the first step."""

    extra: str | None = None
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return ("count",)

    def action_repeat(self, config: Any) -> int:
        return 1

    def protocol(self, task: str, config: Any) -> EvalProtocol:
        return EvalProtocol("counting-v1", "sample", 2)

    def make(self, task: str, config: Any) -> gymnasium.Env[Any, Any]:
        return CountingEnv(
            config.length, config.delay_s, config.fault, config.at, config.build_s, config.note
        )


class WinningEnv(CountingEnv):
    """Says `log/won` in the last step of every second episode, and nothing elsewhere."""

    _episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._episodes += 1
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = super().step(action)
        won = terminated and self._episodes % 2 == 0
        return obs, reward, terminated, truncated, {"log/won": 1.0} if won else {}


class Scored(Counting):
    """Suite with a figure of its own: the share of episodes won."""

    def scores(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"won_percent": 100 * means["won_max"]}

    def make(self, task: str, config: Any) -> gymnasium.Env[Any, Any]:
        return WinningEnv(config.length)


class CountingMany(Counting):
    """The counting environment as one native vector environment of any width."""

    def make_vector(self, task: str, config: Any, count: int, seeds: Any) -> CountingVector:
        return CountingVector(count, config.length, seeds)


class CountingVector:
    """N counters in one array; stands for a simulator that steps thousands at once."""

    def __init__(self, count: int, length: int, seeds: Any) -> None:
        self.num_envs, self._length = count, length
        obs = {"count": ArraySpec((2,), "float32"), "image": ArraySpec((4, 4, 3), "uint8")}
        self.spaces = Spaces(obs, ActionSpec("discrete", (3,)))
        self._steps = np.full(count, length)
        self._total = np.zeros(count)
        self._rows: Rows = {}

    def step(self, actions: Any, mask: Any) -> Rows:
        reset = mask & (self._steps >= self._length)
        self._steps = np.where(reset, 0, self._steps + mask)
        self._total += mask & ~reset
        last = self._steps >= self._length
        rows = {
            "count": np.stack([self._steps, self._total], 1).astype(np.float32),
            "image": np.repeat(self._steps.astype(np.uint8), 48).reshape(-1, 4, 4, 3),
            "reward": np.where(reset, 0, actions == 1).astype(np.float32),
            "is_first": reset,
            "is_last": last,
            "is_terminal": last,
        }
        if not self._rows:
            self._rows = rows
        for key, value in rows.items():
            self._rows[key][mask] = value[mask]
        return self._rows

    def restart(self, mask: Any) -> None:
        self._steps = np.where(mask, self._length, self._steps)

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StubConfig:
    """Options of the stub agents."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: str = ""
    """Registered name."""
    nan_at: int = -1
    """Update whose loss is not a number."""
    bug_at: int = -1
    """Update that raises."""
    kill_at: int = -1
    """Update at which the process ends itself with SIGKILL, once per folder `kill_flag`."""
    kill_flag: str = ""
    """File that remembers that it happened."""
    at_most: int = 0
    """Most actions the agent can express; 0 means any number."""


def adam(module: nn.Module) -> Adam:
    return Adam([AdamGroup(dict(module.named_parameters()), 1e-2, 1e-8, None)], ALONE)


def restore(optimizer: Adam, state: Any) -> None:
    for name, kept in optimizer.state().items():
        for key, value in kept.items():
            value.copy_(state[name][key])


class Stub:
    """Shared by the stub agents: a linear policy on the vector key."""

    Config = StubConfig
    PAPER = ""
    SIZES: ClassVar[dict[str, Any]] = {}
    COMPILABLE = ()

    def __init__(self, config: StubConfig, spaces: Spaces, context: AgentContext) -> None:
        self.config, self.spaces, self.context = config, spaces, context
        if 0 < config.at_most < spaces.action.flat_size:
            raise ValueError(
                f"at_most: expected at least {spaces.action.flat_size} actions,"
                f" got {config.at_most}"
            )
        self.learn_rng = torch.Generator().manual_seed(context.seed)
        self.act_rng = torch.Generator().manual_seed(context.seed + 1)
        self.net = nn.Linear(2, spaces.action.flat_size)
        with torch.no_grad():
            self.net.weight.zero_()
            self.net.bias.zero_()
        self.optimizer = adam(self.net)
        self.updates = 0
        self.frozen: Any = ()

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def streams(self) -> dict[str, StreamSpec]:
        return {"replay": StreamSpec(self.context.batch_size, self.context.batch_length)}

    def learn(self, obs: Tensor, reward: Tensor) -> Tensor:
        self.updates += 1
        self._misbehave()
        loss = ((self.net(obs.tanh()).sum(-1) - reward) ** 2).mean()
        self.descend(self.optimizer, "policy", loss)
        return loss.detach() * (float("nan") if self.updates == self.config.nan_at else 1.0)

    def _misbehave(self) -> None:
        if self.updates == self.config.bug_at:
            raise AttributeError("a bug in the learner")
        flag = Path(self.config.kill_flag)
        if self.updates == self.config.kill_at and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def act(self, obs: Rows, carry: Any, mode: str, counters: Any) -> Any:
        logits = self.net(torch.from_numpy(obs["count"]).tanh()).detach()
        action = torch.multinomial(logits.softmax(-1), 1, generator=self.act_rng)[:, 0]
        return action.numpy(), {"seen": carry["seen"] * ~obs["is_first"] + 1}

    def initial_carry(self, count: int) -> dict[str, Any]:
        return {"seen": np.zeros(count, np.int64)}

    def report(self, batches: Any) -> Any:
        image = next(iter(batches.values()))["image"][0]
        return {"batch": image.numpy().copy()}, {"rows": float(len(image))}

    def policy_state(self) -> dict[str, Any]:
        return {k: v.numpy().copy() for k, v in self.net.state_dict().items()}

    def load_policy_state(self, state: Any) -> None:
        self.net.load_state_dict({k: torch.tensor(v) for k, v in state.items()})

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.net}

    def initialise(self, state: Any, modules: Any) -> Any:
        return take(self.modules(), state, modules)

    def freeze(self, tensors: Any) -> None:
        self.frozen = tensors

    def descend(self, optimizer: Adam, module: str, loss: Tensor) -> None:
        """Take a step that leaves alone what is frozen."""
        optimizer.frozen = {key for key in optimizer.params if f"{module}/{key}" in self.frozen}
        optimizer.step(loss)

    def state_dict(self) -> dict[str, Any]:
        return {
            "modules": {name: module.state_dict() for name, module in self.modules().items()},
            "optimizer": self.optimizer.state(),
            "updates": self.updates,
            "rng": self.learn_rng.get_state(),
        }

    def load_state_dict(self, state: Any) -> None:
        for name, module in self.modules().items():
            module.load_state_dict(state["modules"][name])
        restore(self.optimizer, state["optimizer"])
        self.updates = state["updates"]
        self.learn_rng.set_state(state["rng"])

    def module_sizes(self) -> Any:
        return {"policy": sum(p.numel() for p in self.net.parameters())}, {}


class Plain(Stub):
    """One stream, one regression; the checksum of each batch is its metric."""

    def update(self, batches: Any, counters: Any) -> Any:
        batch = batches["replay"]
        loss = self.learn(batch["count"].float(), batch["reward"])
        ids = (batch[STEP_ID] % 1_000_003).double().sum()
        return {"loss/plain": loss, "batch_ids": ids}, {}


class Wider(Plain):
    """Takes no state but its own kind's, and names what differs."""

    def load_state_dict(self, state: Any) -> None:
        raise ValueError("load_state_dict: tensor 'net.extra' is missing")

    def load_policy_state(self, state: Any) -> None:
        raise ValueError("load_policy_state: tensor 'net.extra' is missing")


class TwoStreams(Stub):
    """Single transitions every update, segments every third, and a buffer of imagined rows."""

    def __init__(self, config: StubConfig, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.model = nn.Linear(2, 2)
        self.model_optimizer = adam(self.model)
        self.imagined = torch.zeros(256, 2)
        self.filled = 0

    def modules(self) -> dict[str, nn.Module]:
        return super().modules() | {"model": self.model}

    def streams(self) -> dict[str, StreamSpec]:
        size = self.context.batch_size
        transitions = StreamSpec(size, 1, context=1)
        return {"transitions": transitions, "segments": StreamSpec(2, 12, every=3)}

    def update(self, batches: Any, counters: Any) -> Any:
        metrics = {}
        if "segments" in batches:
            metrics["loss/model"] = self._fit_model(batches["segments"]["count"].float())
        real = batches["transitions"]
        assert real["count"].shape[1] == 2, real["count"].shape
        mixed = torch.cat([real["count"][:, 1].float(), self._draw_imagined()])
        reward = torch.cat([real["reward"][:, 1], torch.zeros(len(mixed) - len(real["reward"]))])
        metrics["loss/policy"] = self.learn(mixed, reward)
        metrics["imagined"] = torch.tensor(float(self.filled))
        return metrics, {STEP_ID: real[STEP_ID], "priority": real["reward"].abs()}

    def _fit_model(self, count: Tensor) -> Tensor:
        loss = ((self.model(count[:, :-1].tanh()) - count[:, 1:].tanh()) ** 2).mean()
        self.descend(self.model_optimizer, "model", loss)
        with torch.no_grad():
            rolled = self.model(count[:, -1].tanh())
        at = torch.arange(self.filled, self.filled + len(rolled)) % len(self.imagined)
        self.imagined[at] = rolled
        self.filled += len(rolled)
        return loss.detach()

    def _draw_imagined(self) -> Tensor:
        have = min(self.filled, len(self.imagined))
        if not have:
            return self.imagined[:0]
        draw = torch.randint(have, (4,), generator=self.learn_rng)
        return self.imagined[draw]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "model_optimizer": self.model_optimizer.state(),
            "imagined": self.imagined,
            "filled": self.filled,
        }

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        restore(self.model_optimizer, state["model_optimizer"])
        self.imagined, self.filled = state["imagined"].clone(), state["filled"]


class Planner(Stub):
    """Searches random action sequences in a learned reward table; draws whole episodes."""

    HORIZON, CANDIDATES = 4, 16

    def __init__(self, config: StubConfig, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        self.rewards = torch.zeros(spaces.action.flat_size)

    def streams(self) -> dict[str, StreamSpec]:
        length = self.context.batch_length
        return {"episodes": StreamSpec(self.context.batch_size, length, sampler="episodes")}

    def update(self, batches: Any, counters: Any) -> Any:
        batch = batches["episodes"]
        action, reward = batch["action"][:, :-1], batch["reward"][:, 1:]
        for choice in range(len(self.rewards)):
            chosen = (action == choice).float()
            mean = (reward * chosen).sum() / chosen.sum().clamp(min=1)
            self.rewards[choice] = torch.where(chosen.sum() > 0, mean, self.rewards[choice])
        return {"loss/table": self.learn(batch["count"].float(), batch["reward"])}, {}

    def act(self, obs: Rows, carry: Any, mode: str, counters: Any) -> Any:
        count = len(obs["is_first"])
        shape = (count, self.CANDIDATES, self.HORIZON)
        plans = torch.randint(len(self.rewards), shape, generator=self.act_rng)
        best = self.rewards[plans].sum(-1).argmax(-1)
        return plans[torch.arange(count), best, 0].numpy(), carry

    def policy_state(self) -> dict[str, Any]:
        return {"rewards": self.rewards.numpy().copy()}

    def load_policy_state(self, state: Any) -> None:
        self.rewards = torch.tensor(state["rewards"])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rewards": self.rewards}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.rewards = state["rewards"].clone()


def tree(agent: str = "Plain", suite: str = "Counting", **overrides: Any) -> dict[str, Any]:
    """A configuration tree of stub parts; keyword `a__b=c` sets `a.b`."""
    from reverie.config_tree import apply_overrides

    base: dict[str, Any] = {
        "algorithm": {"name": f"tests.fakes:{agent}"},
        "env": {"suite": f"tests.fakes:{suite}", "task": "count"},
        "replay": {"chunk_length": 16, "capacity": 5_000},
        "learner": {"training_ratio": 4, "batch_size": 4, "batch_length": 5},
        "eval": {"every": 0, "episodes": 2, "envs": 2},
        "run": {"env_steps": 400, "prefill": 40, "log_every_s": 0.5},
        "logging": {"tensorboard": False},
    }
    return apply_overrides(base, {k.replace("__", "."): v for k, v in overrides.items()})
