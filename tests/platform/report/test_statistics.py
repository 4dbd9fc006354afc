"""Statistics against the published figures, rliable's own intervals, and plain loops."""

from __future__ import annotations

import time

import numpy as np
import pytest

from reverie.report import statistics as st
from tests.platform.report.published import DREAMER, HARMONY, final_scores

# rliable 1.2.0 (arch 7.2.0, pandas 2.3.3, numpy 2.4.6), percentile method, with these indices of
# 2,000 resamples: default_rng(0) for HarmonyDream, default_rng(1) for DreamerV3, task by task.
RLIABLE = {
    HARMONY: {
        "mean": (1.3639974653, 1.1879918756527932, 1.5617527515868248),
        "median": (0.6705150207, 0.4143486503320124, 0.7220495327203768),
        "iqm": (0.6068373957, 0.5522132850081819, 0.6774125463734351),
        "optimality_gap": (0.4624344908, 0.4461795809694508, 0.4796875823518685),
    },
    DREAMER: {
        "mean": (1.0735828318, 0.9914664677456206, 1.1674229639050004),
        "median": (0.4157560638, 0.3164697951301508, 0.5046091949506362),
        "iqm": (0.4720165784, 0.43154537420678546, 0.5188290418166797),
        "optimality_gap": (0.5079733075, 0.48751010133494865, 0.5269607009399006),
    },
}
IMPROVEMENT = (0.6392307692307693, 0.5730576923076923, 0.7007692307692308)
SEEDS = {HARMONY: 0, DREAMER: 1}


def drawn(name: str) -> list[st.Array]:
    return st.draw(np.random.default_rng(SEEDS[name]), [5] * 26, 2_000)


@pytest.mark.parametrize("name", [HARMONY, DREAMER])
def test_aggregates_and_intervals_of_published_scores_are_rliables(name: str) -> None:
    found = st.estimates(final_scores(name), st.STATISTICS, drawn(name))
    for key, wanted in RLIABLE[name].items():
        one = found[key]
        assert one.interval
        assert (one.value, one.interval.low, one.interval.high) == pytest.approx(wanted, abs=1e-9)


def test_probability_of_improvement_of_published_scores_is_rliables() -> None:
    harmony, dreamer = final_scores(HARMONY), final_scores(DREAMER)
    draws = st.improvement_draws(harmony, dreamer, drawn(HARMONY), drawn(DREAMER))
    one = st.estimate(st.improvement(harmony, dreamer), draws, 5)
    assert one.interval
    assert (one.value, one.interval.low, one.interval.high) == pytest.approx(IMPROVEMENT, abs=1e-9)


def test_the_three_best_games_make_half_of_the_published_mean() -> None:
    share, best = st.top_share(np.array([runs.mean() for runs in final_scores(HARMONY)]))
    assert share == pytest.approx(0.52, abs=0.005)
    assert len(best) == 3


def ragged() -> list[st.Array]:
    generator = np.random.default_rng(7)
    return [generator.normal(size=size) for size in (5, 3, 4, 6)]


def test_draws_come_task_by_task_from_one_generator() -> None:
    found = st.draw(np.random.default_rng(3), [5, 2], 4)
    generator = np.random.default_rng(3)
    assert (found[0] == generator.integers(5, size=(4, 5))).all()
    assert (found[1] == generator.integers(2, size=(4, 2))).all()


def test_resampled_figures_equal_a_loop_over_draws() -> None:
    scores = ragged()
    indices = st.draw(np.random.default_rng(0), [len(runs) for runs in scores], 50)
    some = st.resample(scores, indices)
    for r in range(50):
        runs = [task[drawn[r]] for task, drawn in zip(scores, indices, strict=True)]
        pooled = np.sort(np.concatenate(runs))
        means = [one.mean() for one in runs]
        gap = np.mean([np.mean([1 - min(x, 1) for x in one]) for one in runs])
        assert st.iqm(some)[r] == pytest.approx(pooled[4:14].mean())  # 18 runs, 4 cut off each end
        assert st.mean(some)[r] == pytest.approx(np.mean(means))
        assert st.median(some)[r] == pytest.approx(np.median(means))
        assert st.optimality_gap(some)[r] == pytest.approx(gap)


def test_comparisons_and_profiles_of_draws_equal_a_loop() -> None:
    xs, ys = ragged(), [runs.round() for runs in ragged()]
    i = st.draw(np.random.default_rng(1), [len(runs) for runs in xs], 30)
    j = st.draw(np.random.default_rng(2), [len(runs) for runs in ys], 30)
    taus = np.linspace(-1, 1, 7)
    wins, profiles = st.improvement_draws(xs, ys, i, j), st.profile_draws(xs, taus, i)
    for r in range(30):
        x = [task[d[r]] for task, d in zip(xs, i, strict=True)]
        y = [task[d[r]] for task, d in zip(ys, j, strict=True)]
        share = np.mean(
            [
                np.mean([(a > b) + 0.5 * (a == b) for a in one for b in other])
                for one, other in zip(x, y, strict=True)
            ]
        )
        assert wins[r] == pytest.approx(share)
        assert st.improvement(x, y) == pytest.approx(share)
        wanted = [np.mean([np.mean(one > tau) for one in x]) for tau in taus]
        assert profiles[r] == pytest.approx(wanted)
        assert st.profile(x, taus) == pytest.approx(wanted)


def test_ties_count_half() -> None:
    assert st.improvement([np.zeros(3)], [np.zeros(3)]) == 0.5


def test_fewer_than_three_seeds_give_no_interval() -> None:
    scores = [np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5])]
    indices = st.draw(np.random.default_rng(0), [3, 2], 100)
    assert st.estimates(scores, st.STATISTICS, indices)["mean"] == st.Estimate(0.325, None, 2)
    whole = [scores[0], np.array([0.4, 0.5, 0.6])]
    indices = st.draw(np.random.default_rng(0), [3, 3], 100)
    assert st.estimates(whole, st.STATISTICS, indices)["mean"].interval is not None


def test_batches_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = ragged()
    indices = st.draw(np.random.default_rng(0), [len(runs) for runs in scores], 100)
    once = st.estimates(scores, st.STATISTICS, indices)
    monkeypatch.setattr(st, "BATCH", 33)
    assert st.estimates(scores, st.STATISTICS, indices) == once


@pytest.mark.parametrize(
    ("means", "share"),
    [([4, 3, 2, 1], 0.9), ([4, 3, 2], None), ([1, 0, 0, -2], None), ([1, 1, 1, -1], 1.5)],
)
def test_share_of_the_three_best(means: list[float], share: float | None) -> None:
    assert st.top_share(np.array(means, float))[0] == share


def test_values_are_taken_from_the_last_evaluation_at_or_before() -> None:
    xs, ys = np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 3.0])
    found = st.at_or_before(xs, ys, np.array([5.0, 10.0, 19.9, 20.0, 39.0, 40.0]))
    assert found == pytest.approx([np.nan, 1, 1, 2, 2, 3], nan_ok=True)
    assert st.reach(xs) == 60
    assert st.reach(xs, 100.0) == 100
    assert st.reach(np.array([10.0])) == 10


def test_area_and_threshold_of_step_wise_curves() -> None:
    grid, curve = np.array([10.0, 20.0, 40.0]), np.array([0.0, 3.0, 9.0])
    assert st.area(grid, curve) == pytest.approx(2.0)  # the last value has no width
    assert st.first_reaching(grid, np.array([curve, curve]), np.array([3.0, 9.5])).tolist() == [
        20,
        np.inf,
    ]


def test_half_the_data_for_the_same_level_is_an_efficiency_of_two() -> None:
    grid = np.array([10.0, 20.0, 30.0, 40.0])
    fast, slow = np.array([1.0, 4.0, 5.0, 6.0]), np.array([0.0, 1.0, 2.0, 4.0])
    assert [float(x) for x in st.data_efficiency(grid, fast, slow)] == [2.0, 4.0]
    assert float(st.data_efficiency(grid, slow, fast)[0]) == 0.5


def test_iqm_curves_of_draws_equal_those_of_drawn_runs() -> None:
    generator = np.random.default_rng(0)
    curves = [generator.normal(size=(seeds, 6)) for seeds in (5, 4)]
    indices = st.draw(generator, [5, 4], 20)
    found = st.iqm_curve_draws(curves, indices)
    for r in range(20):
        drawn = [runs[d[r]] for runs, d in zip(curves, indices, strict=True)]
        assert found[r] == pytest.approx(st.iqm_curve(drawn))
    assert st.mean_draws(curves[0], indices[0])[3] == pytest.approx(
        curves[0][indices[0][3]].mean(0)
    )


@pytest.mark.parametrize(
    ("reached", "median"),
    [([1, None, 3], 3), ([1, None, None], None), ([1, 3], 2), ([1, None], None), ([5], 5)],
)
def test_runs_that_never_reach_count_as_later_than_any(
    reached: list[float | None], median: float | None
) -> None:
    assert st.median_or_never(reached) == median


def test_fifty_thousand_resamples_of_26_tasks_are_quick() -> None:
    scores = [np.random.default_rng(t).normal(size=5) for t in range(26)]
    begin = time.process_time()
    indices = st.draw(np.random.default_rng(0), [5] * 26, st.RESAMPLES)
    st.estimates(scores, st.STATISTICS, indices)
    assert time.process_time() - begin < 10
