"""DreamerV3-2025: sizes, stored latents, losses, what learns from what, the update as a program."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reverie.config import resolve_algorithm
from reverie.errors import ConfigError
from reverie.group import Alone
from reverie.protocols import AgentContext
from reverie.types import STEP_ID, ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.common.dists import categorical_kl, unimix
from reverie_algorithms.dreamer.imagination import Noise
from reverie_algorithms.dreamer.latent import LatentState, Observed, balanced_kl
from reverie_algorithms.dreamer_v3_2025.agent import DreamerV32025
from reverie_algorithms.dreamer_v3_2025.config import DreamerV32025Config
from tests.algorithms.dreamer_v3_2023.test_agent import NoHostReads
from tests.algorithms.small_2023 import (
    BOX,
    DISCRETE,
    IMAGE,
    MULTI,
    SHAPE,
    TWO_IMAGES,
    rollout_noise,
    stoch_noise,
)
from tests.algorithms.small_2025 import nano_agent, random_batch, stored, update
from tests.fakes import WatchedGroup

ATARI = Spaces({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec("discrete", (6,)))
VECTOR = {"proprio": ArraySpec((4,), "float32")}


def config_of(**raw):
    return resolve_algorithm({"name": "dreamerv3", "dialect": "2025", **raw})


# Sizes


@pytest.mark.parametrize(
    ("size", "total"),
    [
        ("1m", 686_456),
        ("12m", 10_492_616),
        ("25m", 23_487_016),
        ("50m", 41_646_984),
        ("100m", 93_463_624),
        ("200m", 165_942_536),
        ("400m", 372_887_176),
    ],
)
def test_parameter_counts_are_those_of_the_published_code(size, total, monkeypatch):
    monkeypatch.setattr("reverie_algorithms.dreamer.agent.make_generator", lambda *_: None)
    with torch.device("meta"):
        agent = DreamerV32025(config_of(size=size), ATARI, AgentContext(1, 2, 0, device="meta"))
    trained, targets = agent.module_sizes()
    assert sum(trained.values()) == total
    assert targets == {"slow_critic": trained["critic"]}
    if size == "12m":
        assert trained == {
            "encoder": 220_416,
            "rssm": 5_979_648,
            "decoder": 1_272_003,
            "reward": 721_407,
            "cont": 656_129,
            "actor": 789_510,
            "critic": 853_503,
        }


def test_default_config_is_size_12m():
    assert config_of() == DreamerV32025Config()


def test_sizes_that_do_not_fit_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match=r"size.*'1m', '12m', .*got 'small'"):
        config_of(size="small")
    with pytest.raises(ConfigError, match=r"rssm\.deter.*multiple of the 8 blocks, got 100"):
        config_of(rssm={"deter": 100})
    with pytest.raises(ConfigError, match=r"rssm\.deter.*multiple of the 7 blocks, got 2048"):
        config_of(rssm={"blocks": 7})


@pytest.mark.parametrize(("options", "section"), [({}, "learner"), ({"batch_length": 1}, "algo")])
def test_a_window_without_a_next_step_is_refused(options, section):
    with pytest.raises(ValueError, match=rf"^{section}\w*\.batch_length: .* 2 or more, got 1"):
        nano_agent(context={"batch_length": 1}, **options)
    assert nano_agent(context={"batch_length": 2}).streams()["replay"].batch_length == 2


# Stored latents


def test_a_window_has_one_more_row_that_gives_the_first_action():
    agent = nano_agent()
    spec = agent.streams()["replay"]
    assert (spec.batch_length, spec.context, spec.trained_steps) == (SHAPE[1], 1, 18)
    batch = random_batch(agent.spaces)
    batch["is_first"][:] = False
    batch["is_first"][0, 3] = True
    data = agent.prepare(batch)
    assert data["reward"].shape == SHAPE
    assert not data["is_first"][1:].any()
    wanted = agent.actions.encode(batch["action"])[:, :-1]
    wanted[0, 2] = 0
    assert torch.equal(data["prev_action"], wanted)
    assert torch.equal(data["image"], batch["image"][:, 1:])


def test_latents_go_back_by_step_id_and_start_the_next_window():
    agent = nano_agent()
    batch = random_batch(agent.spaces)
    assert not any(x.any() for x in agent.stored_state(batch))
    _, feedback = agent.update({"replay": batch}, Counters())
    assert torch.equal(feedback[STEP_ID], batch[STEP_ID][:, 1:])
    assert feedback["deter"].dtype == torch.float16
    assert feedback["stoch"].dtype == torch.uint8
    assert feedback["stoch"].shape == (*SHAPE, 4)
    again = stored(batch, feedback)
    assert not any(x.any() for x in agent.stored_state(again)), "of rows never written to"
    later = {key: value[:, 2:] for key, value in again.items()}
    start = agent.stored_state(later)
    torch.testing.assert_close(start.deter, feedback["deter"][:, 1].float())
    assert torch.equal(start.stoch.argmax(-1), feedback["stoch"][:, 1].long())
    assert torch.equal(start.stoch.sum(-1), torch.ones(3, 4))


def test_the_stored_state_is_read_unless_an_episode_starts():
    agent = nano_agent()
    batch = random_batch(agent.spaces)
    batch["is_first"][:, 1] = torch.tensor([True, False, False])
    data, draws = agent.prepare(batch), stoch_noise(agent)
    zeros = agent.rssm.initial(3)
    ones = LatentState(zeros.deter + 1, zeros.stoch)
    one, two = (agent.world_model.losses(data, s, draws)[1].deter[:, 0] for s in (zeros, ones))
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])


# Losses


def test_continuation_is_discounted_unless_told_otherwise():
    batch = random_batch(nano_agent().spaces)
    batch["is_terminal"][0, 1], batch["is_terminal"][0, 2] = True, False
    cont = nano_agent().prepare(batch)["cont"]
    torch.testing.assert_close(cont[0, :2], torch.tensor([0, 1 - 1 / 333]))
    assert nano_agent(discounted_cont=False).prepare(batch)["cont"][0, 1] == 1


@pytest.mark.parametrize("discounted", [True, False])
def test_imagination_is_weighed_by_the_predicted_continuation(discounted):
    agent = nano_agent(discounted_cont=discounted)
    dream = dream_of(agent)[0]
    gamma = 1 if discounted else agent.config.gamma
    cont = gamma * agent.world_model.cont.prob(dream.rollout.feat)
    torch.testing.assert_close(dream.weight[0], cont[0] / gamma)
    torch.testing.assert_close(dream.weight[2], cont[0] * cont[1] * cont[2] / gamma)
    bootstrapped = dream.reward[-1] + cont[-1] * dream.value[-1]
    torch.testing.assert_close(dream.ret[-1], bootstrapped)


def test_kl_trains_prior_and_posterior_ten_to_one_above_the_free_nats():
    agent = nano_agent(free_nats=0.0)
    logits = [torch.randn(*SHAPE, 4, 4, requires_grad=True) for _ in range(2)]
    posterior, prior = (unimix(x, 0.01) for x in logits)
    losses, _ = balanced_kl(Observed(None, posterior, prior), agent.world_model.free_nats)
    scales = agent.config.loss_scales
    balanced = scales.dyn * losses["dyn"] + scales.rep * losses["rep"]
    exact = categorical_kl(posterior, posterior.log(), prior.log())
    wanted = torch.autograd.grad(exact.sum(), logits, retain_graph=True)
    got = torch.autograd.grad(balanced.sum(), logits, retain_graph=True)
    torch.testing.assert_close(got, (0.1 * wanted[0], wanted[1]))
    agent.world_model.free_nats = floor = exact.median().item()
    clipped = balanced_kl(Observed(None, posterior, prior), agent.world_model.free_nats)[0]
    torch.testing.assert_close(clipped["dyn"], exact.clamp(min=floor))


def test_reward_and_critic_say_zero_at_first_and_the_policy_is_nearly_even():
    agent = nano_agent()
    feat = torch.randn(5, agent.rssm.feat_size)
    assert not agent.world_model.reward.mean(feat).any()
    assert not agent.behavior.critic.mean(feat).any()
    assert agent.actor(feat).abs().max() < 0.1


def test_harmonised_losses_are_image_reward_and_the_two_kls_together():
    agent = nano_agent(TWO_IMAGES, mode="own_group", context={"seed": 3})
    assert set(agent.harmony.log_sigma) == {"image", "reward", "kl"}
    assert agent.harmony.groups["kl"].shares == {"dyn": 1 / 1.1, "rep": 0.1 / 1.1}
    losses = {name: torch.tensor(2.0) for name in agent.harmony.scales}
    total, _ = agent.harmony(losses)
    fixed = 2 * (1 + 1 + 1 + 1 + 0.3)  # vector, cont, actor, critic, replay_critic
    torch.testing.assert_close(total, torch.tensor(fixed + 3 * 2 + 3 * 0.6931472))
    update(agent)
    moved = [abs(p.item()) for p in agent.harmony.log_sigma.values()]
    assert all(abs(m - agent.config.harmony.lr) < 1e-5 for m in moved)


# What learns from what


def dream_of(agent, seed=0):
    batch = random_batch(agent.spaces, seed)
    data, start = agent.prepare(batch), agent.stored_state(batch)
    losses, states, _ = agent.world_model_losses(data, start, stoch_noise(agent))
    noise = rollout_noise(agent)
    return agent.dream(states.detach().flatten(), noise), losses, states, data


def reached(agent, loss):
    """Names of the modules that a loss sends a gradient to."""
    found = set()
    for name, module in agent.modules().items():
        params = [*module.parameters()]
        if not params:
            continue
        grads = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
        if any(g is not None and g.any() for g in grads):
            found.add(name)
    return found


@pytest.mark.parametrize("action", [DISCRETE, BOX])
def test_imagined_losses_reach_actor_and_critic_and_the_replayed_one_the_world_model(action):
    agent = nano_agent(action=action)
    for _ in range(2):
        update(agent)
    dream, losses, states, data = dream_of(agent)
    more, _ = agent.behavior.losses(dream, states, data, torch.ones(()))
    assert reached(agent, more["actor"]) == {"actor"}
    assert reached(agent, more["critic"]) == {"critic"}
    assert reached(agent, more["replay_critic"]) == {"critic", "rssm", "encoder"}
    assert reached(agent, losses["reward"]) == {"reward", "rssm", "encoder"}
    assert reached(agent, losses["cont"]) == {"cont", "rssm", "encoder"}
    assert reached(agent, losses["image"]) == {"decoder", "rssm", "encoder"}


def test_last_rows_have_no_replayed_value_loss():
    agent = nano_agent()
    dream, _, states, data = dream_of(agent)
    for rows, silent in ((True, True), (False, False)):
        data["is_last"] = torch.full(SHAPE, rows)
        loss = agent.behavior.losses(dream, states, data, torch.ones(()))[0]["replay_critic"]
        assert (loss == 0) == silent


def test_slow_critic_starts_as_a_copy_and_follows_after_each_update():
    agent = nano_agent()
    critic, slow = agent.behavior.critic, agent.behavior.slow_critic.critic
    pairs = list(zip(critic.parameters(), slow.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    old = [b.clone() for _, b in pairs]
    update(agent)
    for (fast, now), before in zip(pairs, old, strict=True):
        torch.testing.assert_close(now, 0.98 * before + 0.02 * fast)


def test_every_module_learns_in_two_updates():
    agent = nano_agent(TWO_IMAGES, mode="paper")
    before = agent.state_dict()["modules"]
    update(agent)
    update(agent)
    after = agent.state_dict()["modules"]
    same = [f"{m}.{k}" for m in after for k, v in after[m].items() if torch.equal(v, before[m][k])]
    assert not same


@pytest.mark.parametrize(("mode", "obs"), [("off", IMAGE), ("paper", VECTOR), ("own_group", IMAGE)])
def test_every_harmony_mode_lowers_the_losses(mode, obs):
    agent = nano_agent(obs, mode=mode)
    first = update(agent)
    for _ in range(20):
        last = update(agent)
    for name in ("loss/image" if obs is IMAGE else "loss/vector", "loss/reward"):
        assert last[name] < first[name]


# The update as a program


@pytest.mark.parametrize("action", [DISCRETE, MULTI, BOX])
def test_update_reads_nothing_back(action):
    agent = nano_agent(TWO_IMAGES, action, "own_group")
    batch = random_batch(agent.spaces)
    with NoHostReads():
        _, feedback = agent.update({"replay": batch}, Counters())
        metrics, _ = agent.update({"replay": stored(batch, feedback)}, Counters())
    assert all(m.ndim == 0 and not m.requires_grad for m in metrics.values())
    assert all(torch.isfinite(m) for m in metrics.values())


@pytest.mark.parametrize("action", [DISCRETE, BOX])
def test_losses_compile_without_a_graph_break_to_the_same_numbers(action):
    plain, compiled = (nano_agent(action=action, horizon=2) for _ in range(2))
    batch = {key: value[:, :3] for key, value in random_batch(plain.spaces).items()}
    torch._dynamo.reset()
    for name in compiled.COMPILABLE:
        method = torch.compile(getattr(compiled, name), fullgraph=True, backend="eager")
        setattr(compiled, name, method)
    wanted, got = (a.update({"replay": batch}, Counters())[0] for a in (plain, compiled))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_bfloat16_keeps_losses_and_weights_in_float32():
    agent = nano_agent(TWO_IMAGES, context={"precision": "bfloat16"})
    metrics, exact = update(agent), update(nano_agent(TWO_IMAGES))
    assert all(m.dtype == torch.float32 for m in metrics.values())
    assert metrics["loss/image"].item() == pytest.approx(exact["loss/image"].item(), rel=0.02)
    assert all(p.dtype == torch.float32 for p in agent.world_model.parameters())


def test_gradients_and_return_range_are_reduced():
    group = WatchedGroup()
    agent = nano_agent(context={"group": group})
    update(agent)
    assert group.calls == 1
    assert len(group.averaged) == len(agent.optimizers["all"].params)
    assert group.gathered == [(agent.config.horizon, SHAPE[0] * SHAPE[1])]


# Against another implementation


def frac(shape, step):
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * step + 0.1
    return torch.remainder(numbers, 1).view(shape).float()


def fill(module: nn.Module, number: int) -> None:
    for k, p in enumerate(module.parameters(), number):
        wave = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 0.7 + k)
        p.data.copy_(wave.view(p.shape))


REFERENCE = {
    "box": {
        "image": 1963.870117,
        "reward": 3.655441,
        "cont": 0.462175,
        "dyn": 1.140431,
        "rep": 1.140431,
        "actor": 0.025113,
        "critic": 2.088814,
        "replay_critic": 3.981675,
        "return": 0.0406290,
    },
    "discrete": {
        "image": 1962.005737,
        "reward": 3.702966,
        "cont": 0.468083,
        "dyn": 1.049826,
        "rep": 1.049826,
        "actor": 0.006092,
        "critic": 2.124249,
        "replay_critic": 3.981111,
        "return": 0.0411274,
    },
}
"""Of NM512/r2dreamer@546e4fa with these weights, draws and rows, its sampling gradient and its KL
replaced by those of danijar/dreamerv3@e3f0224."""
NORMS = {
    "box": (58.018654, 287.854402, 1359.842656, 2.573481, 1.031926, 0.468096),
    "discrete": (61.293786, 245.552741, 1350.942572, 2.599446, 1.022359, 0.458893),
}
"""Gradient norms of rssm, encoder, decoder, critic, reward and cont, there."""


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_losses_and_gradients_are_those_of_another_implementation(kind):
    action = BOX if kind == "box" else ActionSpec("discrete", (2,))
    gamma, shape = 1 - 1 / 333, (2, 3)
    scales = type(DreamerV32025Config().loss_scales)(actor=gamma, critic=gamma)
    options = {"heads": type(DreamerV32025Config().heads)(units=8), "loss_scales": scales}
    agent = nano_agent(ATARI.obs, action, discounted_cont=False, free_nats=0.0, **options)
    slow = agent.behavior.slow_critic.critic
    for number, module in enumerate([*list(agent.modules().values())[:-1], slow]):
        fill(module, 100 * number)
    hump = -(((torch.arange(255) - 127) / 8.0) ** 2)
    for head in (agent.world_model.reward, agent.behavior.critic, slow):
        head.net.output.bias.data.add_(hump)
    agent.behavior.return_normalizer.range.copy_(torch.tensor([-1.0, 2.0]))

    is_last = torch.tensor([[False, True, False], [False, False, False]])
    data = {
        "image": (frac((*shape, 64, 64, 3), 0.61803) * 256).to(torch.uint8),
        "is_first": torch.tensor([[False, False, True], [False, False, False]]),
        "is_last": is_last,
        "is_terminal": is_last,
        "reward": frac(shape, 0.77) * 6 - 3,
        "cont": (~is_last).float(),
    }
    one_hot = nn.functional.one_hot
    if kind == "box":
        prev_action, noise = frac((*shape, 2), 0.37) * 3 - 1.5, frac((3, 6, 2), 0.31) * 4 - 2
    else:
        prev_action = one_hot((frac(shape, 0.37) * 2).long(), 2).float()
        noise = frac((3, 6, 1), 0.31)
    data["prev_action"] = prev_action * ~data["is_first"].unsqueeze(-1)
    stoch = one_hot((frac((2, 4), 0.43) * 4).long(), 4).float()
    start = LatentState(frac((2, 32), 0.29) * 2 - 1, stoch)

    losses, states, _ = agent.world_model_losses(data, start, frac((*shape, 4), 0.71))
    draws = Noise(noise, frac((3, 6, 4), 0.53))
    dream = agent.dream(states.detach().flatten(), draws)
    agent.behavior.return_normalizer.update(dream.ret, Alone())
    scale = agent.behavior.return_normalizer.scale()
    total, metrics = agent.total_loss(losses, dream, states, data, scale)
    for name, wanted in REFERENCE[kind].items():
        got = metrics["return/mean" if name == "return" else f"loss/{name}"].item()
        assert got == pytest.approx(wanted, rel=1e-4), name
    names = "rssm", "encoder", "decoder", "critic", "reward", "cont"
    for name, wanted in zip(names, NORMS[kind], strict=True):
        grads = torch.autograd.grad(total, [*agent.modules()[name].parameters()], retain_graph=True)
        norm = nn.utils.get_total_norm(grads).item()
        assert norm == pytest.approx(wanted, rel=1e-4), name
