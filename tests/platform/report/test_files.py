"""What is written, and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.errors import ConfigError
from reverie.report.files import (
    curves_csv,
    final_scores,
    output_folder,
    report_json,
    score_list,
    write_files,
)
from reverie.report.markdown import estimate_text, markdown, x_text
from reverie.report.score_files import ReadOptions, read_score_file
from reverie.report.study import Axis, Estimate, Interval, Study
from reverie.report.style import read_style
from reverie.report.tasks import published
from tests.platform.report.studies import lifted, make_curve, make_study, report_of


@pytest.fixture
def study() -> Study:
    curves = [make_curve(task, "a", seed) for task in ("pong", "boxing") for seed in range(3)]
    other = [
        make_curve(task, "b", seed, {50.0: 3.0, 200.0: 0.25})
        for task in ("pong", "boxing")
        for seed in range(3)
    ]
    return make_study(*curves, *other)


@pytest.mark.parametrize("name", ["scores.json", "curves.csv"])
def test_curves_are_read_again_as_they_were(study: Study, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(score_list(study) if name == "scores.json" else curves_csv(study))
    found, notes = read_score_file(path, name, None, ReadOptions())
    assert notes == []
    assert len(found) == len(study.curves)
    for ours, again in zip(study.curves, found, strict=True):
        assert (ours.suite, ours.task, ours.method, ours.seed) == (
            again.suite,
            again.task,
            again.method,
            again.seed,
        )
        assert (ours.xs == again.xs).all()
        assert (ours.ys == again.ys).all()


def test_finals_are_read_again(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "finals.json"
    path.write_text(final_scores(report_of(*study.curves)))
    found, _ = read_score_file(path, "finals.json", None, ReadOptions(at=200))
    assert {(one.method, one.task, float(one.ys[0])) for one in found} == {
        ("a", "pong", 1.0),
        ("a", "boxing", 1.0),
        ("b", "pong", 0.25),
        ("b", "boxing", 0.25),
    }


def test_json_names_its_fields(study: Study) -> None:
    tree = json.loads(report_json(report_of(*study.curves, threshold=0.5)))
    first = tree["aggregates"][0]
    assert first["iqm"].keys() == {"value", "interval", "seeds", "best"}
    assert first.keys() >= {"method", "mean", "median", "iqm", "optimality_gap", "top3_share"}
    assert tree["panels"][0]["lines"][0]["xs"] == [100, 200]
    assert tree["rules"]


def test_csv_says_what_is_known_of_a_run() -> None:
    curve = make_curve(protocol="v1", training_ratio=64.0, marks=("unfinished", "debug size: tiny"))
    head, first, *_ = curves_csv(make_study(curve)).splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert (row["protocol"], row["training_ratio"], row["updates"]) == ("v1", "64.0", "")
    assert (row["marks"], row["value"]) == ("unfinished; debug size: tiny", "0.0")
    assert float(row["score"]) == pytest.approx(20.7 / 35.3)


def test_markdown_shows_every_part() -> None:
    report = report_of(
        *lifted("a", 0.4, marks=("unfinished",)),
        *lifted("b", 1.0),
        threshold=0.6,
        title="Ours",
        command="reverie report x",
    )
    text = markdown(report)
    for part in (
        "# Ours\n\n- a: 6 of 6 runs unfinished.",
        "| method | seeds | mean | median | IQM | optimality gap | top 3 of the mean |",
        "| a | 3 | 0.410 [0.",
        "## Against a",
        "| b | 2 | 1.000 [1.000, 1.000] |",
        "| a | 0.",
        "| 0 of 6 | never | never |",
        "| 6 of 6 | 300 steps | 300 steps |",
        "| X | 0 of 3, median never | 3 of 3, median 300 steps |",
        "## Runs\n\n- a: 3 seeds x 2 tasks; protocol not stated",
        "## How",
        "`reverie report x`",
    ):
        assert part in text, part
    assert "Published" not in text


def test_published_figures_are_marked_with_their_sources(study: Study) -> None:
    text = markdown(report_of(*study.curves, published=True))
    assert text.count("| recomputed |") + text.count("| reported |") == len(
        published(["atari100k"])
    )
    assert "arXiv:2503.04416" in text


def test_figures_as_text() -> None:
    assert estimate_text(Estimate(0.5, None, 2)) == "0.500"
    assert (
        estimate_text(Estimate(0.5, Interval(0.25, 1), 5, best=True), 2) == "**0.50 [0.25, 1.00]**"
    )
    assert estimate_text(None) == "-"
    assert x_text(1234.0, Axis("env_steps", "", "steps")) == "1,234 steps"
    assert x_text(1.234, Axis("hours", "", "h")) == "1.23 h"
    assert x_text(None, Axis("hours", "", "h")) == "never"


# The folder


def test_a_report_overwrites_a_report_and_nothing_else(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    names: list[str] = []
    for _ in range(2):
        with output_folder(out) as storage:
            names = write_files(storage, study, report_of(*study.curves))
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.jsonl").touch()
    message = r"got one in use \(metrics.jsonl\); choose another"
    with pytest.raises(ConfigError, match=message), output_folder(other):
        pass
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="expected a folder, got a file"), output_folder(file):
        pass


def test_two_reports_do_not_share_a_folder(tmp_path: Path) -> None:
    message = "another process writes a report there; wait for it or choose another"
    out = tmp_path / "out"
    with output_folder(out), pytest.raises(ConfigError, match=message), output_folder(out):
        pass
    with output_folder(tmp_path / "out"):
        pass


# Styles


def test_a_style_is_read(tmp_path: Path) -> None:
    path = tmp_path / "style.yaml"
    path.write_text(
        "labels: {a: Ours}\ncolours: {a: '#123456'}\norder: [a]\nwidth: 3.25\nlegend: none\n"
    )
    style = read_style(path)
    assert (style.labels, style.order, style.width, style.legend) == (
        {"a": "Ours"},
        ("a",),
        3.25,
        "none",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label: {a: b}", "style.label: unknown key; did you mean labels?"),
        ("colours: {a: red}", "colours: a: expected #rrggbb, got 'red'"),
        ("width: 0", "expected width from 1 to 20 in"),
        ("legend: left\nwidth: x", "; "),
        ("- a", "expected a mapping of sections, got list"),
    ],
)
def test_a_wrong_style_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "style.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_style(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_are_rounded_to_what_a_reader_sees() -> None:
    curve = make_curve(points={1.0: 1 / 3, 2.0: 0.1})
    tree = json.loads(report_json(report_of(curve)))
    assert tree["panels"][0]["traces"][0]["ys"] == [0.3333333, 0.1]
