"""Tables of the page."""

from __future__ import annotations

from reverie.report.study import Estimate, Interval
from reverie.report.tables import Cell, Row, estimated, figure, table, words

NASTY = """a<b>&"'c"""
ESCAPED = "a&lt;b&gt;&amp;&quot;&#x27;c"


def test_everything_in_a_table_is_escaped() -> None:
    cell = Cell(NASTY, NASTY, title=NASTY, note=NASTY, method=True)
    text = table(NASTY, NASTY, [NASTY, NASTY], [Row((cell, cell), 3)])
    assert NASTY not in text
    assert text.count(ESCAPED) == 5 + 4 * 2
    assert '<tr class="m m3" data-m="3">' in text


def test_numbers_stand_right_of_words_and_what_is_missing_has_no_value() -> None:
    rows = [
        Row((words("B"), figure(0.5), figure(None))),
        Row((words("A"), figure(None), Cell("-"))),
    ]
    text = table("t", "", ["Name", "Some", "None"], rows)
    assert '<th scope="row" data-v="b">B</th>' in text
    assert '<td class="number" data-v="0.5">0.500</td><td>-</td>' in text
    assert '<th scope="col" class="number"><button type="button">Some</button>' in text
    assert '<th scope="col"><button type="button">None</button>' in text
    assert '<td class="number">-</td><td>-</td>' in text


def test_a_title_is_not_shown_where_a_section_has_it() -> None:
    text = table("Runs", "", ["a"], [], headed=False)
    assert "<h3>" not in text
    assert 'aria-label="Runs"' in text


def test_figures_say_their_seeds_and_the_best_is_bold() -> None:
    best = estimated(Estimate(2, Interval(1, 3), 5, best=True))
    assert (best.text, best.by, best.bold, best.title) == ("2.00 [1.00, 3.00]", 2, True, "5 seeds")
    assert "<b>2.00 [1.00, 3.00]</b>" in table("t", "", ["a", "b"], [Row((Cell(""), best))])
    assert estimated(Estimate(2, None, 1)).title == "1 seed: too few for an interval"
    assert estimated(None).by is None
