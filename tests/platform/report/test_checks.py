"""What must not stand in one table, and what readers are told of what may."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.errors import ConfigError
from reverie.report.checks import refuse_or_mark_mixed
from reverie.report.study import Style
from tests.platform.report.studies import lifted, make_curve, report_of


@pytest.mark.parametrize(
    ("fact", "values", "message"),
    [
        (
            "protocol",
            ("v1", "v2"),
            "different evaluation protocols in one table: v1 (a/pong/0) and",
        ),
        ("action_repeat", (4, 2), "different frame skips in one table: 2 (b/boxing/0) and 4 (a/po"),
        ("budget", (400, 100_000), "different budgets in one table: 100,000 (b/boxing/0) and 400"),
    ],
)
def test_runs_that_differ_are_refused_or_marked(
    fact: str, values: tuple[Any, Any], message: str
) -> None:
    curves = [
        make_curve("pong", "a", 0, **{fact: values[0]}),
        make_curve("pong", "a", 1, **{fact: values[0]}),
        make_curve("boxing", "b", 0, **{fact: values[1]}),
    ]
    with pytest.raises(ConfigError) as caught:
        refuse_or_mark_mixed(curves, allow_mixed=False)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; --allow-mixed shows them marked")
    found, warnings = refuse_or_mark_mixed(curves, allow_mixed=True)
    assert [len(curve.facts.marks) for curve in found] == [0, 0, 1]
    assert found[2].facts.marks[0].startswith(fact.replace("_", " "))
    assert len(warnings) == 1


def test_what_a_source_does_not_say_cannot_differ() -> None:
    curves = [make_curve(method="a", protocol="v1"), make_curve(method="b")]
    assert refuse_or_mark_mixed(curves, allow_mixed=False) == (curves, [])


def test_tasks_outside_benchmarks_may_have_protocols_of_their_own() -> None:
    curves = [
        make_curve("x", suite="gym", protocol="gym-v1-x"),
        make_curve("y", suite="gym", protocol="gym-v1-y"),
    ]
    assert refuse_or_mark_mixed(curves, allow_mixed=False) == (curves, [])


def test_facts_stand_in_one_line_per_method() -> None:
    facts = {
        "protocol": "v1",
        "training_ratio": 1024.0,
        "updates_per_env_step": 0.2499,
        "budget": 100_000,
        "action_repeat": 4,
        "hardware": "CPU: AMD EPYC",
        "hours": 1.5,
        "finished": True,
    }
    report = report_of(*lifted("a", 1.0, **facts), style=Style(labels={"a": "Ours"}))
    assert report.methods[0].line == (
        "Ours: 3 seeds x 2 tasks; protocol v1; training ratio 1,024; updates per env step 0.25;"
        " budget 100,000 env steps; frame skip 4; hardware CPU: AMD EPYC; 9.0 h in all"
    )


def test_unfinished_and_debug_runs_are_counted_in_lines_and_warnings() -> None:
    curves = lifted("a", 1.0, marks=("unfinished",)) + lifted("b", 1.0)
    report = report_of(*curves)
    assert report.methods[0].marks == {"unfinished": 6}
    assert report.methods[0].line.endswith("; 6 of 6 runs unfinished")
    assert "a: 6 of 6 runs unfinished." in report.warnings
    assert "protocol not stated" in report.methods[1].line


def test_fewer_seeds_than_others_are_said() -> None:
    curves = [*lifted("a", 1.0, seeds=3), *lifted("b", 1.0, seeds=2)]
    assert report_of(*curves).warnings == (
        "b has 2 seeds, fewer than the 3 of others, on all tasks.",
    )
    curves = [*lifted("a", 1.0), *lifted("b", 1.0, ("x",)), *lifted("b", 1.0, ("y",), seeds=1)]
    assert report_of(*curves).warnings == ("b has 1 to 3 seeds, fewer than the 3 of others, on y.",)


def test_tasks_that_a_method_lacks_are_left_out_of_aggregates_and_said() -> None:
    report = report_of(*lifted("a", 1.0, ("x", "y", "z")), *lifted("b", 1.0, ("x",)))
    assert report.warnings == ("Aggregates are over the 1 task of all methods, without y, z.",)
    assert [one.tasks for one in report.aggregates] == [1, 1]
    report = report_of(*lifted("a", 1.0, ("x",)), *lifted("b", 1.0, ("y",)))
    assert report.aggregates == report.profiles == report.comparisons == ()
    assert report.warnings == ("No task has runs of every method, so there are no aggregates.",)
