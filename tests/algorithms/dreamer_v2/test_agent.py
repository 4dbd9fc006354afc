"""DreamerV2: sizes, losses, what learns from what, and what an update must not do."""

from __future__ import annotations

import math

import pytest
import torch

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.common.dists import categorical_kl
from reverie_algorithms.dreamer.elu_behavior import TargetCritic
from reverie_algorithms.dreamer.elu_nets import EluHeadConfig, MeanHead
from reverie_algorithms.dreamer.elu_rssm import KLConfig, mean_kl
from reverie_algorithms.dreamer.imagination import lambda_return
from reverie_algorithms.dreamer.latent import Observed
from reverie_algorithms.dreamer.resnet import BatchNorm
from reverie_algorithms.dreamer_v2.agent import DreamerV2
from tests.algorithms.dreamer_v3_2023.test_agent import NoHostReads
from tests.algorithms.small_2023 import (
    BOX,
    DISCRETE,
    IMAGE,
    MULTI,
    SHAPE,
    TWO_IMAGES,
    random_batch,
    rollout_noise,
    stoch_noise,
    update,
)
from tests.algorithms.small_v2 import RESNET, nano_v2, sized
from tests.fakes import WatchedGroup

RGB = {"image": ArraySpec((64, 64, 3), "uint8")}


# Sizes

PUBLISHED = {
    "metaworld": ({"size": "1024"}, 4, (1_551_312, 13_125_632, 11_152_275, 1_301_201, 1_304_008)),
    "dmc": ({"size": "200"}, 6, (1_551_312, 1_247_248, 9_886_611, 971_601, 976_012)),
    "dmcr": ({"size": "1024"}, 6, (1_551_312, 13_127_680, 11_152_275, 1_301_201, 1_305_612)),
    "rlbench": (
        {"size": "1024", "kind": "resnet", "discount_head": True},
        8,
        (1_562_112, 14_702_592, 7_519_227, 1_301_201, 1_307_216),
    ),
}
TOTALS = {"metaworld": 27_130_420, "dmc": 13_656_772, "dmcr": 27_132_468, "rlbench": 26_386_333}


@pytest.mark.parametrize("run", PUBLISHED)
def test_parameter_counts_are_those_of_the_published_code(run, monkeypatch):
    monkeypatch.setattr("reverie_algorithms.dreamer.agent.make_generator", lambda *_: None)
    options, width, wanted = PUBLISHED[run]
    spaces, context = Spaces(RGB, ActionSpec("box", (), width)), AgentContext(1, 1, 0, "meta")
    with torch.device("meta"):
        agent = DreamerV2(sized(**options), spaces, context)
    trained, targets = agent.module_sizes()
    names = ("encoder", "rssm", "decoder", "reward", "actor")
    assert tuple(trained[name] for name in names) == wanted
    assert trained["critic"] == trained["reward"] == targets["target_critic"]
    assert trained.get("discount", wanted[3]) == wanted[3]
    assert sum(p.numel() for p in agent.world_model.parameters()) == TOTALS[run]


def test_unknown_sizes_are_refused():
    with pytest.raises(
        ValueError, match=r"size: expected one of \['tiny', '200', '1024'\], got 'x'"
    ):
        DreamerV2.config_defaults({"size": "x"})


# Data


def test_windows_come_from_episodes():
    stream = nano_v2(prioritize_ends=False).streams()["replay"]
    assert (stream.sampler, stream.prioritize_ends) == ("episodes", False)
    assert nano_v2().streams()["replay"].prioritize_ends
    assert (stream.batch_size, stream.batch_length, stream.context) == (*SHAPE, 0)


def test_prepare_shifts_actions_and_transforms_rewards_and_discounts():
    agent = nano_v2(reward_transform="tanh", gamma=0.9)
    batch = random_batch(agent.spaces)
    data = agent.prepare(batch)
    assert data["is_first"][:, 0].all()
    shifted = agent.actions.encode(batch["action"])[:, :-1] * ~data["is_first"][:, 1:, None]
    assert torch.equal(data["prev_action"][:, 1:], shifted)
    assert torch.equal(data["reward"], torch.tanh(batch["reward"]))
    assert torch.equal(data["discount"], 0.9 * (~batch["is_terminal"]).float())
    plain = nano_v2().prepare(batch)
    assert torch.equal(plain["reward"], batch["reward"])


def test_vectors_are_read_raw():
    agent = nano_v2(TWO_IMAGES)
    batch = random_batch(agent.spaces)
    vector = agent.keys.inputs(batch)[":vector"]
    assert torch.equal(vector, torch.cat([batch["count"][..., None], batch["proprio"]], -1))


# Losses


def observed(scale=1.0):
    torch.manual_seed(0)
    logits = [(scale * torch.randn(*SHAPE, 4, 5)).requires_grad_() for _ in range(2)]
    return Observed(None, *logits), logits


def test_kl_trains_prior_and_posterior_four_to_one():
    both, logits = observed()
    log_posterior, log_prior = (torch.log_softmax(x, -1) for x in logits)
    plain = categorical_kl(log_posterior.exp(), log_posterior, log_prior).mean()
    wanted = torch.autograd.grad(plain, logits)
    loss, metrics = mean_kl(both, KLConfig())
    got = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(got, (0.2 * wanted[0], 0.8 * wanted[1]))
    torch.testing.assert_close((loss, metrics["kl"]), (plain, plain))


def test_free_nats_are_clipped_on_the_mean_of_the_batch():
    both, logits = observed()
    mean = mean_kl(both, KLConfig())[0].item()
    loss, _ = mean_kl(both, KLConfig(free_nats=mean * 0.99))
    assert loss.item() == pytest.approx(mean)
    loss, metrics = mean_kl(both, KLConfig(free_nats=mean * 1.01))
    assert loss.item() == pytest.approx(mean * 1.01)
    assert metrics["kl"].item() == pytest.approx(mean)
    assert not any(g.any() for g in torch.autograd.grad(loss, logits))


def test_errors_are_halved_and_summed_over_entries():
    agent = nano_v2(TWO_IMAGES)
    data = agent.prepare(random_batch(agent.spaces))
    inputs, decoder = agent.keys.inputs(data), agent.world_model.decoder
    feat = torch.randn(*SHAPE, agent.rssm.feat_size)
    losses, means = decoder.losses(feat, inputs), decoder.image_means(feat)
    wanted = sum((means[k] - inputs[k]).square().sum((-1, -2, -3)) for k in ("image", "wrist")) / 2
    torch.testing.assert_close(losses["image"], wanted)
    error = (decoder.vector(feat) - inputs[":vector"]).square().sum(-1) / 2
    torch.testing.assert_close(losses["vector"], error)
    head = MeanHead(3, EluHeadConfig(layers=1, units=4))
    assert head.loss(torch.zeros(3), torch.tensor(2.0)).item() == pytest.approx(2.0)


def losses_and_total(mode, **options):
    agent = nano_v2(TWO_IMAGES, mode=mode, discount_head=True, **options)
    metrics = update(agent)
    return {k.removeprefix("loss/"): v.item() for k, v in metrics.items() if k[:5] == "loss/"}


def test_harmony_starts_at_one_and_keeps_the_other_losses():
    scales = nano_v2().config.loss_scales
    scales = type(scales)(image=9.0, reward=9.0, kl=0.1, vector=3.0, discount=5.0)
    found = losses_and_total("paper", loss_scales=scales)
    harmonised = found["image"] + found["reward"] + found["kl"] + 3 * math.log(2)
    fixed = 3 * found["vector"] + 5 * found["discount"]
    assert found["model"] == pytest.approx(harmonised + fixed, rel=1e-6)
    found = losses_and_total("off", loss_scales=scales)
    grouped = 9 * found["image"] + 9 * found["reward"] + 0.1 * found["kl"]
    assert found["model"] == pytest.approx(grouped + fixed, rel=1e-6)


def test_harmony_adds_one_scalar_for_each_of_its_groups():
    assert nano_v2().module_sizes()[0]["harmony"] == 3
    proprio = nano_v2({"proprio": ArraySpec((4,), "float32")})
    assert set(proprio.harmony.log_sigma) == {"reward", "kl"}
    model, own = (nano_v2(mode=mode).optimizers["model"] for mode in ("paper", "own_group"))
    assert model.groups[0].weight_decay == 1e-6
    assert "harmony/log_sigma.kl" in model.groups[0].params
    assert [g.clip for g in own.groups] == [100.0, None]
    assert own.groups[1].weight_decay == 0


# Behaviour


def test_returns_include_the_reward_of_their_own_state():
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[9.0], [10.0], [20.0]])
    late = 2 + 0.99 * (0.05 * 20 + 0.95 * 20)
    early = 1 + 0.99 * (0.05 * 10 + 0.95 * late)
    got = lambda_return(reward, torch.full((2, 1), 0.99), value, 0.95)
    assert got.flatten().tolist() == pytest.approx([early, late])


def imagined(agent):
    data = agent.prepare(random_batch(agent.spaces))
    _, states, _ = agent.world_model_loss(data, stoch_noise(agent))
    noise = rollout_noise(agent)
    return agent.dream(states.detach().flatten(), data["cont"].flatten(), noise)


@pytest.mark.parametrize("discount_head", [False, True])
def test_a_dream_s_returns_and_weights_come_from_its_heads(discount_head):
    agent = nano_v2(discount_head=discount_head)
    dream, model = imagined(agent), agent.world_model
    feat, gamma = dream.rollout.feat, agent.config.gamma
    reward, value = model.reward(feat), agent.behavior.target_critic.critic(feat)
    discount = torch.full_like(reward, gamma)
    if discount_head:
        discount = torch.sigmoid(model.discount.net(feat)).squeeze(-1)
        cont = agent.prepare(random_batch(agent.spaces))["cont"].flatten()
        assert not cont.all()
        discount[0] = gamma * cont
    ret, weight = value[-1], torch.ones_like(value[0])
    for t in reversed(range(4)):
        ret = reward[t] + discount[t] * (0.05 * value[t + 1] + 0.95 * ret)
        torch.testing.assert_close(dream.ret[t], ret.detach())
    for t in range(4):
        torch.testing.assert_close(dream.weight[t], weight.detach())
        weight = weight * discount[t]


def test_an_action_is_judged_by_the_return_after_it():
    agent = nano_v2(entropy_scale=0.3)
    dream = imagined(agent)
    actor, critic, _ = agent.behavior_losses(dream)
    dist, rollout = agent.actions, dream.rollout
    log_prob = dist.log_prob(rollout.params, rollout.action)
    gain = log_prob[:3] * (dream.ret[1:] - dream.value[:3]) + 0.3 * dist.entropy(rollout.params[:3])
    torch.testing.assert_close(actor, -(dream.weight[:3] * gain).mean())
    error = (agent.behavior.critic(rollout.feat[:4]) - dream.ret).square() / 2
    torch.testing.assert_close(critic, (dream.weight * error).mean())


def test_a_continuous_action_earns_the_return_itself():
    agent = nano_v2(action=BOX, entropy_scale=0.3)
    dream = imagined(agent)
    gain = dream.ret[1:] + 0.3 * agent.actions.entropy(dream.rollout.params[:3])
    wanted = -(dream.weight[:3] * gain).mean()
    torch.testing.assert_close(agent.behavior_losses(dream)[0], wanted)


# What learns from what


def changed(agent, before):
    after = agent.state_dict()["modules"]
    return {m for m in after if any(not torch.equal(v, before[m][k]) for k, v in after[m].items())}


@pytest.mark.parametrize("action", [DISCRETE, BOX])
def test_behavior_losses_move_actor_and_critic_only(action):
    agent = nano_v2(action=action)
    actor, critic, _ = agent.behavior_losses(imagined(agent))
    before = agent.state_dict()["modules"]
    agent.optimizers["actor"].step(actor)
    assert changed(agent, before) == {"actor"}
    before = agent.state_dict()["modules"]
    agent.optimizers["critic"].step(critic)
    assert changed(agent, before) == {"critic"}


def test_only_continuous_actors_learn_through_the_model():
    dream = imagined(nano_v2(discount_head=True))
    assert not any(x.requires_grad for x in (dream.rollout.feat, dream.ret, dream.value))
    agent = nano_v2(action=BOX, entropy_scale=0.0, discount_head=True)
    dream = imagined(agent)
    for part in (dream.reward, dream.value, dream.ret):
        grads = torch.autograd.grad(part.sum(), [*agent.actor.parameters()], retain_graph=True)
        assert any(g.any() for g in grads)
    assert not dream.weight.requires_grad


def test_every_module_learns_in_two_updates():
    agent = nano_v2(TWO_IMAGES, discount_head=True)
    before = agent.state_dict()["modules"]
    update(agent)
    update(agent)
    after = agent.state_dict()["modules"]
    same = [f"{m}.{k}" for m in after for k, v in after[m].items() if torch.equal(v, before[m][k])]
    assert not same


def test_target_critic_is_copied_after_updates_0_and_100():
    critic = MeanHead(2, EluHeadConfig(layers=1, units=3))
    target = TargetCritic(critic, 100)
    copies = []
    for step in range(202):
        with torch.no_grad():
            critic.net.outputs[0].bias.fill_(step + 1)
        target.update(critic)
        copies.append(target.critic.net.outputs[0].bias.item())
    assert copies == [1] * 100 + [101] * 100 + [201] * 2


def test_harmony_lowers_the_losses_on_a_batch_seen_often():
    agent = nano_v2()
    first = update(agent)
    for _ in range(30):
        last = update(agent)
    for name in ("loss/image", "loss/reward"):
        assert last[name] < first[name]


# Batch norm


def statistics(agent):
    norms = [m for m in agent.world_model.modules() if isinstance(m, BatchNorm)]
    assert norms
    return [x.clone() for norm in norms for x in (norm.running_mean, norm.running_var)]


def test_batch_norm_follows_world_model_updates_only():
    agent = nano_v2(**RESNET)
    before = statistics(agent)
    agent.report({"replay": random_batch(agent.spaces)})
    imagined(agent)
    torch.testing.assert_close(statistics(agent), before, atol=0, rtol=0)
    update(agent)
    after = statistics(agent)
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert not any(m.training for m in agent.world_model.modules() if isinstance(m, BatchNorm))
    state = agent.policy_state()
    assert any("running_var" in key for key in state)


def test_batch_norm_reads_its_own_batch_while_it_is_trained():
    agent = nano_v2(**RESNET)
    loss = update(agent)["loss/image"].item()
    fresh = nano_v2(**RESNET)
    data = fresh.prepare(random_batch(fresh.spaces))
    still, _, _ = fresh.world_model.losses(data, stoch_noise(fresh))
    assert still["image"].item() != pytest.approx(loss, rel=1e-3)


# The update as a program


@pytest.mark.parametrize("action", [DISCRETE, MULTI, BOX])
@pytest.mark.parametrize("options", [{}, {"mode": "off", "discount_head": True}, RESNET])
def test_update_reads_nothing_back(action, options):
    agent = nano_v2(IMAGE if "encoder" in options else TWO_IMAGES, action, **options)
    batch = random_batch(agent.spaces)
    with NoHostReads():
        metrics, feedback = agent.update({"replay": batch}, Counters())
    assert not feedback
    assert all(m.ndim == 0 and not m.requires_grad for m in metrics.values())
    assert all(torch.isfinite(m) for m in metrics.values())


@pytest.mark.parametrize(
    ("action", "options"), [(DISCRETE, {}), (BOX, {"discount_head": True, **RESNET})]
)
def test_losses_compile_without_a_graph_break_to_the_same_numbers(action, options):
    plain, compiled = (nano_v2(action=action, horizon=2, **options) for _ in range(2))
    batch = {key: value[:, :2] for key, value in random_batch(plain.spaces).items()}
    torch._dynamo.reset()
    for name in compiled.COMPILABLE:
        method = torch.compile(getattr(compiled, name), fullgraph=True, backend="eager")
        setattr(compiled, name, method)
    wanted, got = (a.update({"replay": batch}, Counters())[0] for a in (plain, compiled))
    torch.testing.assert_close(got, wanted)


def test_bfloat16_keeps_losses_and_weights_in_float32():
    agent = nano_v2(TWO_IMAGES, BOX, context={"precision": "bfloat16"})
    metrics, exact = update(agent), update(nano_v2(TWO_IMAGES, BOX))
    assert all(m.dtype == torch.float32 for m in metrics.values())
    assert metrics["loss/image"].item() == pytest.approx(exact["loss/image"].item(), rel=0.02)
    assert all(p.dtype == torch.float32 for p in agent.world_model.parameters())


def test_gradients_and_batch_statistics_are_reduced():
    group = WatchedGroup()
    agent = nano_v2(context={"group": group}, **RESNET)
    update(agent)
    trained = sum(len(adam.params) for adam in agent.optimizers.values())
    assert len(group.averaged) == trained + len(statistics(agent))


# Saving


@pytest.mark.parametrize("options", [{}, RESNET])
def test_a_loaded_agent_goes_on_to_the_last_bit(options):
    agent, other = nano_v2(**options), nano_v2(context={"seed": 9}, **options)
    update(agent)
    update(agent, 1)
    other.load_state_dict(agent.state_dict())
    torch.testing.assert_close(update(other, 2), update(agent, 2), atol=0, rtol=0)
    torch.testing.assert_close(other.state_dict(), agent.state_dict(), atol=0, rtol=0)
