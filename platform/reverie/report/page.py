"""The report as one self-contained HTML page: no request leaves it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib import resources

from reverie.errors import ConfigError
from reverie.report import page_charts, page_tables
from reverie.report.numbers import counted, short_number
from reverie.report.page_charts import Index
from reverie.report.study import Report, Style
from reverie.report.style import COLOUR

DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4", "6 2 1 2 1 2")
"""Of the methods in their order: colours alone would not do for everybody."""
GENERIC = ("serif", "sans-serif", "monospace", "system-ui")
"""Fonts that CSS takes without quotes."""
HELP = (
    "Press a method to hide or show it, a column's head to sort by it. Point at a chart, or focus"
    " it and press the arrow keys, to read its values."
)


def write(report: Report, style: Style | None = None) -> str:
    """The page as text; `style.font` is its font. Equal reports make equal pages.

    Raises:
        ConfigError: a method's colour is not `#rrggbb`.
    """
    index = {facts.method: at for at, facts in enumerate(report.methods)}
    font = "" if style is None else _font(style.font)
    css = _file("page.css") + _colours(report) + font
    script = _file("page.js")
    sections = (
        _head(report),
        _listed("warnings", report.warnings),
        _overview(report, index),
        _tasks(report, index),
        _section("Runs", page_tables.runs(report, index)),
        _section("Published", page_tables.published(report)),
        _how(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_policy(css, script))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{css}</style></head><body>"
        f'<main>{"".join(sections)}</main><div id="tip" role="status" hidden></div>'
        f"<script>{script}</script></body></html>\n"
    )


def _policy(css: str, script: str) -> str:
    """What a browser may do for the page: apply this style, run this script, load nothing."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none';"
        f" style-src 'sha256-{digest(css)}'; script-src 'sha256-{digest(script)}'"
    )


def _file(name: str) -> str:
    return (resources.files("reverie.report") / name).read_text(encoding="utf-8")


def _font(names: str) -> str:
    """A rule for the families of the style; what could end it is dropped from their names."""
    families = ["".join(c for c in name if c.isalnum() or c in " -_") for name in names.split(",")]
    families = [name.strip() for name in families if name.strip()]
    if families in ([], ["sans-serif"]):
        return ""  # the page's own
    listed = ",".join(name if name in GENERIC else f'"{name}"' for name in families)
    return f"body{{font-family:{listed},sans-serif}}"


def _colours(report: Report) -> str:
    """A rule for each method; in the dark its colour is mixed with white.

    Where there are more methods than colours, those of one colour differ in their dashes.
    """
    rules: list[str] = []
    for at, facts in enumerate(report.methods):
        if not COLOUR.fullmatch(facts.colour):
            raise ConfigError(
                f"style: colours: {facts.method}: expected #rrggbb, got {facts.colour!r}"
            )
        dash = DASHES[(at + at // len(DASHES)) % len(DASHES)]
        mixed = f"color-mix(in srgb,{facts.colour},var(--toward) var(--share))"
        rules.append(f".m{at}{{--c:{mixed};--d:{dash}}}\n")
    return "".join(rules)


def _head(report: Report) -> str:
    runs = sum(facts.runs for facts in report.methods)
    at = "" if report.at is None else f", tables at {short_number(report.at)} {report.x.unit}"
    parts = [", ".join(report.suites), f"{counted(len(report.panels), 'task')}"]
    parts[-1] += f", {counted(runs, 'run')}"
    parts.append(report.metric.label + at)
    text = "; ".join(filter(None, parts))
    return (
        f'<h1>{escape(report.title)}</h1><p class="soft">{escape(text)}</p>'
        f'{_legend(report)}<p class="soft help">{escape(HELP)}</p>'
    )


def _legend(report: Report) -> str:
    buttons = "".join(
        f'<button type="button" class="m{at}" data-m="{at}" aria-pressed="true">'
        '<svg viewBox="0 0 30 8" aria-hidden="true"><line x1="0" x2="30" y1="4" y2="4"/></svg>'
        f"<span>{escape(facts.label)}</span></button>"
        for at, facts in enumerate(report.methods)
    )
    return f'<div class="legend" role="group" aria-label="Methods shown">{buttons}</div>'


def _listed(kind: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _section(title: str, *parts: str) -> str:
    body = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _overview(report: Report, index: Index) -> str:
    charts = page_charts.overview(report, index)
    facts = _facts(report) if charts else ""
    return _section("Over all tasks", charts, facts, page_tables.overview(report, index))


def _tasks(report: Report, index: Index) -> str:
    charts = page_charts.panels(report, index)
    if charts:
        charts = f'<p class="soft">{escape(page_charts.panels_note(report))}</p>{charts}'
        charts += _facts(report)
    return _section("Tasks", charts, page_tables.finals(report, index))


def _facts(report: Report) -> str:
    """What stands under every figure: the runs that it is made of.

    What all methods have in common is said once.
    """
    said = [facts.line.removeprefix(f"{facts.label}: ").split("; ") for facts in report.methods]
    common = [] if len(said) == 1 else [part for part in said[0] if all(part in s for s in said)]
    lines = [
        f'<div class="m m{at}"><i class="key"></i><b>{escape(facts.label)}</b>:'
        f" {escape('; '.join(part for part in parts if part not in common))}</div>"
        for at, (facts, parts) in enumerate(zip(report.methods, said, strict=True))
        if len(common) < len(parts)
    ]
    if common:
        lines.append(f"<div><b>All methods</b>: {escape('; '.join(common))}</div>")
    return f'<div class="facts soft">{"".join(lines)}</div>'


def _how(report: Report) -> str:
    skipped = f"<h3>Skipped</h3>{_listed('notes', report.notes)}" if report.notes else ""
    command = f"<p><code>{escape(report.command)}</code></p>" if report.command else ""
    return _section(
        "How it was computed",
        _listed("rules", report.rules),
        skipped,
        f"<details><summary>{counted(len(report.sources), 'source')}</summary>",
        f"{_listed('sources', report.sources)}</details>",
        f'{command}<p class="soft">Reverie {escape(report.version)}</p>',
    )
