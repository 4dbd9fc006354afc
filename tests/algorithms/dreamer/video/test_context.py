"""ContextWM's context: which frame, which tokens, and that the decoder hears of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reverie.types import ArraySpec
from reverie_algorithms.dreamer.elu_images import EluObsConfig
from reverie_algorithms.dreamer.elu_rssm import EluRSSMConfig, KLConfig
from reverie_algorithms.dreamer.video.context import ContextConfig, CrossAttention, choose_frames
from reverie_algorithms.dreamer.video.video_rssm import VideoRSSM

OBS = {"image": ArraySpec((32, 32, 3), "uint8"), "wrist": ArraySpec((16, 32, 3), "uint8")}


def make(kind: str = "resnet", **context: Any) -> VideoRSSM:
    torch.manual_seed(0)
    net = EluObsConfig(kind=kind, depth=4)  # pyright: ignore
    rssm = EluRSSMConfig(deter=8, hidden=8, stoch=2, classes=2, action_width=3)
    return VideoRSSM(OBS, rssm, net, net, KLConfig(), ContextConfig(kind="frame", **context)).eval()


def windows(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = {
        key: torch.randint(256, (2, 4, *spec.shape), generator=generator).byte()
        for key, spec in OBS.items()
    }
    return rows | {"is_first": torch.zeros(2, 4, dtype=torch.bool)}


def means(model: VideoRSSM, inputs: Any, seed: int = 1) -> dict[str, torch.Tensor]:
    noise = model.noise(2, 4, torch.Generator().manual_seed(seed)).context
    return model.image_means(torch.ones(2, 4, model.rssm.feat_size), inputs, noise)


@torch.no_grad()
def test_frames_of_equal_state_differ_by_their_context_alone() -> None:
    model = make()
    inputs = model.keys.inputs(model.prepare(windows()))
    one = means(model, inputs)
    swapped = means(model, {key: value.flip(0) for key, value in inputs.items()})
    for key, spec in OBS.items():
        assert one[key].shape == (2, 4, *spec.shape)
        assert not torch.allclose(one[key], swapped[key])
        # Each frame sees tokens of its own.
        assert not torch.allclose(one[key][:, 0], one[key][:, 1])


@torch.no_grad()
def test_with_all_tokens_frames_of_equal_state_are_equal() -> None:
    model = make(kept=1.0)
    inputs = model.keys.inputs(model.prepare(windows()))
    for mean in means(model, inputs).values():
        torch.testing.assert_close(mean[:, 0], mean[:, 3])


@torch.no_grad()
def test_the_state_knows_nothing_of_the_context() -> None:
    model = make()
    data = model.prepare(windows())
    embed = model.encoder(model.keys.inputs(data))
    assert embed.shape[:2] == (2, 4)
    assert not any("context" in name for name, _ in model.encoder.named_parameters())


@pytest.mark.parametrize(("choice", "wanted"), [("first", {0}), ("last", {5})])
def test_a_fixed_choice(choice: str, wanted: set[int]) -> None:
    assert set(choose_frames(choice, 50, 6, torch.Generator()).tolist()) == wanted


def test_a_random_choice_is_uniform() -> None:
    found = choose_frames("random", 6000, 6, torch.Generator().manual_seed(0)).bincount()
    assert found.min() > 900
    assert len(found) == 6


def test_tokens_are_kept_without_repeats_and_dropped_in_training_only() -> None:
    layer = CrossAttention((8, 8), 8, ContextConfig())
    noise = layer.noise(30, torch.Generator(), training=True)
    assert noise.kept_MK.shape == (30, 16)
    assert all(len(set(row.tolist())) == 16 for row in noise.kept_MK)
    assert noise.weights is not None
    assert noise.outputs is not None
    assert 0.85 < float(noise.weights.float().mean()) < 0.95
    still = layer.noise(30, torch.Generator(), training=False)
    assert still.weights is None
    assert still.outputs is None


def test_networks_without_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'frame' wants encoder.kind and decoder.kind 'resnet'"):
        make("plain")


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"context.heads: expected a divisor of the 16 channels"):
        make(heads=3)


def test_a_report_takes_the_same_frames_each_time() -> None:
    model, data = make(), None
    data = model.prepare(windows())
    films = [model.open_loop(data, 2, torch.Generator().manual_seed(5))["image"] for _ in range(2)]
    assert torch.equal(*films)
