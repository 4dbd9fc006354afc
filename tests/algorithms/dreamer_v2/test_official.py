"""DreamerV2: two updates against figures computed with thuml/HarmonyDream@0a22e33, wmlib-torch.

Weights, batches and random draws come from formulas, so that both programs have the same ones.
One thing was changed there: its actor loss adds the entropy in place to the returns that the
critic learns from afterwards; it got a copy.
"""

from __future__ import annotations

import pytest
import torch

from reverie.types import ActionSpec, ArraySpec, Counters
from reverie_algorithms.common.states import copy_weights
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_nets import EluHeadConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig
from tests.algorithms.small_v2 import nano_v2

BATCH, TIME = 3, 5
OBS = {"image": ArraySpec((64, 64, 3), "uint8")}
CASES = {
    "box": ActionSpec("box", (), 2),
    "discrete": ActionSpec("discrete", (3,)),
    "multidiscrete": ActionSpec("multidiscrete", (3, 2)),
    "resnet": ActionSpec("box", (), 2),
}
STEPS = 2


def spread(*shape):
    """Evenly spread numbers in [0, 1): multiples of the golden ratio, modulo 1."""
    count = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return torch.remainder(count * 0.6180339887498949, 1).float().reshape(shape)


def official_agent(case):
    kind = "resnet" if case == "resnet" else "plain"
    net = EluObsConfig(kind=kind, depth=2)
    agent = nano_v2(
        OBS,
        CASES[case],
        rssm=EluRSSMConfig(deter=16, hidden=12, stoch=4, classes=5),
        encoder=net,
        decoder=net,
        heads=EluHeadConfig(layers=2, units=16),
        free_nats=1e-3,
        discount_head=case != "box",
        horizon=5,
        context={"batch_size": BATCH, "batch_length": TIME},
    )
    with torch.no_grad():
        for param in agent.world_model.parameters():
            fill(param)
        for part in (agent.actor, agent.behavior.critic):
            for param in part.parameters():
                fill(param)
    copy_weights(agent.behavior.target_critic, agent.behavior.critic)
    for log_sigma in agent.harmony.log_sigma.values():
        torch.nn.init.constant_(log_sigma, 0.25)
    action_noise, stoch = agent.actions.noise, agent.config.rssm.stoch
    agent.rssm.noise = lambda shape, generator: spread(*shape, stoch)
    agent.actions.noise = lambda shape, generator: spread(*action_noise(shape, generator).shape)
    return agent


def fill(param):
    scale = 2 / param[0].numel() ** 0.5 if param.ndim > 1 else 0.2
    param.copy_((spread(*param.shape) - 0.5) * scale + (param.ndim == 1) * 0.3)


def rows(step, action):
    shape = (BATCH, TIME)
    flags = torch.zeros(shape, dtype=torch.bool)
    is_last, is_terminal, is_first = flags.clone(), flags.clone(), flags.clone()
    is_last[0, 2] = is_terminal[0, 2] = is_first[0, 3] = True
    draws = spread(*shape, max(1, len(action.shape) and action.shape[0]))
    if action.kind == "box":
        chosen = draws * 2 - 1
    else:
        chosen = (draws * torch.tensor(action.num)).long().reshape(*shape, *action.shape)
    return {
        "image": (spread(*shape, 64, 64, 3) * 256 + 31 * step)
        .to(torch.int64)
        .remainder(256)
        .byte(),
        "action": chosen,
        "reward": spread(*shape) * 3 - 1,
        "is_first": is_first,
        "is_last": is_last,
        "is_terminal": is_terminal,
    }


def metrics_of(agent, case):
    update = [agent.update({"replay": rows(n, CASES[case])}, Counters())[0] for n in range(STEPS)]
    return [{key: value.item() for key, value in metrics.items()} for metrics in update]


FIGURES: dict[str, dict[str, list[float]]] = {
    "box": {
        "loss/image": [1146.94, 1125.14],
        "loss/reward": [0.345106, 0.345347],
        "loss/kl": [0.00605007, 0.00355968],
        "loss/model": [895.99, 878.131],
        "grad_norm/model": [2188.96, 2143.95],
        "grad_norm/actor": [0.0090044, 0.00914829],
        "grad_norm/critic": [2.30056, 2.23518],
        "loss/actor": [-1.46405, -1.45421],
        "loss/critic": [0.882594, 0.830542],
        "entropy/actor": [1.35892, 1.36031],
        "return/mean": [1.67383, 1.65698],
        "value/slow": [0.460166, 0.479988],
    },
    "discrete": {
        "loss/image": [1146.94, 1125.14],
        "loss/reward": [0.343541, 0.344531],
        "loss/kl": [0.00534376, 0.00277409],
        "loss/discount": [0.526906, 0.521077],
        "loss/model": [896.513, 878.65],
        "grad_norm/model": [2188.96, 2143.95],
        "grad_norm/actor": [0.0340425, 0.0393075],
        "grad_norm/critic": [0.763153, 0.73117],
        "loss/actor": [0.370657, 0.350389],
        "loss/critic": [0.151819, 0.14012],
        "entropy/actor": [1.09266, 1.09287],
        "return/mean": [1.00644, 1.0057],
        "value/slow": [0.46099, 0.486705],
    },
    "multidiscrete": {
        "loss/image": [1146.94, 1125.13],
        "loss/reward": [0.344827, 0.342369],
        "loss/kl": [0.00683986, 0.00352385],
        "loss/discount": [0.526164, 0.518491],
        "loss/model": [896.517, 878.645],
        "grad_norm/model": [2188.96, 2143.95],
        "grad_norm/actor": [0.0567279, 0.0523283],
        "grad_norm/critic": [0.777904, 0.747441],
        "loss/actor": [0.619941, 0.590267],
        "loss/critic": [0.155948, 0.144269],
        "entropy/actor": [1.77857, 1.77899],
        "return/mean": [1.01619, 1.01861],
        "value/slow": [0.464075, 0.49137],
    },
    "resnet": {
        "loss/image": [1268.63, 1255.15],
        "loss/reward": [0.350895, 0.33386],
        "loss/kl": [0.00509848, 0.0136844],
        "loss/discount": [0.526671, 0.51771],
        "loss/model": [991.291, 979.804],
        "grad_norm/model": [2313.24, 2284.18],
        "grad_norm/actor": [0.00386824, 0.00372293],
        "grad_norm/critic": [0.780021, 0.744245],
        "loss/actor": [-0.686324, -0.68691],
        "loss/critic": [0.156954, 0.143316],
        "entropy/actor": [1.35893, 1.35986],
        "return/mean": [1.01556, 1.01405],
        "value/slow": [0.46224, 0.488718],
    },
}


@pytest.mark.parametrize("case", FIGURES)
def test_updates_match_the_official_code(case):
    got = metrics_of(official_agent(case), case)
    for name, values in FIGURES[case].items():
        assert [m[name] for m in got[: len(values)]] == pytest.approx(values, rel=1e-4), name
