"""DrQ-v2: two updates against figures computed with facebookresearch/drqv2@c0c650b.

Weights, batches and random draws come from formulas, so that both programs have the same ones.
"""

from __future__ import annotations

import math

import pytest
import torch

from reverie.types import ActionSpec, ArraySpec, Counters
from reverie_algorithms.common.states import copy_weights
from reverie_algorithms.drq_v2.actor_critic import Draws
from tests.algorithms.small_drq import drq_agent

SIDE, BATCH, ACTIONS, STACK, STEPS = 21, 4, 2, 3, 3
FIGURES = [
    {
        "loss/critic": 3.871100902557373,
        "loss/actor": -0.20613837242126465,
        "value/mean": 0.2425955981016159,
        "value/target": 1.6237562894821167,
        "grad_norm/critic": 6.9512576189364355,
        "grad_norm/actor": 0.24450044712538632,
    },
    {
        "loss/critic": 4.054152011871338,
        "loss/actor": -0.23767435550689697,
        "value/mean": 0.2695500925183296,
        "value/target": 1.6418466567993164,
        "grad_norm/critic": 6.365489199743945,
        "grad_norm/actor": 0.17698782548771813,
    },
]
NORMS = {
    "encoder": 13.129463696401782,
    "actor": 7.515539344811923,
    "critic": 9.973943933246792,
    "critic_target": 9.971719767096637,
}
SUMS = {
    "encoder": 2.847341689895984,
    "actor": -0.6983373754628701,
    "critic": -0.2851168757333653,
    "critic_target": 0.35012537196598714,
}


def spread(*shape):
    """Evenly spread numbers in [0, 1): multiples of the golden ratio, modulo 1."""
    count = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return torch.remainder(count * 0.6180339887498949, 1).float().reshape(shape)


def filled(*shape):
    fan = math.prod(shape[1:]) if len(shape) > 1 else 100
    return (spread(*shape) - 0.5) * (4 / math.sqrt(fan))


def fill_trunk(trunk):
    weight = trunk.linear.weight  # the official features are channel-first
    size = math.isqrt(weight.shape[1] // 32)
    official = filled(*weight.shape).view(-1, 32, size, size)
    weight.copy_(official.permute(0, 2, 3, 1).flatten(1))
    for param in (trunk.linear.bias, trunk.norm.weight, trunk.norm.bias):
        param.copy_(filled(*param.shape))


@torch.no_grad()
def official_agent():
    agent = drq_agent(
        {"image": ArraySpec((SIDE, SIDE, 3), "uint8")},
        ActionSpec("box", (), ACTIONS),
        {"batch_size": BATCH},
        channels=32,
        features=8,
        hidden=16,
        lr=1e-3,
        target_fraction=0.05,
        noise_steps=1000,
    )
    for part in (agent.encoder, agent.actor.layers):
        for param in part.parameters():
            param.copy_(filled(*param.shape))
    critic = agent.learner.critic
    for part in (agent.actor, critic):
        fill_trunk(part.trunk)
    for weight, bias in zip(critic.weights, critic.biases, strict=True):
        first = filled(weight.shape[2], weight.shape[1]).T
        weight.copy_(torch.stack([first, -first]))
        first = filled(bias.shape[2]).unsqueeze(0)
        bias.copy_(torch.stack([first, -first]))
    copy_weights(agent.learner.critic_target, critic)
    return agent


def batch(number):
    shape = (2, BATCH, STACK + STEPS)
    flag = torch.zeros(shape[1:], dtype=torch.bool)
    return {
        "image": (spread(*shape, SIDE, SIDE, 3)[number] * 256).to(torch.uint8),
        "action": spread(*shape, ACTIONS)[number] * 2 - 1,
        "reward": spread(*shape)[number],
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), flag),
    }


def test_two_updates_give_the_figures_of_the_official_code(monkeypatch):
    agent = official_agent()
    for number, wanted in enumerate(FIGURES):
        shift = (spread(2, 2, BATCH, 2)[number] * 9).long().unsqueeze(1)
        noise = (spread(2, 2, BATCH, ACTIONS)[number] - 0.5) * 4
        draws = Draws(shift, noise)
        monkeypatch.setattr(agent.learner, "draws", lambda *_, drawn=draws: drawn)
        counters = Counters(env_steps=500 + number)
        metrics, _ = agent.update({"replay": batch(number)}, counters)
        found = {key: metrics[key].item() for key in wanted}
        assert found == pytest.approx(wanted, rel=1e-4)
    parts = agent.modules() | agent.targets()
    flat = {k: torch.cat([p.double().flatten() for p in m.parameters()]) for k, m in parts.items()}
    assert {k: v.norm().item() for k, v in flat.items()} == pytest.approx(NORMS, rel=1e-5)
    assert {k: v.sum().item() for k, v in flat.items()} == pytest.approx(SUMS, rel=1e-3)
