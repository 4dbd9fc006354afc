"""Every registered algorithm, and every stub of the tests, keeps the promises of `Agent`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie import registry
from reverie.finite import first_not_finite
from reverie.protocols import StreamSpec
from reverie.types import STEP_ID, ActionSpec, ArraySpec, Counters, Spaces
from tests.contract.cases import (
    ACTING,
    ACTING_IDS,
    ACTIONS,
    ACTORS,
    CASES,
    EXPRESSED,
    IDS,
    OBSERVATIONS,
    REFUSED,
    SMALLEST,
    assert_same,
    batches,
    learn,
    make,
    observe,
    play,
    through_a_file,
)

MODES = ("train", "sample", "mode")

every_agent = pytest.mark.parametrize(("name", "spaces"), CASES, ids=IDS)
every_actor = pytest.mark.parametrize(("name", "spaces"), ACTING, ids=ACTING_IDS)


def test_every_registered_algorithm_is_tried_here() -> None:
    assert SMALLEST.keys() == registry.ALGORITHMS.keys()


@pytest.mark.parametrize(("name", "action", "obs"), REFUSED)
@pytest.mark.parametrize("training", [True, False])
def test_spaces_an_algorithm_cannot_express_are_refused(
    name: str, action: str, obs: str, training: bool
) -> None:
    with pytest.raises(ValueError, match=r"wants .*, got "):
        make(name, Spaces(OBSERVATIONS[obs], ACTIONS[action]), training)


@every_agent
def test_streams_are_valid_and_the_first_is_drawn_for_every_update(
    name: str, spaces: Spaces
) -> None:
    streams = make(name, spaces).streams()
    assert next(iter(streams.values())).every == 1
    for spec in streams.values():
        assert isinstance(spec, StreamSpec)
        assert min(spec.batch_size, spec.batch_length, spec.every) >= 1
        assert spec.context >= 0
        assert spec.sampler in ("uniform", "freshest", "episodes")
    # The coordinator asks an agent that only acts.
    assert make(name, spaces, training=False).streams() == streams


@every_agent
def test_an_update_returns_scalars_with_a_finite_loss_and_feedback_by_step_id(
    name: str, spaces: Spaces
) -> None:
    agent = make(name, spaces)
    losses = []
    for number in range(4):
        drawn = batches(agent, spaces, number)
        metrics, feedback = agent.update(drawn, Counters(grad_updates=number))
        for key, value in metrics.items():
            assert torch.is_tensor(value), key
            assert value.numel() == 1, key
            assert not value.requires_grad, key
        own = {key: float(value) for key, value in metrics.items() if key.startswith("loss/")}
        assert own
        assert np.isfinite(list(own.values())).all(), own
        losses.append(own)
        if feedback:
            assert feedback[STEP_ID].dtype == torch.int64
            ids = torch.cat([rows[STEP_ID].flatten() for rows in drawn.values()])
            assert set(feedback[STEP_ID].flatten().tolist()) <= set(ids.tolist())
            for key, value in feedback.items():
                assert value.shape[:2] == feedback[STEP_ID].shape, key
    assert losses[0] != losses[1]


@pytest.mark.parametrize("name", ACTORS)
def test_any_name_of_a_picture_will_do(name: str) -> None:
    picture, action = OBSERVATIONS["image"]["image"], EXPRESSED[name][0].action
    names = ("observation.images.top", "observation%2Eimages.top", "type", "type%", "", "a/b", "é")
    spaces = Spaces(dict.fromkeys(names, picture), action)
    agent, other = make(name, spaces), make(name, spaces, training=False)
    learn(agent, spaces, 0)
    other.load_policy_state(agent.policy_state())
    videos, _ = agent.report(batches(agent, spaces, 0))
    assert len(videos) == len(names)
    assert play(other, spaces).shape[:2] == (3, 2)
    again = make(name, spaces)
    again.load_state_dict(through_a_file(agent.state_dict()))
    assert_same(again.state_dict(), agent.state_dict())


@pytest.mark.parametrize("sides", [(96, 96), (84, 96), (210, 160), (75, 100)])
@pytest.mark.parametrize("name", ACTORS)
def test_pictures_of_any_size_will_do(name: str, sides: tuple[int, int]) -> None:
    picture = ArraySpec((*sides, 3), "uint8")
    spaces = Spaces({"image": picture}, EXPRESSED[name][0].action)
    agent = make(name, spaces)
    assert np.isfinite(list(learn(agent, spaces, 0)[0].values())).all()
    videos, _ = agent.report(batches(agent, spaces, 0))
    assert all(film.dtype == np.uint8 for film in videos.values())
    acting = make(name, spaces, training=False)
    acting.load_policy_state(agent.policy_state())
    assert play(acting, spaces, steps=1).shape[:2] == (1, 2)


@pytest.mark.parametrize("name", SMALLEST)
def test_depth_is_refused_with_what_to_do(name: str) -> None:
    spaces = Spaces({"depth": ArraySpec((64, 64, 1), "float32")}, EXPRESSED[name][0].action)
    with pytest.raises(ValueError, match=r"'depth'.*float32 \[64, 64, 1\].*np\.clip\(depth / FAR"):
        make(name, spaces)


@pytest.mark.parametrize("name", ACTORS)
def test_a_picture_keeps_the_tensors_of_its_own_name(name: str) -> None:
    picture, action = OBSERVATIONS["image"]["image"], EXPRESSED[name][0].action
    agent = make(name, Spaces({"image": picture, "side view/rgb": picture}, action))
    names = {
        key.split("images.")[1].split(".")[0] for key in agent.policy_state() if "images." in key
    }
    assert names == {"image", "side view/rgb"}


@every_agent
def test_an_update_leaves_its_batch_as_it_was(name: str, spaces: Spaces) -> None:
    agent = make(name, spaces)
    drawn = batches(agent, spaces, 0)
    agent.update(drawn, Counters())
    assert_same(drawn, batches(agent, spaces, 0))


@every_agent
def test_updates_repeat_with_the_seed_and_differ_without(name: str, spaces: Spaces) -> None:
    first, same = (make(name, spaces) for _ in range(2))
    assert learn(first, spaces, 0, 1, 2) == learn(same, spaces, 0, 1, 2)
    assert_same(first.state_dict(), same.state_dict())


@every_actor
@pytest.mark.parametrize("count", [1, 5])
def test_carry_is_a_flat_dict_with_one_row_per_environment(
    name: str, spaces: Spaces, count: int
) -> None:
    agent = make(name, spaces, training=False)
    carry = agent.initial_carry(count)
    _, after = agent.act(observe(spaces, count), carry, "train", Counters())
    assert after.keys() == carry.keys()
    for key, value in carry.items():
        assert isinstance(value, np.ndarray | Tensor), key
        assert len(value) == count, key
        assert after[key].shape == value.shape, key
        assert after[key].dtype == value.dtype, key


@every_actor
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 5])
def test_actions_have_the_form_and_range_of_the_space(
    name: str, spaces: Spaces, mode: str, count: int
) -> None:
    agent = make(name, spaces, training=False)
    actions = play(agent, spaces, mode, count, steps=4)
    wanted = spaces.action
    assert actions.shape == (4, count, *wanted.shape)
    assert actions.dtype == wanted.dtype
    if wanted.kind == "box":
        assert (np.abs(actions) <= 1).all()
    else:
        assert (actions >= 0).all()
        assert (actions < np.array(wanted.num if wanted.shape else wanted.num[0])).all()


@every_actor
def test_first_rows_start_from_the_initial_state(name: str, spaces: Spaces) -> None:
    agent, fresh = make(name, spaces, training=False), make(name, spaces, training=False)
    carry = agent.initial_carry(2)
    for step in range(3):
        _, carry = agent.act(observe(spaces, 2, step), carry, "mode", Counters())
    fresh.load_policy_state(agent.policy_state())
    set_generator(fresh, agent)
    obs = observe(spaces, 2, 7)
    left = agent.act(obs, carry, "mode", Counters())
    right = fresh.act(obs, fresh.initial_carry(2), "mode", Counters())
    assert_same(left, right)


def set_generator(agent: Any, like: Any) -> None:
    """Put the acting generator where that of `like` stands."""
    for name in ("act_generator", "act_rng"):
        if hasattr(agent, name):
            getattr(agent, name).set_state(getattr(like, name).get_state())


@every_actor
@pytest.mark.parametrize("training", [True, False])
def test_policy_state_moves_the_behaviour_to_another_agent(
    name: str, spaces: Spaces, training: bool
) -> None:
    agent = make(name, spaces)
    learn(agent, spaces, 0, 1)
    other = make(name, spaces, training, seed=7)
    state = agent.policy_state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    other.load_policy_state(state)
    set_generator(other, agent)
    np.testing.assert_array_equal(play(agent, spaces), play(other, spaces))
    kept = {key: value.copy() for key, value in state.items()}
    learn(agent, spaces, 2)
    assert_same(state, kept)
    assert any((agent.policy_state()[key] != kept[key]).any() for key in kept)


@every_agent
def test_a_saved_state_goes_on_to_the_last_bit_and_needs_no_pickle(
    name: str, spaces: Spaces
) -> None:
    agent = make(name, spaces)
    learn(agent, spaces, 0, 1)
    saved = through_a_file(agent.state_dict())
    wanted = learn(agent, spaces, 2, 3, 4)
    other = make(name, spaces, seed=7)
    other.load_state_dict(saved)
    assert learn(other, spaces, 2, 3, 4) == wanted
    assert_same(other.state_dict(), agent.state_dict())


@every_actor
def test_acting_does_not_disturb_learning(name: str, spaces: Spaces) -> None:
    acting, still = make(name, spaces), make(name, spaces)
    learn(acting, spaces, 0)
    play(acting, spaces)
    learn(still, spaces, 0)
    assert learn(acting, spaces, 1) == learn(still, spaces, 1)


@every_agent
def test_a_report_holds_videos_and_figures_and_leaves_no_trace(name: str, spaces: Spaces) -> None:
    agent, other = make(name, spaces), make(name, spaces)
    videos, metrics = agent.report(batches(agent, spaces, 0))
    for key, frames in videos.items():
        assert isinstance(frames, np.ndarray), key
        assert frames.dtype == np.uint8, key
        assert frames.ndim == 4, key
        assert frames.shape[-1] == 3, key
    images = [key for key, spec in spaces.obs.items() if spec.is_image]
    assert len(videos) >= bool(images)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert learn(agent, spaces, 0) == learn(other, spaces, 0)


@every_agent
def test_module_sizes_add_up_to_what_is_trained(name: str, spaces: Spaces) -> None:
    agent = make(name, spaces)
    modules, targets = agent.module_sizes()
    assert all(isinstance(count, int) and count > 0 for count in modules.values())
    assert all(isinstance(count, int) and count > 0 for count in targets.values())
    policy = sum(value.size for value in agent.policy_state().values())
    assert sum(modules.values()) + sum(targets.values()) >= policy
    if hasattr(agent, "learned"):
        parts = [p for part in agent.learned.values() for p in part.parameters()]
        trained = {id(p): p.numel() for p in parts if p.requires_grad}
        assert sum(modules.values()) == sum(trained.values())


def tensors(agent: Any) -> dict[str, Tensor]:
    """Copies of every tensor of the trained parts, by `module/tensor`."""
    return {
        f"{name}/{key}": value.detach().clone()
        for name, part in agent.modules().items()
        for key, value in part.state_dict().items()
    }


def changed(before: dict[str, Tensor], agent: Any) -> set[str]:
    return {key for key, value in tensors(agent).items() if not torch.equal(value, before[key])}


def of(module: str, names: Any) -> set[str]:
    return {name for name in names if name.partition("/")[0] == module}


@every_agent
def test_a_saved_state_holds_the_trained_parts_by_name(name: str, spaces: Spaces) -> None:
    agent = make(name, spaces)
    saved = agent.state_dict()["modules"]
    assert saved.keys() == agent.modules().keys() >= agent.module_sizes()[0].keys()
    for key, value in tensors(agent).items():
        module, _, tensor = key.partition("/")
        assert torch.equal(saved[module][tensor], value)


@every_agent
def test_an_agent_starts_from_all_parts_of_another(name: str, spaces: Spaces) -> None:
    trained, agent, fresh = make(name, spaces), make(name, spaces, seed=7), make(name, spaces)
    learn(trained, spaces, 0, 1)
    found = agent.initialise(through_a_file(trained.state_dict()), ())
    assert set(found.loaded) == tensors(agent).keys()
    assert not found.skipped
    assert not found.mismatched
    assert_same(tensors(agent), tensors(trained))
    for key in ("optimizers", "optimizer"):
        assert_same(agent.state_dict().get(key), fresh.state_dict().get(key))
    for target in agent.targets().values() if hasattr(agent, "targets") else ():
        for value in target.parameters():
            same_shape = (own for own in tensors(agent).values() if own.shape == value.shape)
            assert any(torch.equal(own, value) for own in same_shape)


@every_agent
def test_an_agent_starts_from_the_chosen_parts_only(name: str, spaces: Spaces) -> None:
    trained, agent = make(name, spaces), make(name, spaces, seed=7)
    learn(trained, spaces, 0, 1)
    before, (first, *_) = tensors(agent), agent.modules()
    found = agent.initialise(trained.state_dict(), (first,))
    assert set(found.loaded) == of(first, before)
    assert found.skipped == dict.fromkeys(before.keys() - found.loaded, "not chosen")
    assert changed(before, agent) <= of(first, before)
    learn(agent, spaces, 2)


@every_agent
def test_frozen_parts_stay_as_they_are_until_they_are_released(name: str, spaces: Spaces) -> None:
    agent = make(name, spaces)
    before = tensors(agent)
    for frozen in (of(next(iter(agent.modules())), before), set(before)):
        agent.freeze(frozen)
        before = tensors(agent)
        learn(agent, spaces, 0, 1)
        # Statistics that a forward pass gathers may move.
        moved = {key for key in changed(before, agent) if "/running_" not in key.replace(".", "/")}
        assert not moved & frozen
        assert moved or frozen == before.keys() or len(agent.modules()) == 1
    agent.freeze(())
    learn(agent, spaces, 0, 1)
    assert len(changed(before, agent)) > len(before) // 2


def with_more_actions(spaces: Spaces) -> Spaces:
    more = {"discrete": ActionSpec("discrete", (5,)), "box": ActionSpec("box", (), 5)}
    return Spaces(spaces.obs, more[spaces.action.kind])


@pytest.mark.parametrize("name", ACTORS)
def test_another_action_space_leaves_what_depends_on_it_fresh(name: str) -> None:
    trained = make(name, EXPRESSED[name][0])
    spaces = with_more_actions(trained.spaces)
    agent = make(name, spaces, seed=7)
    before = tensors(agent)
    learn(trained, trained.spaces, 0)
    found = agent.initialise(trained.state_dict(), ())
    assert found.mismatched
    assert found.mismatched.keys() | set(found.loaded) == before.keys()
    assert not changed(before, agent) & found.mismatched.keys()
    assert all("here (" in why and "there (" in why for why in found.mismatched.values())
    assert of("encoder", found.loaded) == of("encoder", before)
    agent.freeze(found.loaded)
    learn(agent, spaces, 0)


@pytest.mark.parametrize("name", ACTORS)
def test_a_state_of_another_agent_is_refused_with_the_tensor_s_name(name: str) -> None:
    spaces = EXPRESSED[name][0]
    wider = with_more_actions(spaces)
    agent = make(name, spaces)
    before = agent.policy_state()
    for load, state in (
        (agent.load_state_dict, make(name, wider).state_dict()),
        (agent.load_policy_state, make(name, wider).policy_state()),
    ):
        with pytest.raises(ValueError, match=r"'[\w./]+': expected shape \(.*\), got \(.*\)"):
            load(state)
    assert_same(agent.policy_state(), before)


@every_agent
def test_weights_that_are_no_numbers_give_losses_that_are_none_and_no_other_error(
    name: str, spaces: Spaces
) -> None:
    agent = make(name, spaces)
    learn(agent, spaces, 2)
    assert first_not_finite(agent.state_dict(), name) is None
    with torch.no_grad():
        for module in agent.modules().values():
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
    metrics = learn(agent, spaces, 2)[-1]
    losses = {key: value for key, value in metrics.items() if key.startswith("loss/")}
    assert not all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert first_not_finite(agent.state_dict(), name) is not None
