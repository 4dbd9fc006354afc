"""The page as text; `test_browser` opens it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from reverie.errors import ConfigError
from reverie.report import page
from reverie.report.study import Report, Style
from tests.platform.report.studies import lifted, make_curve, report_of

HOSTILE = """</title></style></script><img src=x onerror="alert(1)">'"""


class Page(HTMLParser):
    """Which elements and attributes there are, and texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.tags[-1] if self.tags else "", []).append(data)


def ours() -> Report:
    curves = [*lifted("a", 0.4, marks=("unfinished",)), *lifted("b", 1.0, hours=2.0)]
    return report_of(*curves, threshold=0.6, title="Ours", command="reverie report x")


def headings(text: str) -> list[str]:
    return [unescape(found) for found in re.findall(r"<h[23]>(.*?)</h", text)]


def test_a_page_has_every_part() -> None:
    text = page.write(ours())
    assert headings(text) == [
        *("Over all tasks", "IQM of return, over all tasks", "Performance profile"),
        *("Return at 400 steps", "Against a", "Sample efficiency"),
        *("Tasks", "X", "Y", "Return by task", "Runs", "How it was computed"),
    ]
    for part in (
        "<title>Ours</title>",
        "2 tasks, 12 runs; Return, tables at 400 steps",
        '<ul class="warnings"><li>a: 6 of 6 runs unfinished.</li></ul>',
        "<b>All methods</b>: 3 seeds x 2 tasks; protocol not stated",
        "</i><b>a</b>: 6 of 6 runs unfinished</div>",
        "</i><b>b</b>: 12.0 h in all</div>",
        "Thin: single runs, dotted where they are marked as listed below.",
        "Runs that reached 0.6",
        'data-v="inf">never</td>',
        "Not stated at all: protocol; training ratio;",
        "<code>reverie report x</code>",
    ):
        assert part in text, part


def test_the_same_report_makes_the_same_page() -> None:
    assert page.write(ours()) == page.write(ours())


def test_a_page_names_nothing_outside_of_itself() -> None:
    found = Page(page.write(ours()))
    assert not {"link", "img", "iframe", "object", "embed", "base", "a"} & set(found.tags)
    assert not {"src", "href", "style", "action", "srcset"} & found.attributes.keys()
    assert not [name for name in found.attributes if name.startswith("on")]
    text = page.write(ours())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|import\(", text)


def test_only_the_page_s_own_style_and_script_may_run() -> None:
    found = Page(page.write(ours()))
    (policy,) = (each for each in found.attributes["content"] if "default-src" in each)
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        digest = hashlib.sha256("".join(found.texts[tag][:1]).encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "unsafe" not in policy


def test_what_files_bring_cannot_break_out() -> None:
    curves = lifted(HOSTILE, 1.0, (HOSTILE, "y"), hardware=HOSTILE, protocol=HOSTILE)
    report = report_of(
        *curves, *lifted("b", 2.0, (HOSTILE,)), title=HOSTILE, command=HOSTILE, threshold=0.5
    )
    told = {"suites": (HOSTILE,), "notes": (HOSTILE,), "sources": (HOSTILE,), "version": HOSTILE}
    plain = report_of(*lifted("c", 1.0), *lifted("b", 2.0, ("x",)), threshold=0.5, command="c")
    text = page.write(replace(report, **told), Style(font=HOSTILE))
    assert "<img" not in text
    others = page.write(replace(plain, **dict.fromkeys(told, ("n",)) | {"version": ""}))
    assert set(Page(text).tags) == set(Page(others).tags)
    assert "onerror" not in Page(text).attributes


@pytest.mark.parametrize("colour", ["red", "#12345", "#123456;}</style><script>", "#123456\n"])
def test_a_colour_that_is_none_is_refused(colour: str) -> None:
    report = report_of(*lifted("a", 1.0), style=Style(colours={"a": colour}))
    with pytest.raises(ConfigError) as caught:
        page.write(report)
    assert str(caught.value) == f"style: colours: a: expected #rrggbb, got {colour!r}"


@pytest.mark.parametrize(
    ("font", "rule"),
    [
        ("sans-serif", None),
        ("Linux Libertine, serif", 'body{font-family:"Linux Libertine",serif,sans-serif}'),
        ('x"}</style>*{a', 'body{font-family:"xstylea",sans-serif}'),
        ("{},;", None),
    ],
)
def test_the_style_s_font_is_used(font: str, rule: str | None) -> None:
    style = "".join(Page(page.write(ours(), Style(font=font))).texts["style"])
    assert style.count("body{font-family:") == (rule is not None)
    assert rule is None or rule in style


def test_methods_of_one_colour_have_other_dashes() -> None:
    report = report_of(*(one for i in range(10) for one in lifted(f"m{i:02}", 1.0, ("x",))))
    text = page.write(report)
    rules = re.findall(r"^\.m\d+\{--c:color-mix\(in srgb,(#\w+),.*;--d:(.*)\}$", text, re.M)
    assert len(rules) == len(set(rules)) == 10
    assert rules[0][0] == rules[8][0]


def test_dark_and_print_have_colours_of_their_own() -> None:
    css = "".join(Page(page.write(ours())).texts["style"])
    dark = css.index("@media (prefers-color-scheme: dark)")
    paper = css.index("@media print")
    used = set(re.findall(r"var\((--[a-z]+)\)", css)) - {"--c", "--d"}
    for block in (css[:dark], css[dark : css.index("}", dark)], css[paper:]):
        assert used <= set(re.findall(r"(--[a-z]+):", block))
    assert dark < paper  # printed in the dark, paper is white


def test_one_run_is_told_in_the_singular_and_without_intervals() -> None:
    text = page.write(report_of(*lifted("a", 1.0, ("x",), seeds=1, marks=("unfinished",))))
    for part in (
        "1 task, 1 run; Return",
        "1 seed x 1 task;",
        "No interval: fewer than three seeds.",
        "<summary>1 source</summary>",
        "1 of 1 run unfinished",
    ):
        assert part in text, part
    for part in ("band", "single", "Against", "1 seeds", "1 tasks", "1 runs", "All methods"):
        assert part not in text.partition("<main>")[2].partition("<script>")[0], part


def test_finals_without_a_curve_are_points() -> None:
    finals = [make_curve("x", "b", seed, {400: 1.0 + seed}, suite=None) for seed in range(3)]
    text = page.write(report_of(*lifted("a", 1.0, ("x",)), *finals))
    assert text.count('<circle class="dot"') == 2  # over all tasks, and of the task
    assert text.count('class="band whisker"') == 2
    alone = page.write(report_of(*finals))
    assert "<circle" not in alone
    assert headings(alone)[-3:] == ["Return by task", "Runs", "How it was computed"]


def test_suites_without_a_common_scale_have_tasks_alone() -> None:
    curves = [
        make_curve(task, "a", seed, {100: 1.0, end: 2.0}, suite=suite)
        for task, suite, end in (("catch", "toy", 200), ("walker_walk", "dmc", 900))
        for seed in range(3)
    ]
    text = page.write(report_of(*curves))
    assert headings(text)[:2] == ["Tasks", "dmc/walker_walk"]
    assert "dmc, toy; 2 tasks, 6 runs; Return<" in text


def test_published_figures_stand_apart_with_their_sources() -> None:
    curves = [make_curve(task, "a", seed) for task in ("pong", "boxing") for seed in range(3)]
    text = page.write(report_of(*curves, published=True))
    assert headings(text).count("Published") == 1
    assert "arXiv:2503.04416" in text
    assert "recomputed" in text
    assert "<h3>Skipped</h3>" not in text
