"""One-step Q-learning with a small network: about the least that an algorithm consists of."""

from dataclasses import dataclass

import torch
from torch import nn

from reverie.protocols import StreamSpec
from reverie.types import STRICT
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import SavedAgent


@dataclass(frozen=True, kw_only=True, slots=True)
class QConfig:
    """The keys under `algorithm`; a typo in one of them is an error."""

    __pydantic_config__ = STRICT
    name: str
    hidden: int = 64
    """Width of the hidden layer."""
    lr: float = 1e-4
    gamma: float = 0.97
    epsilon: float = 0.1
    """Share of random actions in training."""


class QLearner(SavedAgent):
    """Learns the value of every action; acts by the best one."""

    Config = QConfig

    def __init__(self, config, spaces, context):
        super().__init__(config, spaces, context)
        if spaces.action.kind != "discrete":
            raise ValueError(f"action space: expected discrete, got {spaces.action.kind}")
        self.keys, self.choices = ObsKeys.select(spaces.obs), spaces.action.num[0]
        inputs = sum(spaces.obs[key].size for key in self.keys.names)
        hidden, choices = config.hidden, self.choices
        with self._seeded("q"):  # the weights depend on the seed and this name
            layers = nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, choices)
            self.q = nn.Sequential(*layers).to(context.device)
        self._acts_with(q=self.q)  # what is sent to the actors
        if context.training:
            group = AdamGroup(dict(self.q.named_parameters()), config.lr, eps=1e-8, clip=10.0)
            optimizers, modules = {"q": Adam([group], context.group)}, {"q": self.q}
            self._learns(modules=modules, targets={}, roots=modules, optimizers=optimizers)

    def streams(self):
        size, length = self.context.batch_size, self.context.batch_length
        return {"replay": StreamSpec(size, length, context=1)}  # one row more than transitions

    def update(self, batches, counters):
        rows = batches["replay"]
        values = self.values(rows)  # [B, T + 1, A]
        taken = values[:, :-1].gather(-1, rows["action"][:, :-1, None])[..., 0]
        going_on = ~rows["is_terminal"][:, 1:]
        after = values[:, 1:].detach().amax(-1) * going_on
        target = rows["reward"][:, 1:] + self.config.gamma * after  # a reward comes one row later
        within = ~rows["is_last"][:, :-1]  # not from one episode to the next
        loss = ((taken - target) ** 2 * within).sum() / within.sum().clamp(min=1)
        norm = self.optimizers["q"].step(loss)
        return {"loss/q": loss.detach(), "grad_norm": norm}, {}

    @torch.no_grad()
    def act(self, obs, carry, mode, counters):
        values = self.values({key: self._to_device(obs[key]) for key in self.keys.names})
        action, draws = values.argmax(-1), self.act_generator
        if mode == "train":
            other = torch.randint(self.choices, action.shape, generator=draws, device=draws.device)
            chance = torch.rand(action.shape, generator=draws, device=draws.device)
            action = torch.where(chance < self.config.epsilon, other, action)
        return action.cpu().numpy(), carry

    def initial_carry(self, count):
        return {}  # nothing is remembered between two steps

    def report(self, batches):
        rows = batches["replay"]  # one window of each camera, as a film
        return {f"seen/{key}": rows[key][0].cpu().numpy() for key in self.keys.images}, {}

    def values(self, rows):
        inputs = self.keys.inputs(rows)  # pixels in [-0.5, 0.5], symlog vectors
        flat = [inputs[key].flatten(-3) for key in self.keys.images]
        flat += [inputs[key] for key in inputs if key not in self.keys.images]
        return self.q(torch.cat(flat, -1))
