"""Scores count exactly the episodes they say, and say by which protocol they were taken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import registry
from reverie.agent_actor import AgentActor
from reverie.config import TrainConfig, resolve_config
from reverie.env_factory import spaces_of
from reverie.errors import ConfigError, EnvFailed
from reverie.evaluator import (
    EvalResult,
    Evaluator,
    check_eval_env,
    play_episodes,
    protocol_of,
    score,
)
from reverie.links import Actor
from reverie.local_run import LocalRun
from reverie.policy import make_agent
from reverie.protocols import Agent, Mode
from reverie.seeds import EVAL_ENVS, derive_seed
from reverie.types import Counters, Version
from reverie.weight_store import WeightStore
from tests.fakes import EPISODE, CountingEnv, tree

SCORED = "tests.fakes:Scored"


def vector_of(*lengths: int) -> Any:
    makers = [lambda length=length: CountingEnv(length) for length in lengths]
    return registry.load(registry.VECTOR_ENV)(makers, lambda env, episode: 10 * env + episode)


def scored(
    config: TrainConfig,
    agent: Agent,
    counters: Counters | None = None,
    mode: Mode | None = None,
    **options: Any,
) -> EvalResult:
    protocol, counters = protocol_of(config, mode), counters or Counters()
    actor = AgentActor(agent, protocol.mode, counters=counters)
    return score(config, actor, protocol, counters, **options)


def acting(agent: Agent) -> Actor:
    return AgentActor(agent, "sample")


def agent_for(agent: str = "Plain", **overrides: Any) -> tuple[Any, Agent]:
    config = resolve_config(tree(agent, **overrides))
    return config, make_agent(config, spaces_of(config.env), seed=0, training=False)


@pytest.mark.parametrize(
    ("episodes", "shares"), [(7, (3, 2, 2)), (3, (1, 1, 1)), (2, (1, 1, 0)), (12, (4, 4, 4))]
)
def test_every_environment_plays_its_fixed_share_however_long_its_episodes_are(
    episodes: int, shares: tuple[int, ...]
) -> None:
    _, agent = agent_for()
    played, _ = play_episodes(vector_of(2, 20, 5), acting(agent), episodes)
    assert len(played) == episodes
    wanted = {length: share for length, share in zip((2, 20, 5), shares, strict=True) if share}
    assert Counter(result.length for result in played) == wanted


def test_an_episode_that_never_ends_is_cut_off_and_the_next_one_begins_anew() -> None:
    _, agent = agent_for()
    vector, resets = vector_of(10**9, 3), list[tuple[int, int]]()
    vector._seeds = lambda *at: resets.append(at) or 0
    played, frames = play_episodes(vector, acting(agent), 5, max_steps=7, record=True)
    assert sorted(resets) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    found = sorted((result.length, result.is_cut) for result in played)
    assert found == [(3, False), (3, False), (7, True), (7, True), (7, True)]
    assert len(frames["image"]) == 8  # the first episode alone
    assert all(result.ret <= result.length for result in played)


def test_a_limit_that_an_episode_just_meets_cuts_nothing() -> None:
    _, agent = agent_for()
    played, _ = play_episodes(vector_of(3), acting(agent), 2, max_steps=3)
    assert [(result.length, result.is_cut) for result in played] == [(3, False)] * 2


@pytest.mark.parametrize("native", [False, True])
def test_a_score_says_how_many_episodes_were_cut_off(
    native: bool, caplog: pytest.LogCaptureFixture
) -> None:
    suite = f"tests.fakes:{'CountingMany' if native else 'Counting'}"
    config, agent = agent_for(
        env={"suite": suite, "task": "count", "length": 10**9},
        eval={"episodes": 3, "max_steps": 4},
    )
    result = scored(config, agent)
    assert result.protocol == "counting-v1-max_steps=4"
    assert [episode.length for episode in result.episodes] == [4, 4, 4]
    assert result.cut_episodes == result.metrics()["eval/cut_episodes"] == 3
    assert "3 of 3 episodes did not end within 4 steps" in caplog.text


def test_the_suite_s_own_limit_is_no_other_protocol() -> None:
    config, _ = agent_for(eval={"max_steps": 27_000})
    assert protocol_of(config) == protocol_of(agent_for()[0])


def test_a_score_is_the_mean_return_under_the_suite_s_protocol() -> None:
    config, agent = agent_for(eval__episodes=5)
    result = scored(config, agent, Counters(env_steps=70, grad_updates=4))
    returns = [episode.ret for episode in result.episodes]
    assert len(returns) == 5
    assert result.score == np.mean(returns)
    assert (result.protocol, result.normalised) == ("counting-v1", None)
    assert (result.env_steps, result.grad_updates) == (70, 4)
    metrics = result.metrics()
    assert metrics["eval/score"] == result.score
    assert metrics["eval/episodes"] == 5
    assert metrics["eval/length"] == EPISODE
    assert "eval/human_normalised" not in metrics


def test_the_protocol_says_how_many_episodes_if_nobody_else_does() -> None:
    config, agent = agent_for(eval={"episodes": None})
    assert len(scored(config, agent).episodes) == protocol_of(config).episodes == 2
    assert len(scored(config, agent, episodes=3).episodes) == 3


def test_acting_by_another_mode_is_another_protocol() -> None:
    config, agent = agent_for()
    modes: list[str] = []
    act = agent.act

    def noting(obs: Any, carry: Any, mode: Any, counters: Any) -> Any:
        modes.append(mode)
        return act(obs, carry, mode, counters)

    agent.act = noting  # type: ignore[method-assign]
    assert scored(config, agent, mode="sample").protocol == "counting-v1"
    assert set(modes) == {"sample"}
    modes.clear()
    assert scored(config, agent, mode="mode").protocol == "counting-v1-mode"
    assert set(modes) == {"mode"}


def test_a_preset_s_mode_wins_over_the_suite_s_and_stands_in_the_id() -> None:
    config, agent = agent_for(eval={"episodes": 2, "mode": "mode", "max_steps": 4})
    assert (found := protocol_of(config)).mode == "mode"
    assert found.id == "counting-v1-max_steps=4-mode" == scored(config, agent).protocol
    asked = protocol_of(config, "sample")
    assert (asked.mode, asked.id) == ("sample", "counting-v1-max_steps=4")


def test_naming_the_suite_s_own_mode_is_no_other_protocol() -> None:
    config, _ = agent_for(eval={"mode": "sample"})
    assert protocol_of(config) == protocol_of(agent_for()[0])


def test_evaluations_of_a_run_act_in_its_mode() -> None:
    config, _ = agent_for(eval={"mode": "mode"})
    evaluator = Evaluator(config, spaces_of(config.env), WeightStore())
    assert evaluator._protocol.mode == evaluator._actor._mode == "mode"


def test_a_suite_with_references_gets_a_normalised_score() -> None:
    config, agent = agent_for("Planner", env="toy/catch", eval__episodes=8)
    result = scored(config, agent)
    assert result.normalised == pytest.approx((result.score + 0.6) / 1.6)
    assert result.metrics()["eval/human_normalised"] == result.normalised


def test_a_suite_s_own_figures_stand_beside_the_score() -> None:
    config, agent = agent_for(env__suite=SCORED, eval__episodes=6, eval__envs=1)
    result = scored(config, agent)
    assert result.suite_scores == {"won_percent": 50.0}
    assert result.metrics()["eval/won_percent"] == 50.0


def test_what_an_environment_logs_late_was_0_before() -> None:
    config, agent = agent_for(env__suite=SCORED, eval__episodes=4, eval__envs=1)
    result = scored(config, agent)
    assert "won_max" not in result.episodes[0].logs
    assert result.metrics()["eval/won_max"] == 0.5


def test_evaluations_take_the_options_of_their_own() -> None:
    config, agent = agent_for(env__length=9, eval__env__length=4)
    assert scored(config, agent).metrics()["eval/length"] == 4


def test_the_protocol_s_id_tells_the_options_of_evaluations() -> None:
    assert protocol_of(resolve_config(tree(env="toy/catch"))).id == "toy-v1"
    config = resolve_config(tree(env="toy/catch", eval__env__continuous=True))
    assert protocol_of(config).id == "toy-v1-continuous=True"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("catch", r"eval\.env: continuous=True .* got action box 1 instead of discrete \[3\];"),
        ("multi", r"eval\.env: env\.continuous: expected a task with one choice"),
    ],
)
def test_options_that_change_the_spaces_are_refused(task: str, message: str) -> None:
    config = resolve_config(tree(env=f"toy/{task}", eval__env__continuous=True))
    with pytest.raises(ConfigError, match=message):
        check_eval_env(config, spaces_of(config.env))


def test_options_that_leave_the_spaces_alone_are_not_refused() -> None:
    config = resolve_config(tree(eval__env__length=4))
    check_eval_env(config, spaces_of(config.env))


def test_without_options_of_its_own_no_second_environment_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = resolve_config(tree(env__length=4, eval__env__length=4))
    spaces = spaces_of(config.env)
    monkeypatch.setattr(registry, "suite", None)
    check_eval_env(config, spaces)


@pytest.mark.parametrize("envs", [1, 2])
def test_recorded_frames_are_the_first_episode_of_the_first_environment(envs: int) -> None:
    config, agent = agent_for(eval__episodes=4, eval__envs=envs)
    frames = scored(config, agent, record=True).video
    assert frames.keys() == {"image"}
    env = CountingEnv()
    obs, _ = env.reset(seed=derive_seed(config.seed, EVAL_ENVS, 0))
    shown = [obs["image"], *(env.step(0)[0]["image"] for _ in range(EPISODE))]
    np.testing.assert_array_equal(frames["image"], shown)


def test_recording_outlasts_shorter_episodes_elsewhere() -> None:
    _, agent = agent_for()
    _, frames = play_episodes(vector_of(9, 2), acting(agent), 4, record=True)
    assert len(frames["image"]) == 10


def test_nothing_is_recorded_unless_asked() -> None:
    config, agent = agent_for()
    assert scored(config, agent).video == {}


def test_evaluations_repeat_and_differ_from_training_episodes() -> None:
    config, agent = agent_for(eval__episodes=1)
    first, second = (scored(config, agent, record=True).video["image"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    training = CountingEnv().reset(seed=derive_seed(config.seed, 0, 0, 0))[0]["image"]
    assert not np.array_equal(first[0], training)


def test_an_evaluator_scores_the_pinned_weights_and_unpins_them() -> None:
    config, agent = agent_for(eval__episodes=3)
    eager = agent.policy_state()
    eager["bias"][:] = [-50, 50, -50]
    lazy = {key: value.copy() for key, value in eager.items()}
    lazy["bias"][:] = [50, -50, -50]
    weights = WeightStore()
    weights.pin(Version(0, 3), 100, eager)
    weights.pin(Version(0, 5), 200, lazy)
    evaluator = Evaluator(config, spaces_of(config.env), weights)
    results = [evaluator.evaluate(at) for at in weights.pins()]
    # Action 1 pays 1 at every step, the others nothing.
    assert [(r.env_steps, r.grad_updates, r.score) for r in results] == [
        (100, 3, float(EPISODE)),
        (200, 5, 0.0),
    ]
    assert weights.pins() == []
    assert evaluator.evaluate(100) is None


def test_evaluating_does_not_disturb_training(tmp_path: Path) -> None:
    states = []
    for every in (0, 50):
        config = resolve_config(tree(run__env_steps=150, eval__every=every, eval__video=False))
        run = LocalRun(config, spaces_of(config.env), tmp_path / str(every))
        while not run.step().finished:
            pass
        states.append(run.learner.agent.policy_state())
    assert all((states[0][key] == states[1][key]).all() for key in states[0])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "ZeroDivisionError: the simulator fell over"),
        ("hang", r"it hangs at:\n(.|\n)*time.sleep"),
        ("nan", "observation 'count' is not finite"),
    ],
)
def test_an_environment_that_fails_in_an_evaluation_is_named(fault: str, words: str) -> None:
    config, agent = agent_for(env={"fault": fault, "at": 7, "step_timeout_s": 0.2})
    with pytest.raises(
        EnvFailed, match=rf"Counting/count failed in an evaluation:\n(.|\n)*{words}"
    ):
        scored(config, agent, episodes=9)


def test_an_evaluation_that_would_fail_again_does_not_begin_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, agent = agent_for(env={"fault": "shape", "at": 7})
    weights = WeightStore()
    weights.pin(Version(0, 3), 100, agent.policy_state())
    with pytest.raises(EnvFailed, match=r"'count' has shape \(3,\)"):
        Evaluator(config, spaces_of(agent_for()[0].env), weights).evaluate(100)
    assert "begins anew" not in caplog.text


def test_an_evaluation_begins_anew_as_often_as_environments_may_be_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, agent = agent_for(run__max_env_restarts=1)
    weights, outcomes = WeightStore(), ["fails", "score", "fails", "fails"]
    weights.publish(Version(0, 1), agent.policy_state())

    def play_next(*_: Any, **__: Any) -> str:
        if (outcome := outcomes.pop(0)) == "fails":
            raise EnvFailed("the simulator fell over")
        return outcome

    monkeypatch.setattr("reverie.evaluator.score", play_next)
    evaluator = Evaluator(config, spaces_of(config.env), weights)
    weights.pin(Version(0, 1), 40, agent.policy_state())
    assert evaluator.evaluate(40) == "score"
    weights.pin(Version(0, 1), 40, agent.policy_state())
    with pytest.raises(EnvFailed):
        evaluator.evaluate(40)
    assert outcomes == []
