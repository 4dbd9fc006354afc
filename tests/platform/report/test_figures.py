"""Figures for papers: what is written, its size, its fonts; how they look was looked at."""

from __future__ import annotations

import re

import pytest

from reverie.errors import ConfigError
from reverie.report.study import Report, Style
from tests.platform.report.studies import lifted, make_curve, report_of

figures = pytest.importorskip("reverie.report.figures")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(*lifted("a", 0.4), *lifted("b", 0.6))


def test_every_figure_in_every_format_and_twice_the_same(report: Report) -> None:
    drawn = figures.write(report)
    assert sorted(drawn) == [
        f"{name}.{form}"
        for name in ("aggregate", "curves", "intervals")
        for form in ("pdf", "png", "svg")
    ]
    assert figures.write(report) == drawn


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_a_pdf_has_the_width_asked_for_and_its_fonts_in_it(report: Report, width: float) -> None:
    pdf = figures.write(report, Style(width=width), ["pdf"])["curves.pdf"]
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) [\d.]+", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * width)
    assert b"/FontFile2" in pdf  # TrueType, embedded


def test_a_page_holds_all_tasks_of_one_column() -> None:
    report = report_of(*lifted("a", 0.4, tuple(f"task {i}" for i in range(26)), seeds=1))
    pdf = figures.write(report, Style(width=3.25), ["pdf"])["curves.pdf"]
    box = re.search(rb"/MediaBox \[ ?0 0 [\d.]+ ([\d.]+)", pdf)
    assert box is not None
    assert float(box[1]) / 72 < 9.5


@pytest.mark.parametrize("legend", ["top", "right", "bottom", "none"])
def test_one_run_of_one_task_is_drawn_with_every_legend(legend: str) -> None:
    report = report_of(make_curve(points={100.0: 3.0}))
    assert figures.write(report, Style(legend=legend, width=3.25), ["svg"])  # type: ignore[arg-type]


def test_names_are_drawn_as_they_are() -> None:
    report = report_of(*lifted("a $x_1$ <b>", 0.4))
    assert figures.write(report, None, ["svg"])["curves.svg"]


def test_a_font_that_is_not_installed_is_named(report: Report) -> None:
    with pytest.raises(ConfigError, match=r"expected an installed font, got 'Comic Snas'; near: "):
        figures.write(report, Style(font="Comic Snas"), ["svg"])
