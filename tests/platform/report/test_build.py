"""Reports of studies whose figures are known, and of the published curves."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.errors import ConfigError
from reverie.report import statistics as st
from reverie.report.build import build_report
from reverie.report.frame import BuildOptions, make_grid
from reverie.report.sources import read_study
from reverie.report.study import Curve, Interval, Study, Style
from reverie.report.table import make_table
from tests.platform.report.published import DREAMER, HARMONY, published_file
from tests.platform.report.studies import lifted, make_curve, make_study, report_of


@pytest.fixture(scope="module")
def published() -> Study:
    names = {"dv3": DREAMER, "harmony": HARMONY}
    return read_study([f"{name}={published_file(file)}" for name, file in names.items()])


def test_published_curves_give_the_published_figures(published: Study) -> None:
    report = build_report(published, BuildOptions(resamples=2000, curve_resamples=100))
    assert (report.at, report.suites, report.normalised) == (100_000, ("atari100k",), True)
    dreamer, harmony = report.aggregates
    values = [harmony.mean, harmony.median, harmony.iqm, harmony.optimality_gap]
    assert [round(one.value, 5) for one in values if one] == [1.364, 0.67052, 0.60684, 0.46243]
    values = [dreamer.mean, dreamer.median, dreamer.iqm, dreamer.optimality_gap]
    assert [round(one.value, 5) for one in values if one] == [1.07358, 0.41576, 0.47202, 0.50797]
    (comparison,) = report.comparisons
    assert round(comparison.improvement.value, 5) == 0.63923
    assert harmony.top3_tasks == ("boxing", "gopher", "krull")
    assert harmony.iqm.best
    assert harmony.optimality_gap
    assert harmony.optimality_gap.best
    assert not harmony.median.best
    assert not dreamer.iqm.best
    # The table of the published learning curves: mean and median at 100, 200, 300k frames.
    for frames, mean, median in ((100, 0.423, 0.104), (200, 0.788, 0.346), (300, 1.067, 0.445)):
        at = build_report(
            published, BuildOptions(at=frames * 250, resamples=10, curve_resamples=10)
        )
        found = at.aggregates[1]
        assert (found.mean.value, found.median.value) == pytest.approx((mean, median), abs=1e-3)
    pong = next(panel for panel in report.panels if panel.task == "pong")
    assert (pong.random, pong.human, len(pong.lines[0].xs)) == (-20.7, 14.6, 20)


def test_figures_do_not_depend_on_what_else_there_is() -> None:
    alone = report_of(*lifted("a", 1.0))
    beside = report_of(*lifted("b", 2.0), *lifted("a", 1.0))
    assert beside.aggregates[1] == alone.aggregates[0]
    assert (beside.aggregate_lines[1].low == alone.aggregate_lines[0].low).all()


def test_tables_are_taken_where_all_runs_got_and_the_early_one_is_named() -> None:
    curves = [*lifted("a", 1.0), make_curve("x", "b", 9, {50: 5, 100: 7}, suite=None)]
    report = report_of(*curves)
    assert report.at == 150  # its last evaluation and one gap further
    final = report.panels[0].finals[1]
    assert final.by_seed == {"9": 7}
    assert any("because b on x with seed 9 (b/x/9) ends there" in text for text in report.warnings)


def test_a_finished_run_counts_to_its_budget() -> None:
    run = make_curve("x", "a", 0, {50: 5, 300: 7, 301: 8}, suite=None, finished=True, budget=1000)
    other = make_curve("x", "a", 1, {50: 5, 900: 7}, suite=None)
    assert report_of(run, other).at == 900
    unfinished = make_curve("x", "a", 0, {50: 5, 300: 7, 301: 8}, suite=None, budget=1000)
    assert report_of(unfinished, other).at == 551


def test_nothing_is_extrapolated_on_request_either() -> None:
    with pytest.raises(ConfigError, match=r"--at 900: a/x/0 .* ends at 400; nothing is extrapol"):
        report_of(*lifted("a", 1.0), at=900)
    assert report_of(*lifted("a", 1.0), at=250).panels[0].finals[0].by_seed["0"] == pytest.approx(
        1 / 3
    )


def test_fewer_than_three_seeds_have_no_interval_anywhere() -> None:
    report = report_of(*lifted("a", 1.0, seeds=2), *lifted("b", 2.0, seeds=5), threshold=0.5)
    assert report.aggregates[0].iqm.interval is None
    assert report.aggregates[1].iqm.interval is not None
    assert report.comparisons[0].improvement.interval is None
    assert report.comparisons[0].data_efficiency
    assert report.comparisons[0].data_efficiency.interval is None
    assert report.efficiency[0].area.interval is None
    assert report.aggregate_lines[0].low is None
    assert report.profiles[0].low is None
    for panel in report.panels:
        assert panel.finals[0].value.interval is None
        assert panel.lines[0].low is None
        assert panel.lines[1].low is not None
    assert not any(one.iqm.best for one in report.aggregates)


def test_sample_efficiency_counts_runs_that_never_got_there() -> None:
    report = report_of(*lifted("a", 0.4), *lifted("b", 1.0), threshold=0.6)
    slow, fast = report.efficiency
    assert (slow.reached, slow.runs, slow.median_x, slow.iqm_x) == (0, 6, None, None)
    assert (fast.reached, fast.runs, fast.median_x, fast.iqm_x) == (6, 6, 300, 300)
    reached = report.panels[0].reached[1]
    assert (reached.reached, reached.median) == (3, 300)
    assert reached.by_seed == {"0": 300, "1": 300, "2": 300}
    assert fast.area.value > slow.area.value


def test_data_efficiency_is_x_of_the_baseline_per_x_of_the_method() -> None:
    report = report_of(*lifted("a", 1.0), *lifted("b", 3.1))
    (one,) = report.comparisons
    assert (one.method, one.baseline) == ("b", "a")
    assert one.improvement.value == 1
    # 1.01, where a ends at 400, b has at 200: its 3.11 / 3 is more.
    assert one.data_efficiency
    assert one.data_efficiency.value == 2
    assert one.level == pytest.approx(1.01)
    assert one.data_efficiency.interval == Interval(2, 2)


def test_finals_without_curves_stand_in_tables_alone() -> None:
    curves = [make_curve("x", "b", seed, {400: 1.0}, suite=None) for seed in range(3)]
    report = report_of(*lifted("a", 1.0, ("x",)), *curves)
    assert report.at == 400
    assert [line.method for line in report.panels[0].lines] == ["a"]
    assert [line.method for line in report.aggregate_lines] == ["a"]
    assert report.efficiency == ()
    assert report.comparisons[0].data_efficiency is None


def test_suites_with_no_common_scale_have_no_common_aggregate() -> None:
    curves = [
        make_curve(task, "a", seed, {100: 1.0, end: 2.0}, suite=suite)
        for task, suite, end in (("catch", "toy", 200), ("walker_walk", "dmc", 900))
        for seed in range(3)
    ]
    report = report_of(*curves)
    assert report.at is None
    assert [(panel.task, panel.at) for panel in report.panels] == [
        ("dmc/walker_walk", 900),
        ("toy/catch", 200),
    ]
    assert report.aggregates == ()


def with_columns(curve: Curve, **columns: list[float]) -> Curve:
    from dataclasses import replace

    return replace(curve, columns={key: np.array(value) for key, value in columns.items()})


def test_another_x_axis_is_taken_from_the_runs_own_columns() -> None:
    curves = [
        with_columns(make_curve(seed=s, points={1: 0, 2: 1, 3: 2}), updates=[0, 0, 10])
        for s in range(3)
    ]
    report = report_of(*curves, x="updates")
    assert (report.x.unit, report.at) == ("updates", 10)
    assert report.panels[0].traces[0].xs.tolist() == [0, 10]
    assert report.panels[0].traces[0].ys.tolist() == [1, 2]  # the later of two at 0 updates
    with pytest.raises(ConfigError, match=r"--x hours: a/pong/0 .* choose env_steps or updates"):
        report_of(*curves, x="hours")


def test_style_orders_labels_and_chooses() -> None:
    style = Style(
        labels={"b": "Ours"}, colours={"b": "#123456"}, order=("b",), baseline="a", tasks=("y",)
    )
    report = report_of(*lifted("a", 1.0), *lifted("b", 2.0), style=style)
    assert [(one.method, one.label) for one in report.methods] == [("b", "Ours"), ("a", "a")]
    assert report.methods[0].colour == "#123456"
    assert [panel.task for panel in report.panels] == ["y"]
    assert report.comparisons[0].method == "b"


@pytest.mark.parametrize(
    ("style", "message"),
    [
        (Style(labels={"c": "C"}), "style: labels: expected a method that there is (a), got 'c'"),
        (Style(baseline="c"), "style: baseline: expected a method that there is (a), got 'c'"),
        (Style(order=("c",)), "style: order: expected a method"),
        (Style(tasks=("z",)), "style: tasks: expected some of x, y, got 'z'"),
    ],
)
def test_a_style_that_names_what_is_not_there_is_refused(style: Style, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        report_of(*lifted("a", 1.0), style=style)
    assert message in str(caught.value)


def test_grids_are_the_evaluations_or_evenly_spaced() -> None:
    table = make_table(make_study(*lifted("a", 1.0)).curves, "env_steps", Style())
    assert make_grid(table.runs, 100, 400, 10).tolist() == [100, 200, 300, 400]
    assert make_grid(table.runs, 150, 350, 10).tolist() == [200, 300, 350]
    assert make_grid(table.runs, 100, 400, 3).tolist() == [100, 250, 400]


def test_traces_are_thinned_to_ends_and_evaluations() -> None:
    points = {float(x): float(x * x) for x in range(1, 1001)}
    report = report_of(make_curve("x", suite=None, points=points))
    trace = report.panels[0].traces[0]
    assert len(trace.xs) == 240
    assert (trace.xs[0], trace.xs[-1]) == (1, 1000)
    assert (trace.ys == trace.xs**2).all()


def test_best_figures_are_those_whose_intervals_lie_apart() -> None:
    def one(value: float, low: float, high: float) -> st.Estimate:
        return st.Estimate(value, Interval(low, high), 5)

    column = [one(1, 0.9, 1.1), one(2, 1.2, 2.5), one(0, -1, 1)]
    assert [e.best for e in st.mark_best(column)] == [False, True, False]
    assert [e.best for e in st.mark_best(column, least=True)] == [False, False, False]
    column[2] = one(0, -1, 0.8)
    assert [e.best for e in st.mark_best(column, least=True)] == [False, False, True]
    assert not any(e.best for e in st.mark_best(column[:1]))
    assert not any(e.best for e in st.mark_best([*column, st.Estimate(9, None, 2)]))


def test_rules_say_where_and_how() -> None:
    text = " ".join(report_of(*lifted("a", 1.0)).rules)
    assert "at 400 steps, the last x that all runs reached" in text
    assert "200 resamples in tables, 100 in" in text
    assert "last evaluation at or before" in text
