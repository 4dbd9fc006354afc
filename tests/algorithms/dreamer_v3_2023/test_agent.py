"""DreamerV32023: sizes, losses, what learns from what, and what an update must not do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.common.dists import categorical_kl, unimix
from reverie_algorithms.common.observations import ObsKeys
from reverie_algorithms.dreamer.latent import Observed, balanced_kl
from reverie_algorithms.dreamer_v3_2023.agent import DreamerV32023
from tests.algorithms.small_2023 import (
    BOX,
    DISCRETE,
    MULTI,
    SHAPE,
    TWO_IMAGES,
    nano_agent,
    random_batch,
    rollout_noise,
    sized,
    stoch_noise,
    update,
)
from tests.fakes import WatchedGroup

ATARI = {"image": ArraySpec((64, 64, 3), "uint8")}


# Sizes


def sizes(size, action, obs=ATARI):
    with torch.device("meta"):
        agent = DreamerV32023(
            sized(size), Spaces(obs, action), AgentContext(1, 1, 0, device="meta")
        )
    return agent.module_sizes()


@pytest.mark.parametrize(
    ("size", "action", "total"),
    [
        ("small", ActionSpec("discrete", (6,)), 17_922_952),
        ("small", ActionSpec("discrete", (18,)), 17_935_252),
        ("medium", ActionSpec("box", (), 4), 36_896_458),
        ("xlarge", ActionSpec("discrete", (18,)), 200_745_620),
    ],
)
def test_parameter_counts_are_those_of_the_paper_code(size, action, total, monkeypatch):
    monkeypatch.setattr("reverie_algorithms.dreamer.agent.make_generator", lambda *_: None)
    trained, targets = sizes(size, action)
    assert sum(trained.values()) == total
    assert targets == {"slow_critic": trained["critic"]}
    if total == 17_922_952:
        assert trained == {
            "encoder": 690_624,
            "rssm": 5_778_944,
            "decoder": 6_985_667,
            "reward": 1_181_439,
            "cont": 1_051_137,
            "actor": 1_053_702,
            "critic": 1_181_439,
        }


@pytest.mark.parametrize(
    ("size", "deter"), [("small", 512), ("medium", 1024), ("large", 2048), ("xlarge", 4096)]
)
def test_vectors_meet_five_layers_of_1024_at_every_published_size(size, deter, monkeypatch):
    monkeypatch.setattr("reverie_algorithms.dreamer.agent.make_generator", lambda *_: None)
    state = {"proprio": ArraySpec((24,), "float32")}
    trained, _ = sizes(size, ActionSpec("box", (), 6), state)
    norms, hidden = 5 * 2 * 1024, 4 * 1024 * 1024
    assert trained["encoder"] == 24 * 1024 + hidden + norms
    assert trained["decoder"] == (deter + 1024) * 1024 + hidden + norms + 1024 * 24 + 24


def test_the_size_that_is_ours_keeps_its_small_mlp():
    tiny = sized("tiny")
    assert [(net.layers, net.units) for net in (tiny.encoder, tiny.decoder)] == [(1, 128)] * 2


def test_three_harmonizers_are_trained_beside_the_model():
    trained, _ = nano_agent().module_sizes()
    assert trained["harmony"] == 3
    assert "harmony" not in nano_agent(mode="off").module_sizes()[0]


def test_an_unknown_size_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"size.*'tiny', 'small', 'medium', 'large', 'xlarge'"):
        DreamerV32023.config_defaults({"size": "huge"})


def test_default_config_is_size_small():
    assert sized("small") == DreamerV32023.Config()


# Data


def test_actions_are_shifted_once_and_cut_at_episode_starts():
    agent = nano_agent()
    batch = random_batch(agent.spaces)
    batch["is_first"][:] = False
    batch["is_first"][0, 3] = True
    data = agent.prepare(batch)
    assert data["is_first"][:, 0].all()
    assert not batch["is_first"][:, 0].any(), "the batch itself was written to"
    wanted = agent.actions.encode(batch["action"])[:, :-1]
    wanted[0, 2] = 0
    assert torch.equal(data["prev_action"][:, 1:], wanted)
    assert not data["prev_action"][:, 0].any()


def test_a_time_out_goes_on_and_a_terminal_step_does_not():
    agent = nano_agent()
    batch = random_batch(agent.spaces)
    batch["is_last"][0, 1] = batch["is_last"][0, 2] = batch["is_terminal"][0, 2] = True
    batch["is_terminal"][0, 1] = False
    assert agent.prepare(batch)["cont"][0, 1:3].tolist() == [1, 0]


def test_log_and_reserved_keys_are_ignored():
    keys = ObsKeys.select(TWO_IMAGES)
    assert keys.names == ("image", "wrist", "count", "proprio")
    with pytest.raises(ValueError, match="at least one"):
        ObsKeys.select({"log/x": ArraySpec((), "float32")})
    with pytest.raises(ValueError, match=r"'depth'.*uint8.*uint16"):
        ObsKeys.select({"depth": ArraySpec((8, 8, 1), "uint16")})


# Losses


def test_free_nats_are_clipped_per_element():
    agent = nano_agent(free_nats=0.0)
    data, draws = agent.prepare(random_batch(agent.spaces)), stoch_noise(agent)
    exact = agent.world_model.losses(data, draws)[0]["dyn"]
    floor = exact.median().item()
    agent.world_model.free_nats = floor
    losses = agent.world_model.losses(data, draws)[0]
    for name in ("dyn", "rep"):
        torch.testing.assert_close(losses[name], exact.clamp(min=floor))


def test_kl_trains_prior_and_posterior_five_to_one():
    agent = nano_agent(free_nats=0.0)
    logits = [torch.randn(*SHAPE, 4, 5, requires_grad=True) for _ in range(2)]
    posterior, prior = (unimix(x, 0.01) for x in logits)
    losses, _ = balanced_kl(Observed(None, posterior, prior), agent.world_model.free_nats)
    scales = agent.config.loss_scales
    balanced = scales.dyn * losses["dyn"] + scales.rep * losses["rep"]
    plain = categorical_kl(posterior, posterior.log(), prior.log())
    wanted = torch.autograd.grad(plain.sum(), logits, retain_graph=True)
    got = torch.autograd.grad(balanced.sum(), logits)
    torch.testing.assert_close(got, (0.1 * wanted[0], 0.5 * wanted[1]))


def test_image_loss_sums_squares_of_pixels_in_0_1_over_keys():
    agent = nano_agent(TWO_IMAGES)
    data = agent.prepare(random_batch(agent.spaces))
    keys, decoder = agent.keys, agent.world_model.decoder
    feat = torch.randn(*SHAPE, agent.rssm.feat_size)
    losses = decoder.losses(feat, keys.inputs(data))
    means = decoder.image_means(feat)
    wanted = sum(
        (means[k] + 0.5 - data[k] / 255).square().sum((-1, -2, -3)) for k in ("image", "wrist")
    )
    torch.testing.assert_close(losses["image"], wanted)
    assert losses["vector"].shape == SHAPE


# What learns from what


def changed(agent, before):
    after = agent.state_dict()["modules"]
    return {
        module
        for module, tensors in after.items()
        for name, value in tensors.items()
        if not torch.equal(value, before[module][name])
    }


@pytest.mark.parametrize("action", [DISCRETE, BOX])
def test_behavior_losses_move_actor_and_critic_only(action):
    agent = nano_agent(action=action)
    update(agent)
    data = agent.prepare(random_batch(agent.spaces))
    _, states, _ = agent.world_model_loss(data, stoch_noise(agent))
    noise = rollout_noise(agent)
    dream = agent.dream(states.detach().flatten(), data["cont"].flatten(), noise)
    actor, critic, _ = agent.behavior_losses(dream, torch.ones(()))
    before = agent.state_dict()["modules"]
    agent.optimizers["actor"].step(actor, retain_graph=True)
    assert changed(agent, before) == {"actor"}
    before = agent.state_dict()["modules"]
    agent.optimizers["critic"].step(critic)
    assert changed(agent, before) == {"critic"}


def test_discrete_actor_gradient_does_not_enter_the_model():
    agent = nano_agent()
    data = agent.prepare(random_batch(agent.spaces))
    _, states, _ = agent.world_model_loss(data, stoch_noise(agent))
    noise = rollout_noise(agent)
    dream = agent.dream(states.detach().flatten(), data["cont"].flatten(), noise)
    assert not any(x.requires_grad for x in (dream.rollout.feat, dream.ret, dream.value))


def test_continuous_actor_gradient_comes_through_the_model():
    agent = nano_agent(action=BOX, entropy_scale=0.0)
    update(agent)
    data = agent.prepare(random_batch(agent.spaces))
    _, states, _ = agent.world_model_loss(data, stoch_noise(agent))
    noise = rollout_noise(agent)
    dream = agent.dream(states.detach().flatten(), data["cont"].flatten(), noise)
    assert dream.ret.requires_grad
    actor, _, _ = agent.behavior_losses(dream, torch.ones(()))
    grads = torch.autograd.grad(actor, [*agent.actor.parameters()])
    assert any(g.abs().sum() > 0 for g in grads)


def test_every_module_learns_in_two_updates():
    agent = nano_agent(TWO_IMAGES)
    before = agent.state_dict()["modules"]
    update(agent)
    update(agent)
    after = agent.state_dict()["modules"]
    same = [f"{m}.{k}" for m in after for k, v in after[m].items() if torch.equal(v, before[m][k])]
    assert not same


def test_slow_critic_is_copied_once_then_follows():
    agent = nano_agent()
    critic, slow = agent.behavior.critic, agent.behavior.slow_critic.critic
    update(agent)
    pairs = list(zip(critic.parameters(), slow.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    old = [b.clone() for _, b in pairs]
    update(agent)
    for (fast, now), before in zip(pairs, old, strict=True):
        torch.testing.assert_close(now, 0.98 * before + 0.02 * fast)


def test_own_group_moves_sigma_at_its_own_rate():
    plain, own = nano_agent(), nano_agent(mode="own_group")
    update(plain)
    update(own)
    moved = {k: own.harmony.log_sigma[k].item() for k in own.harmony.log_sigma}
    assert all(abs(abs(v) - own.config.harmony.lr) < 1e-5 for v in moved.values())
    assert len(own.optimizers["model"].groups) == 2
    assert own.optimizers["model"].groups[1].clip is None


@pytest.mark.parametrize("mode", ["off", "paper", "own_group", "unrectified"])
def test_every_harmony_mode_lowers_the_losses(mode):
    agent = nano_agent(mode=mode)
    first = update(agent)
    for _ in range(30):
        last = update(agent)
    for name in ("loss/image", "loss/reward"):
        assert last[name] < first[name]


# The update as a program


class NoHostReads(TorchDispatchMode):
    """Fails on whatever makes the host wait for a value."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name not in {"aten::_local_scalar_dense", "aten::item", "aten::nonzero"}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("action", [DISCRETE, MULTI, BOX])
@pytest.mark.parametrize("mode", ["off", "paper", "own_group"])
def test_update_reads_nothing_back(action, mode):
    agent = nano_agent(TWO_IMAGES, action, mode)
    batch = random_batch(agent.spaces)
    with NoHostReads():
        metrics, feedback = agent.update({"replay": batch}, Counters())
    assert not feedback
    assert all(m.ndim == 0 and not m.requires_grad for m in metrics.values())
    assert all(torch.isfinite(m) for m in metrics.values())


def test_the_guard_against_host_reads_works():
    with pytest.raises(AssertionError), NoHostReads():
        torch.ones(()).item()


@pytest.mark.parametrize("action", [DISCRETE, BOX])
def test_losses_compile_without_a_graph_break_to_the_same_numbers(action):
    plain, compiled = (nano_agent(action=action, horizon=2) for _ in range(2))
    batch = {key: value[:, :2] for key, value in random_batch(plain.spaces).items()}
    torch._dynamo.reset()
    for name in compiled.COMPILABLE:
        method = torch.compile(getattr(compiled, name), fullgraph=True, backend="eager")
        setattr(compiled, name, method)
    wanted, got = (a.update({"replay": batch}, Counters())[0] for a in (plain, compiled))
    torch.testing.assert_close(got, wanted)


def test_bfloat16_keeps_losses_and_weights_in_float32():
    agent = nano_agent(TWO_IMAGES, context={"precision": "bfloat16"})
    metrics = update(agent)
    exact = update(nano_agent(TWO_IMAGES))
    assert all(m.dtype == torch.float32 for m in metrics.values())
    assert metrics["loss/image"].item() == pytest.approx(exact["loss/image"].item(), rel=0.02)
    assert all(p.dtype == torch.float32 for p in agent.world_model.parameters())


def test_gradients_and_return_range_are_reduced():
    group = WatchedGroup()
    agent = nano_agent(context={"group": group})
    update(agent)
    assert group.calls == len(agent.optimizers)
    assert len(group.averaged) == sum(len(adam.params) for adam in agent.optimizers.values())
    assert group.gathered == [(agent.config.horizon, SHAPE[0] * SHAPE[1])]


def test_same_seed_same_weights_with_or_without_learning_parts():
    one, two = nano_agent(), nano_agent(context={"training": False})
    other = nano_agent(context={"seed": 1})
    assert not hasattr(two, "world_model")
    for key, value in one.policy_state().items():
        assert np.array_equal(value, two.policy_state()[key])
    assert not np.array_equal(
        other.policy_state()["actor.net.hidden.0.weight"],
        one.policy_state()["actor.net.hidden.0.weight"],
    )


def test_building_an_agent_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    nano_agent()
    assert torch.equal(before, torch.random.get_rng_state())


def test_config_fields_are_plain_and_documented():
    config = DreamerV32023.Config()
    assert isinstance(dataclasses.asdict(config)["rssm"], dict)
    assert "__pydantic_config__" not in {f.name for f in dataclasses.fields(config)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.horizon = 3
