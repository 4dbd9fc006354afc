"""Table and sentences for LaTeX."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reverie.report import latex
from reverie.report.references import PUBLICATIONS, bibliography, cited
from tests.platform.report.studies import lifted, make_curve, report_of


def test_only_figures_whose_intervals_part_are_bold() -> None:
    apart = latex.table(report_of(*lifted("a", 0.1), *lifted("b", 0.9)))
    assert r"\textbf" in apart
    assert all(r"\textbf" in line.split("&")[2] for line in apart.splitlines() if "textbf" in line)
    assert r"\textbf" not in latex.table(report_of(*lifted("a", 0.5), *lifted("b", 0.501)))


def test_each_row_has_a_cell_per_column() -> None:
    curves = [make_curve("pong", m, s, {100.0: -21.0 + s}) for m in "ab" for s in range(3)]
    text = latex.table(report_of(*curves))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert rows[0] == r"Task & Random & Human & a & b \\"
    assert {row.count("&") for row in rows} == {4}
    assert "Pong & $-$20.7 & 14.6 & $-$20.0 & $-$20.0" in text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("$x^2$~#", r"\$x\textasciicircum{}2\$\textasciitilde{}\#"),
        ("a\nb\x00", "ab"),
        ('"<é>"', r"''\textless{}é\textgreater{}''"),
    ],
)
def test_text_of_users_is_printed_as_it_is(text: str, wanted: str) -> None:
    assert latex.escaped(text) == wanted


def test_a_name_cannot_end_a_comment() -> None:
    report = report_of(*lifted("a\n\\input{x}", 0.4))
    assert not re.search(r"^\\input", latex.table(report), re.M)
    assert r"\input{x}" not in latex.methods(report)


def test_sentences_say_what_runs_were() -> None:
    facts = {
        "protocol": "atari100k-v1",
        "training_ratio": 64.0,
        "updates_per_env_step": 0.5,
        "hardware": "GPU: A100",
        "action_repeat": 4,
        "hours": 2.0,
        "gpu_hours": 1.5,
    }
    curves = [make_curve("pong", m, s, **facts) for m in ("dreamerv3-2023", "x") for s in range(3)]
    text = latex.methods(report_of(*curves))
    for part in (
        r"We compare dreamerv3-2023~\citep{hafner2023} and x on 1 task of"
        r" atari100k~\citep{kaiser2020} with 3 seeds per task.",
        r"Scores are taken at 200 steps, of 4 frames each, evaluated under \texttt{atari100k-v1}",
        "The training ratio (trained steps per environment step) is 64 and the number of gradient"
        " updates per environment step is 0.5.",
        "Learners ran on GPU: A100, and all runs together took 12.0 hours, of which GPUs 9.0.",
        r"Intervals are 95\% percentile intervals",
    ):
        assert part in text


def test_what_is_not_stated_is_said_so_and_methods_apart() -> None:
    curves = [make_curve("x", "a", s, suite=None, training_ratio=32.0) for s in range(3)]
    curves += [make_curve("x", "b", 0, suite=None)]
    text = latex.methods(report_of(*curves))
    assert "with 3 (a) and 1 (b) seeds per task" in text
    assert "is 32 (a) and not stated (b)" in text
    assert "The learners' hardware is not stated" in text
    assert "methods with fewer than 3 seeds have none" in text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("dreamerv3-2023", "hafner2023"),
        ("dreamerv3-2023+harmony", "ma2024harmony"),
        ("HarmonyDream", "ma2024harmony"),
        ("DrQ-v2", "yarats2022"),
        ("ours", None),
    ],
)
def test_what_a_method_cites(name: str, key: str | None) -> None:
    assert cited(name) == key


def test_the_bibliography_has_what_the_sentences_cite() -> None:
    report = report_of(*[make_curve("pong", m, s) for m in ("drqv2", "z") for s in range(3)])
    asked = set(re.findall(r"\\citep\{(\w+)\}", latex.methods(report)))
    text = bibliography(latex.all_cited(report))
    assert asked == set(re.findall(r"^@\w+\{(\w+),", text, re.M))
    assert text.count("{") == text.count("}")
    assert len({one.key for one in PUBLICATIONS}) == len(PUBLICATIONS)
    whole = replace(report, suites=())
    assert "kaiser2020" not in bibliography(latex.all_cited(whole))
