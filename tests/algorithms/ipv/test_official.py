"""IPV: three updates against figures computed with thuml/ContextWM@3a8bca8.

Weights, frames and random draws come from formulas; the weights were copied there into the order
that its feature maps are flattened in. The first update there, on random numbers, which only makes
its layers, was left out of the running statistics.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from reverie import registry
from reverie.config import resolve_algorithm
from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.dreamer.video.context import AttentionNoise, ContextNoise
from tests.algorithms.dreamer_v2.test_official import fill, spread

BATCH, TIME, STOCH = 3, 5, 4
FIGURES: dict[str, dict[str, list[float]]] = {
    "resnet": {
        "loss/image": [1268.66553, 1264.71826, 1260.08935],
        "loss/kl": [0.00659181, 0.00619213, 0.00849901],
        "entropy/posterior": [6.42061615, 6.41505766, 6.40935659],
        "entropy/prior": [6.41687870, 6.41693115, 6.41691685],
        "loss/model": [1268.67211, 1264.72449, 1260.09790],
        "grad_norm/model": [2685.94922, 2675.77808, 2666.32568],
    },
    "contextual": {
        "loss/image": [1215.83813, 1207.09607, 1199.11121],
        "loss/kl": [0.01471715, 0.03490224],
        "entropy/posterior": [6.42469883, 6.41897345, 6.39738560],
        "entropy/prior": [6.41690397, 6.41758537, 6.41805410],
        "loss/model": [1215.85291, 1207.13098, 1199.17639],
        "grad_norm/model": [2706.61548, 2697.60254, 2681.53149],
    },
    "plain": {
        "loss/image": [1146.94104, 1140.24646, 1133.68555],
        "loss/kl": [0.00755393, 0.00572193, 0.00467577],
        "entropy/posterior": [6.42509413, 6.42599964, 6.42614460],
        "entropy/prior": [6.41709566, 6.41778708, 6.41846752],
        "loss/model": [1146.94861, 1140.25220, 1133.69019],
        "grad_norm/model": [2566.34375, 2550.90308, 2536.58936],
    },
}


FRAMES = [1, 4, 2]
"""Which frame of each window is its context."""


def make(kind: str) -> Any:
    contextual = kind == "contextual"
    networks = {"kind": "resnet" if contextual else kind, "depth": 4 if contextual else 2}
    latent = {"deter": 16, "hidden": 12, "stoch": STOCH, "classes": 5, "action_width": 50}
    raw: dict[str, Any] = {"name": "ipv", "size": "tiny", "rssm": latent}
    raw |= {"encoder": networks, "decoder": networks}
    if contextual:
        raw["context"] = {"kind": "frame", "dropout": 0.0}
    spaces = Spaces({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("box"))
    context = AgentContext(batch_size=BATCH, batch_length=TIME, seed=0)
    agent: Any = registry.algorithm("ipv")(resolve_algorithm(raw), spaces, context)
    with torch.no_grad():
        for param in agent.model.parameters():
            fill(param)
    agent.model.rssm.noise = lambda shape, generator: spread(*shape, STOCH)
    if contextual:
        agent.model._context_noise = partial(context_noise, agent)
    return agent


def context_noise(agent: Any, batch_size: int, length: int, generator: Any) -> ContextNoise:
    (decoder,) = agent.model.decoder.images.values()
    draws = [spread(batch_size * length, each.tokens).argsort(1) for each in decoder.attention]
    kept = [order[:, : len(order[0]) // 4] for order in draws]
    layers = [AttentionNoise(tokens, None, None) for tokens in kept]
    return ContextNoise(torch.tensor(FRAMES), {"image": layers})


def frames(step: int) -> dict[str, torch.Tensor]:
    image = (spread(BATCH, TIME, 64, 64, 3) * 256 + 31 * step).to(torch.int64).remainder(256).byte()
    return {"image": image, "is_first": torch.zeros(BATCH, TIME, dtype=torch.bool)}


@pytest.mark.parametrize("kind", FIGURES)
def test_updates_equal_the_official_ones(kind: str) -> None:
    agent = make(kind)
    found = [agent.update({"video": frames(step)}, Counters())[0] for step in range(3)]
    for name, wanted in FIGURES[kind].items():
        values = [float(metrics[name]) for metrics in found]
        assert values[: len(wanted)] == pytest.approx(wanted, rel=1e-4), name


def test_the_published_sizes_are_met_to_the_parameter() -> None:
    spaces = Spaces({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("box"))
    context = AgentContext(batch_size=1, batch_length=1, seed=0, device="meta")
    for kind, encoder, af_rssm, decoder in (
        ("resnet", 1_562_112, 14_745_600, 7_519_227),
        ("plain", 1_551_312, 13_172_736, 11_152_275),
    ):
        networks = {"kind": kind}
        raw = {"name": "ipv", "encoder": networks, "decoder": networks}
        with torch.device("meta"):
            agent = registry.algorithm("ipv")(resolve_algorithm(raw), spaces, context)
        modules, targets = agent.module_sizes()
        assert modules == {"encoder": encoder, "af_rssm": af_rssm, "decoder": decoder}
        assert not targets


def test_a_context_adds_what_is_published() -> None:
    spaces = Spaces({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("box"))
    context = AgentContext(batch_size=1, batch_length=1, seed=0, device="meta")
    raw = {"name": "ipv", "context": {"kind": "frame"}}
    with torch.device("meta"):
        agent = registry.algorithm("ipv")(resolve_algorithm(raw), spaces, context)
    modules, _ = agent.module_sizes()
    assert modules["context_encoder"] == modules["encoder"] == 1_562_112
    assert modules["decoder"] == 7_519_227 + 259_776
    assert sum(modules.values()) == 25_648_827
