"""What the toy tasks show and pay."""

import numpy as np
import pytest

from reverie_envs.toy import BLUE, FILM_FRAMES, WHITE, Catch, CatchDistracted, Toy
from reverie_envs.wrappers import standardise

SUITE = Toy()


def make(task):
    return SUITE.make(task, SUITE.Config())


def returns(env, choose, episodes):
    totals = []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(choose(obs))
            total, over = total + reward, terminated or truncated
        totals.append(total)
    return np.array(totals)


def follow_the_ball(obs):
    """Go where the white pixels are; once the ball is in the paddle's row, stay."""
    white = obs["image"].min(axis=2)[:57].max(axis=0)
    if not white.any():
        return 1
    paddle = (obs["image"][60] == BLUE).all(axis=1)
    ball, paddle = (np.flatnonzero(columns).mean() for columns in (white, paddle))
    return int(np.sign(round(ball - paddle, -1))) + 1


def test_catch_pays_one_to_who_follows_the_ball_and_little_to_chance():
    rng = np.random.default_rng(0)
    random = returns(Catch(), lambda _: rng.integers(3), 2000)
    assert random.mean() == pytest.approx(-0.6, abs=0.06)
    assert returns(Catch(), follow_the_ball, 50).mean() == 1


def without_film(obs):
    """Black out all that is neither ball nor paddle."""
    image = obs["image"]
    drawn = (image == WHITE).all(-1) | (image == BLUE).all(-1)
    return {"image": image * drawn[..., None].astype(np.uint8)}


def test_the_distracted_catch_is_the_same_task_behind_the_film():
    plain, distracted = Catch(), CatchDistracted()
    (seen, _), (behind, _) = plain.reset(seed=3), distracted.reset(seed=3)
    for action in (0, 1, 2, 0, 0, 0, 0, 0, 0):
        assert (without_film(behind)["image"] == seen["image"]).all()
        (seen, *rest), (behind, *same) = plain.step(action), distracted.step(action)
        assert rest == same
    wins = returns(CatchDistracted(), lambda obs: follow_the_ball(without_film(obs)), 20)
    assert wins.mean() == 1


def test_the_film_moves_repeats_and_begins_at_a_random_frame():
    env, starts = CatchDistracted(), []
    for seed in range(5):
        image = env.reset(seed=seed)[0]["image"]
        assert (image == CatchDistracted().reset(seed=seed)[0]["image"]).all()
        starts.append(image[20:50].tobytes())  # below the ball, above the paddle
        moved = env.step(1)[0]["image"]
        assert np.abs(moved[20:50].astype(int) - image[20:50]).mean() > 10
        env._frame += FILM_FRAMES
        assert (env._obs()["image"] == moved).all()
    assert len(set(starts)) > 2


def test_the_film_costs_more_to_rebuild_than_ball_and_paddle():
    images = [CatchDistracted().reset(seed=seed)[0]["image"] / 255 for seed in range(40)]
    plain = [Catch().reset(seed=seed)[0]["image"] / 255 for seed in range(40)]
    error, task_error = (np.var(np.stack(batch), axis=0).sum() for batch in (images, plain))
    assert error > 3 * task_error


def test_catch_lasts_nine_decisions_and_ends_terminal():
    env = make("catch")
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(9)]
    assert ends == [(False, False)] * 8 + [(True, False)]


def test_the_ball_starts_in_every_column():
    env = make("catch")
    columns = {env.reset(seed=seed)[0]["image"][0, :, 0].argmax() for seed in range(60)}
    assert len(columns) == 5


def test_continuous_catch_moves_by_thirds_of_the_range():
    dial, plain = SUITE.make("catch", SUITE.Config(continuous=True)), make("catch")
    assert dial.action_space.shape == (1,)
    dial.reset(seed=4), plain.reset(seed=4)
    turns = [(-1, 0), (-0.34, 0), (-0.33, 1), (0, 1), (0.33, 1), (0.34, 2), (1, 2)]
    for turn, choice in turns:
        (seen, *rest), (wanted, *same) = dial.step(np.array([turn])), plain.step(choice)
        assert (seen["image"] == wanted["image"]).all()
        assert rest == same


def test_scores_of_the_continuous_catch_have_a_protocol_of_their_own():
    plain, dial = (SUITE.protocol("catch", SUITE.Config(continuous=c)).id for c in (False, True))
    assert plain == "toy-v1"
    assert dial == "toy-v1-continuous=True"


def test_only_tasks_with_one_choice_can_be_continuous():
    for task in ("multi", "two_cameras"):
        with pytest.raises(ValueError, match=f"one choice, got {task}"):
            SUITE.make(task, SUITE.Config(continuous=True))


def test_two_cameras_shows_point_and_target_where_they_are():
    env = make("two_cameras")
    obs, _ = env.reset(seed=1)
    env._point, env._target = np.array([0.5, 0.5]), np.array([0.7, 0.5])
    obs, reward, _, _, info = env.step(np.zeros(2, np.float32))
    rows, columns = np.nonzero(obs["image"][..., 1] == 200)
    assert rows.mean() < 20  # y points up
    assert columns.mean() > 44
    red = np.nonzero(obs["wrist"][..., 0] == 220)
    assert red[1].mean() > 16  # the target lies to the right of the point
    assert reward == pytest.approx(-0.2)
    assert obs["proprio"].tolist() == [0.5, 0.5]
    assert info["log/success"] == 0.0


def test_two_cameras_reports_success_and_times_out():
    env = standardise(make("two_cameras"))
    env.reset(seed=1)
    for _ in range(50):
        offset = (env.unwrapped._target - env.unwrapped._point) / 0.1
        _, _, terminated, truncated, info = env.step(offset.astype(np.float32))
    assert (terminated, truncated) == (False, True)
    assert info["log/success"] == 1.0


def test_multi_pays_for_every_right_component_and_times_out():
    env = make("multi")
    obs, _ = env.reset(seed=2)
    for _ in range(10):
        row, column = (axis[0] for axis in np.nonzero(obs["image"][..., 0]))
        answer = np.array([round(row / 16 * 3), round(column / 8)])
        obs, reward, terminated, truncated, _ = env.step(answer)
        assert reward == 1
    assert (terminated, truncated) == (False, True)


def test_an_unknown_task_is_refused():
    with pytest.raises(KeyError, match="did you mean catch"):
        make("catsh")
