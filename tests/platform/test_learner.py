"""What a learner publishes, pins, watches and writes back, on real replay and real limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reverie.config import resolve_config
from reverie.env_factory import spaces_of
from reverie.errors import NonFiniteLoss
from reverie.group import Alone
from reverie.learner import pick_device
from reverie.local_run import LocalRun
from reverie.policy_learner import PolicyLearner, stream_specs
from reverie.protocols import StreamSpec
from reverie.types import Version
from tests.fakes import tree


def owing(folder: Path, updates: int = 8, agent: str = "Plain", **overrides: Any) -> LocalRun:
    """A run whose prefill is taken and which owes `updates` updates."""
    settings = {"run__env_steps": 60, "run__prefill": 60, "learner__pretrain": updates}
    config = resolve_config(tree(agent, **settings | overrides))
    run = LocalRun(config, spaces_of(config.env), folder)
    while run.coordinator.counters().env_steps < 60:
        run.workers[0].collect()
    return run


def watch_publications(run: LocalRun) -> list[Version]:
    """Every version that reaches the weight store from now on."""
    seen: list[Version] = []
    publish = run.learner._weights.publish

    def noting(version: Version, state: Any) -> None:
        seen.append(version)
        publish(version, state)

    run.learner._weights.publish = noting
    return seen


def test_weights_are_published_every_so_many_updates_and_when_nothing_is_left(
    tmp_path: Path,
) -> None:
    run = owing(tmp_path, learner__publish_every_updates=3)
    seen = watch_publications(run)
    assert run.learner.train().updates == 8
    assert [version.grad_updates for version in seen] == [3, 6, 8]
    run.learner.train()
    assert len(seen) == 3


def test_in_lockstep_weights_are_published_only_when_all_due_updates_are_made(
    tmp_path: Path,
) -> None:
    run = owing(tmp_path, run__lockstep=True, learner__publish_every_updates=3)
    seen = watch_publications(run)
    run.learner.train()
    assert [version.grad_updates for version in seen] == [8]


def test_workers_act_with_what_was_published(tmp_path: Path) -> None:
    run = owing(tmp_path, run__env_steps=80)
    run.learner.train()
    run.workers[0].collect()
    version, state = run._weights.newer_than(None)
    assert version == run.learner.version == run.workers[0]._actor.version == Version(0, 8)
    for key, value in run.workers[0]._actor.agent.policy_state().items():
        assert (value == state[key]).all()


def test_published_weights_do_not_change_when_learning_goes_on(tmp_path: Path) -> None:
    run = owing(tmp_path, learner__publish_every_updates=1)
    run.learner.train(most=2)
    _, state = run._weights.newer_than(None)
    kept = {key: value.copy() for key, value in state.items()}
    run.learner.train(most=2)
    assert all((kept[key] == value).all() for key, value in state.items())
    now = run.learner.agent.policy_state()
    assert any((kept[key] != now[key]).any() for key in kept)


def test_weights_are_pinned_once_per_eval_interval(tmp_path: Path) -> None:
    run = owing(
        tmp_path, 0, run__env_steps=300, eval__every=100, eval__video=False, learner__pretrain=1
    )
    pins = []
    while not run.coordinator.finished():
        run.workers[0].collect()
        run.learner.train()
        pins += run._weights.pins()
        for at in run._weights.pins():
            assert run._weights.pinned(at).version.grad_updates <= run.learner.version.grad_updates
            run._weights.unpin(at)
    assert [at // 100 for at in pins] == [1, 2]


def test_a_pin_looks_at_the_latest_batch(tmp_path: Path) -> None:
    run = owing(tmp_path)
    run.learner.train(most=1)
    run.learner.pin(60)
    (report,) = run.learner.train(most=1).reports
    assert report.at == 60
    assert report.metrics == {"rows": 5.0}
    assert report.videos["batch"].shape == (5, 8, 8, 3)
    assert run.learner.train(most=1).reports == []


def test_training_stops_at_the_number_of_updates_or_the_seconds_it_was_given(
    tmp_path: Path,
) -> None:
    run = owing(tmp_path)
    assert run.learner.train(seconds=0).updates == 0
    stats = run.learner.train(most=3)
    assert (stats.updates, stats.grad_updates, stats.trained_steps) == (3, 3, 3 * 20)
    stats = run.learner.train()
    assert (stats.updates, stats.grad_updates, stats.trained_steps) == (5, 8, 8 * 20)
    assert stats.metrics["loss/plain"] > 0
    assert run.learner.train().metrics == {}
    assert run.coordinator.limiter.trained_batches == 8
    assert run.coordinator.limiter.in_flight == 0


@pytest.mark.parametrize("device", ["cpu", "late"])
def test_a_loss_that_is_not_finite_is_named_and_its_weights_are_never_published(
    device: str, tmp_path: Path
) -> None:
    run = owing(tmp_path, algorithm__nan_at=5, learner__publish_every_updates=1000)
    # On a GPU losses are looked at when weights are read, not after each update.
    run.learner._device = device
    seen = watch_publications(run)
    with pytest.raises(NonFiniteLoss, match="loss/plain became NaN or infinite by update"):
        run.learner.train()
    assert seen == []
    for read in (run.learner.state_dict, lambda: run.learner.pin(60), run.learner.publish):
        with pytest.raises(NonFiniteLoss, match="loss/plain"):
            read()


def test_weights_that_are_not_finite_are_neither_published_nor_pinned_nor_saved(
    tmp_path: Path,
) -> None:
    run = owing(tmp_path)
    run.learner.train(most=2)
    seen = watch_publications(run)
    # A gradient may be infinite where the loss is not.
    with torch.no_grad():
        run.learner.agent.net.bias[1] = float("inf")
    for read in (run.learner.state_dict, lambda: run.learner.pin(60), run.learner.publish):
        with pytest.raises(NonFiniteLoss, match=r"tensor policy/bias became NaN.*by update 2"):
            read()
    assert seen == []


def test_moments_of_the_optimizer_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    run = owing(tmp_path)
    run.learner.train(most=2)
    run.learner.agent.optimizer.state()["weight"]["exp_avg_sq"][0] = float("nan")
    with pytest.raises(NonFiniteLoss, match="tensor agent/optimizer/weight/exp_avg_sq"):
        run.learner.state_dict()


def test_a_report_holds_the_first_batch_s_pictures_and_means_over_all(tmp_path: Path) -> None:
    run = owing(tmp_path)
    ready = run.learner._stream.next()
    one = {"replay": {key: value.clone() for key, value in ready.batches["replay"].items()}}
    half = {"replay": {key: value[:, :2] for key, value in one["replay"].items()}}
    report = run.learner.report_on([one, half], 33)
    assert report.at == 33
    assert report.metrics == {"rows": (5.0 + 2.0) / 2}
    assert report.videos["batch"].shape[0] == 5
    assert run.learner.report_on([], 0).videos == {}


class Spoiled(Alone):
    """A group in which another learner's losses are not finite."""

    def any(self, flag: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(flag)


def test_a_learner_s_agent_knows_the_group_and_stops_where_another_learner_must(
    tmp_path: Path,
) -> None:
    run, group = owing(tmp_path), Spoiled()
    config, spaces = run.learner._config, spaces_of(run.learner._config.env)
    parts = run.learner._stream, run.learner._weights
    learner = PolicyLearner(config, spaces, *parts, device="cpu", group=group)
    assert learner.agent.context.group is group
    with pytest.raises(NonFiniteLoss, match="loss/plain"):
        learner.train()


def test_a_loaded_learner_goes_on_counting_where_the_saved_one_was(tmp_path: Path) -> None:
    run = owing(tmp_path / "a", eval__every=20)
    run.learner.train(most=5)
    state = run.learner.state_dict()
    other = owing(tmp_path / "b", eval__every=20)
    other.learner.load_state_dict(state["learner"])
    assert other.learner.version == Version(0, 5)
    assert other.learner._next_pin == run.learner._next_pin
    mine, theirs = (one.learner.agent.policy_state() for one in (run, other))
    assert all((mine[key] == theirs[key]).all() for key in mine)
    assert all((state["policy"][key].numpy() == mine[key]).all() for key in mine)
    # A learner that died was behind what the limiter counted: trained batches stay trained.
    other.learner.load_state_dict(state["learner"], batches=7)
    assert other.learner.train(seconds=0).trained_steps == 7 * 20


def test_a_saved_state_is_not_changed_by_later_updates(tmp_path: Path) -> None:
    run = owing(tmp_path)
    run.learner.train(most=2)
    policy = run.learner.state_dict()["policy"]
    kept = {key: value.clone() for key, value in policy.items()}
    run.learner.train(most=2)
    assert all(torch.equal(kept[key], value) for key, value in policy.items())


def test_feedback_is_written_back_and_comes_with_the_next_sample(tmp_path: Path) -> None:
    run = owing(tmp_path, 60, agent="TwoStreams", resources__num_shards=2)
    known = []
    for _ in range(60):
        run.learner.train(most=1)
        batch = run.learner._latest.batches["transitions"]
        if "side/valid" not in batch:
            continue
        valid = batch["side/valid"]
        known.append(valid.float().mean().item())
        assert torch.equal(batch["side/priority"][valid], batch["reward"].abs()[valid])
        assert not batch["side/priority"][~valid].any()
    assert known[-1] > 0.5 > known[0]


def test_freshest_first_replaces_uniform_streams_only() -> None:
    specs = {
        "a": StreamSpec(4, 5),
        "b": StreamSpec(2, 5, sampler="episodes"),
    }
    plain = resolve_config(tree())
    fresh = resolve_config(tree(replay__freshest_first=True))
    assert stream_specs(plain, specs) == specs
    found = stream_specs(fresh, specs)
    assert {name: spec.sampler for name, spec in found.items()} == {
        "a": "freshest",
        "b": "episodes",
    }
    assert found["a"].batch_length == 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_refused() -> None:
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"resources\.device is cuda"):
        pick_device("cuda")
