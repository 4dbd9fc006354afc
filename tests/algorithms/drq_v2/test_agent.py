"""DrQ-v2: sizes, refusals, losses, what learns from what, and what an update must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reverie.protocols import AgentContext
from reverie.types import ActionSpec, ArraySpec, Counters, Spaces
from reverie_algorithms.drq_v2.actor_critic import LARGEST_ACTION
from reverie_algorithms.drq_v2.agent import DrQV2
from reverie_algorithms.drq_v2.frame_stacks import PAD, transitions
from reverie_algorithms.drq_v2.nets import Critic
from tests.algorithms.dreamer_v3_2023.test_agent import NoHostReads
from tests.algorithms.small_2023 import DISCRETE
from tests.algorithms.small_drq import BATCH, IMAGE, MIXED, draws, drq_agent, update, windows
from tests.fakes import WatchedGroup

# Sizes


@pytest.mark.parametrize(
    ("side", "actions", "counts"),
    [(64, 4, (30_368, 2_106_074, 3_214_040)), (84, 6, (30_368, 3_068_124, 4_178_136))],
)
def test_parameter_counts_are_those_of_the_official_code(side, actions, counts, monkeypatch):
    monkeypatch.setattr("reverie_algorithms.drq_v2.agent.make_generator", lambda *_: None)
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda tensor, gain=1.0: tensor)
    obs = {"image": ArraySpec((side, side, 3), "uint8")}
    spaces = Spaces(obs, ActionSpec("box", (), actions))
    with torch.device("meta"):
        agent = DrQV2(DrQV2.Config(), spaces, AgentContext(1, 1, 0, device="meta"))
    trained, targets = agent.module_sizes()
    assert (trained["encoder"], trained["actor"], trained["critic"]) == counts
    assert targets == {"critic_target": trained["critic"]}


def test_sizes_are_the_published_groups_of_tasks():
    durations = {"easy": 100_000, "medium": 500_000, "hard": 2_000_000}
    for size, duration in durations.items():
        config = DrQV2.Config(size=size, **DrQV2.config_defaults({"size": size}))
        assert config.noise_steps == duration
        assert (config.lr, config.features) == ((8e-5, 100) if size == "hard" else (1e-4, 50))
    with pytest.raises(
        ValueError, match=r"size: expected one of \['tiny', 'easy', 'medium', 'hard'"
    ):
        DrQV2.config_defaults({"size": "huge"})
    assert DrQV2.Config(**DrQV2.config_defaults({})) == DrQV2.Config()


def test_windows_hold_the_stack_and_the_steps_and_count_one_row():
    spec = drq_agent(stack=2, num_steps=4).streams()["replay"]
    assert (spec.window_length, spec.trained_steps) == (6, BATCH)


def test_weights_start_orthogonal_and_biases_at_zero():
    agent = drq_agent(hidden=16)
    for weight in (agent.actor.layers[1].weight, *agent.learner.critic.weights[1]):
        torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=1e-5, rtol=0)
    conv = agent.encoder.images["image"].convs[1].weight.flatten(1)
    torch.testing.assert_close(conv @ conv.T, 2 * torch.eye(4), atol=1e-5, rtol=0)
    names = {
        **dict(agent.learner.critic.named_parameters()),
        **dict(agent.encoder.named_parameters()),
    }
    assert not any(p.any() for name, p in names.items() if "bias" in name)


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": DISCRETE}, r"wants continuous \(box\) actions, got discrete with \[3\]"),
        (
            {"obs": {"proprio": ArraySpec((3,), "float32")}},
            r"wants at least one image, got \['proprio'\]",
        ),
        ({"context": {"batch_length": 64}}, r"batch_length: .* expected 1, got 64"),
        (
            {"obs": {"image": ArraySpec((14, 64, 3), "uint8")}},
            r"'image': expected sides of at least 15 pixels, got 14 x 64",
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_does_not_fit_is_refused_when_it_is_built(options, message, training):
    context = {**options.get("context", {}), "training": training}
    with pytest.raises(ValueError, match=message):
        drq_agent(**options | {"context": context})


# Losses


def test_two_critics_are_two_plain_networks():
    critic = Critic(7, 2, 5, 8)
    embed, action = torch.randn(3, 7), torch.randn(3, 2)
    got = critic(embed, action)
    for number in range(2):
        x = torch.cat([critic.trunk(embed), action], -1)
        for layer, (weight, bias) in enumerate(zip(critic.weights, critic.biases, strict=True)):
            x = F.linear(F.relu(x) if layer else x, weight[number].T, bias[number, 0])
        torch.testing.assert_close(got[number], x.squeeze(-1))


def test_the_loss_is_that_of_a_plain_computation():
    agent, std = drq_agent(), torch.tensor(0.7)
    data, (shift, noise) = windows(agent), draws(agent)
    with torch.no_grad():
        for param in agent.learner.critic_target.parameters():
            param.add_(0.1)
    got, embed, _, metrics = agent.critic_loss(data, shift, noise[0], std)

    steps = transitions(data, 3, 3, agent.config.gamma)
    seen = [agent.encoder(data, r, s).clone() for r, s in zip(steps[:2], shift, strict=True)]
    action = (agent.actor(seen[1]) + (std * noise[0]).clamp(-0.3, 0.3)).clamp(-1, 1)
    behind = torch.minimum(*agent.learner.critic_target(seen[1], action))
    target = (steps.return_B + agent.config.gamma**3 * behind).detach()
    values = agent.learner.critic(seen[0], data["action"][:, 2])
    wanted = sum(F.mse_loss(value, target) for value in values)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(metrics["value/target"], target.mean())

    loss, _ = agent.actor_loss(embed, steps.weight_B, noise[1], std)
    action = (agent.actor(embed) + (std * noise[1]).clamp(-0.3, 0.3)).clamp(-1, 1)
    torch.testing.assert_close(loss, -torch.minimum(*agent.learner.critic(embed, action)).mean())


def test_states_without_an_action_weigh_nothing():
    agent = drq_agent()
    data, (shift, noise) = windows(agent), draws(agent)
    stack = agent.config.stack
    data["is_last"][1, stack - 1] = data["is_first"][1, stack] = True
    losses = []
    for reward in (0.0, 1e6):
        data["reward"][1] = reward
        loss, embed, weight, _ = agent.critic_loss(data, shift, noise[0], torch.ones(()))
        losses.append((loss, agent.actor_loss(embed, weight, noise[1], torch.ones(()))[0]))
    assert losses[0] == losses[1]
    rest = torch.arange(BATCH) != 1
    few = {key: value[rest] for key, value in data.items()}
    loss, *_ = agent.critic_loss(few, shift[:, :, rest], noise[0][rest], torch.ones(()))
    torch.testing.assert_close(loss, losses[0][0])


def test_a_batch_without_a_single_state_to_learn_from_is_no_loss():
    agent = drq_agent()
    data = windows(agent)
    data["is_last"][:, 2] = data["is_first"][:, 3] = True
    metrics, _ = agent.update({"replay": data}, Counters())
    assert metrics["loss/critic"] == metrics["loss/actor"] == 0


def test_actions_beyond_the_bounds_are_cut_and_keep_their_gradient():
    agent = drq_agent()
    mean = torch.tensor([[0.9, -0.9]], requires_grad=True)
    action = agent.learner.explore(mean, torch.tensor([[5.0, -0.01]]), torch.ones(()))
    assert action.tolist() == [[pytest.approx(LARGEST_ACTION), pytest.approx(-0.91)]]
    assert torch.autograd.grad(action.sum(), mean)[0].tolist() == [[1, 1]]


def test_noise_falls_linearly_with_env_steps_and_then_stays():
    agent = drq_agent(noise_steps=1000)
    found = [agent.config.noise_std(steps) for steps in (0, 500, 1000, 9000)]
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert update(agent, env_steps=500)["noise/std"] == pytest.approx(0.55)


# What learns from what


def grads(loss, module):
    found = torch.autograd.grad(loss, [*module.parameters()], allow_unused=True, retain_graph=True)
    return [grad is not None and bool(grad.any()) for grad in found]


def test_critics_teach_the_encoder_and_the_actor_only_itself():
    agent, std = drq_agent(MIXED), torch.ones(())
    shift, noise = draws(agent)
    critic, embed, weight, _ = agent.critic_loss(windows(agent), shift, noise[0], std)
    assert all(grads(critic, agent.encoder))
    assert all(grads(critic, agent.learner.critic))
    assert not any(grads(critic, agent.actor))
    assert not embed.requires_grad
    actor, _ = agent.actor_loss(embed, weight, noise[1], std)
    assert all(grads(actor, agent.actor))
    assert not any(grads(actor, agent.encoder))


def test_every_module_learns_and_the_target_follows_slowly():
    agent = drq_agent(MIXED)
    before = {key: value for key, value in agent.state_dict().items() if key != "generators"}
    update(agent)
    after = agent.state_dict()
    for module, tensors in before["modules"].items():
        for name, tensor in tensors.items():
            assert not torch.equal(tensor, after["modules"][module][name]), (module, name)
    for name, old in before["rest"]["critic_target"].items():
        wanted = 0.99 * old + 0.01 * after["modules"]["critic"][name]
        torch.testing.assert_close(after["rest"]["critic_target"][name], wanted)


def test_the_actor_finds_the_side_that_pays():
    agent = drq_agent(lr=3e-3, gamma=0.0, num_steps=1, stack=1)
    for seed in range(60):
        data = windows(agent, seed)
        data["reward"][:, 1] = data["action"][:, 0, 0] - data["action"][:, 0, 1]
        agent.update({"replay": data}, Counters())
    action, _ = agent.act(look(agent, 128, True), agent.initial_carry(1), "mode", Counters())
    assert action[0, 0] > 0.5
    assert action[0, 1] < -0.5


# The update as a program


def test_update_reads_nothing_back():
    agent = drq_agent(MIXED)
    data = windows(agent)
    with NoHostReads():
        metrics, feedback = agent.update({"replay": data}, Counters(env_steps=10))
    assert not feedback
    assert all(m.ndim == 0 and not m.requires_grad for m in metrics.values())
    assert all(torch.isfinite(m) for m in metrics.values())


def test_losses_compile_without_a_graph_break_to_the_same_numbers():
    plain, compiled = drq_agent(), drq_agent()
    torch._dynamo.reset()
    for name in compiled.COMPILABLE:
        method = torch.compile(getattr(compiled, name), fullgraph=True, backend="eager")
        setattr(compiled, name, method)
    wanted, got = (update(agent) for agent in (plain, compiled))
    torch.testing.assert_close(got, wanted)


def test_bfloat16_keeps_losses_and_weights_in_float32():
    agent = drq_agent(MIXED, context={"precision": "bfloat16"})
    metrics, exact = update(agent), update(drq_agent(MIXED))
    assert all(m.dtype == torch.float32 for m in metrics.values())
    assert metrics["loss/critic"].item() == pytest.approx(exact["loss/critic"].item(), rel=0.02)
    assert all(p.dtype == torch.float32 for m in agent.modules().values() for p in m.parameters())


def test_gradients_are_reduced():
    group = WatchedGroup()
    agent = drq_agent(context={"group": group})
    update(agent)
    assert group.calls == 2
    assert len(group.averaged) == sum(len([*m.parameters()]) for m in agent.modules().values())


def test_every_sample_and_every_image_moves_by_itself():
    shifts = draws(drq_agent(MIXED), 400)[0]
    assert shifts.shape == (2, 2, 400, 2)
    assert (shifts.amin().item(), shifts.amax().item()) == (0, 2 * PAD)
    assert len(shifts.movedim(2, 0).flatten(1).unique(dim=0)) > 390
    assert not torch.equal(shifts[:, 0], shifts[:, 1])


def test_building_an_agent_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    drq_agent()
    assert torch.equal(before, torch.random.get_rng_state())


# Acting


def look(agent, value, is_first=False):
    obs = {key: np.full((1, *s.shape), value, s.dtype) for key, s in agent.spaces.obs.items()}
    return obs | {"is_first": np.array([is_first])}


def test_the_carry_is_the_stack_of_frames():
    agent = drq_agent(MIXED)
    carry = agent.initial_carry(1)
    assert carry.keys() == agent.keys.images.keys() | agent.keys.vectors.keys()
    for value, first, wanted in ((7, True, [7, 7, 7]), (8, False, [7, 7, 8]), (9, True, [9] * 3)):
        _, carry = agent.act(look(agent, value, first), carry, "train", Counters())
        for stack in carry.values():
            assert [frame.float().mean().item() for frame in stack[0]] == wanted


def test_acting_sees_what_learning_sees():
    agent = drq_agent(MIXED)
    data = windows(agent)
    rows = torch.tensor([0, 1, 2]).expand(BATCH, -1)
    still = torch.full((2, BATCH, 2), PAD)
    wanted = agent.actor(agent.encoder(data, rows, still))
    carry = agent.initial_carry(BATCH)
    for row in range(3):
        obs = {key: data[key][:, row].numpy() for key in carry}
        first = np.full(BATCH, row == 0)
        action, carry = agent.act(obs | {"is_first": first}, carry, "mode", Counters())
    np.testing.assert_allclose(action, wanted.detach().numpy(), atol=1e-6)


def test_training_explores_with_the_noise_of_now_and_samples_with_that_of_the_end():
    agent = drq_agent(noise_steps=1000, action=ActionSpec("box", (), 400))
    agent.actor.layers[-1].weight.data.zero_()
    carry, obs = agent.initial_carry(1), look(agent, 3, True)
    acts = {
        (mode, steps): agent.act(obs, carry, mode, Counters(env_steps=steps))[0]
        for mode in ("train", "sample", "mode")
        for steps in (800, 5000)
    }
    assert acts["train", 800].std() == pytest.approx(0.28, rel=0.15)
    assert acts["train", 5000].std() == pytest.approx(0.1, rel=0.15)
    assert acts["sample", 800].std() == pytest.approx(0.1, rel=0.15)
    assert not acts["mode", 800].any()


def test_unknown_mode_is_refused():
    agent = drq_agent()
    with pytest.raises(ValueError, match=r"'train', 'sample', 'mode'.*'eval'"):
        agent.act(look(agent, 1), agent.initial_carry(1), "eval", Counters())


def test_report_shows_real_frames_above_shifted_ones():
    agent = drq_agent(MIXED)
    data = windows(agent)
    videos, metrics = agent.report({"replay": data})
    video = videos["augmented/image"]
    assert video.shape == (6, 2 * 21, BATCH * 21, 3)
    assert (video[:, :21, :21] == data["image"][0].numpy()).all()
    assert (video[:, 21:, :21] != data["image"][0].numpy()).any()
    assert videos["augmented/wrist"].shape == (6, 2 * 15, BATCH * 18, 3)
    assert metrics["augmented/counted"] == 1


def test_an_image_alone_needs_no_other_keys():
    assert drq_agent(IMAGE).encoder.size == 4 * 4 * 4
