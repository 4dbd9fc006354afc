"""The command `reverie report`: from run folders and score files to tables and figures."""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reverie.cli.arguments import Commands, add_command
from reverie.errors import ConfigError
from reverie.extras import load_extra
from reverie.paths import place, short
from reverie.stop_signals import StopSignals, exit_code

if TYPE_CHECKING:
    from reverie.report.study import Report, Study, Style
    from reverie.storage import Storage

EXAMPLE = "report runs --out report"
EXAMPLES = """\
examples:
  reverie report runs                          every run folder below runs
  reverie report ours=runs/a theirs=runs/b     under names of your own
  reverie report runs harmony.json --published beside score files of others
  reverie report runs --x gpu_hours --threshold 0.5
  reverie report a.csv --map task=env,xs=step,ys=return,method=algo --unit frames
  reverie report runs --paper paper            figures, table and sentences for LaTeX
  reverie report runs --watch                  again whenever a run goes on

Score files: lists of {task, method, seed, xs, ys}, {steps, score: {game: seeds}},
{game: [score per seed]} (JSON, also .gz), and CSV with one evaluation a line.
docs/report.md explains every figure."""
WATCH_S = 10.0
"""Seconds between two looks at the sources."""
POLL_S = 0.2
"""Seconds between two looks for a signal."""


def add_report(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "compare runs and score files: tables, figures, statistics"
    parser = add_command(commands, "report", _report, text, EXAMPLE, epilog=EXAMPLES)
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="run folder, folder of runs or score file; NAME=SOURCE names its method",
    )
    parser.add_argument("--out", metavar="DIR", default="report", help="folder (default: report)")
    parser.add_argument(
        "--paper", metavar="DIR", help="also write PDF, LaTeX, BibTeX and reproduce.sh there"
    )
    parser.add_argument("--title", default="Report", help="title of the page")
    parser.add_argument(
        "--metric", metavar="NAME", help="of run folders, e.g. eval/length (default: the suite's)"
    )
    parser.add_argument(
        "--x",
        choices=["env_steps", "updates", "hours", "gpu_hours"],
        default="env_steps",
        help="x-axis (default: env_steps)",
    )
    parser.add_argument(
        "--at", type=_positive, metavar="X", help="x of all tables (default: the last all reached)"
    )
    parser.add_argument(
        "--threshold", type=_finite, metavar="SCORE", help="show the x at which it was reached"
    )
    parser.add_argument(
        "--map", metavar="NAMES", help="columns of CSV files: task=,method=,seed=,xs=,ys="
    )
    parser.add_argument(
        "--unit", choices=["frames", "steps"], help="of x in score files that do not say"
    )
    parser.add_argument(
        "--allow-mixed",
        action="store_true",
        help="let runs of different protocols, frame skips or budgets stand together, marked, and"
        " score files whose tasks differ in seeds",
    )
    parser.add_argument(
        "--published", action="store_true", help="show published figures with their sources"
    )
    parser.add_argument("--style", metavar="FILE", help="YAML: labels, colours, order, baseline")
    parser.add_argument(
        "--watch", action="store_true", help="write it again whenever a source changes"
    )


def _positive(text: str) -> float:
    number = _finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return number


def _report(arguments: argparse.Namespace) -> int:
    from reverie.report.files import output_folder
    from reverie.report.paper import SCRIPT_FILE

    if arguments.paper:
        load_extra("matplotlib", "--paper", "report")
    if arguments.paper and place(arguments.paper) == place(arguments.out):
        raise ConfigError(
            f"--paper {arguments.paper}: expected another folder than --out; e.g. --paper paper"
        )
    computed = None if arguments.watch else _computed(arguments)
    with ExitStack() as held:
        storage = held.enter_context(output_folder(place(arguments.out)))
        paper = None
        if arguments.paper:
            folder = output_folder(place(arguments.paper), "--paper", SCRIPT_FILE)
            paper = held.enter_context(folder)
        if computed is None:
            return _watch(arguments, storage, paper)
        _write_and_tell(arguments, computed, storage, paper)
    return 0


def _write_and_tell(
    arguments: argparse.Namespace,
    computed: tuple[Study, Report, Style],
    storage: Storage,
    paper: Storage | None,
) -> None:
    study, report, style = computed
    names = _write(storage, study, report, style)
    told = _told(arguments, study, report, names)
    if paper is not None:
        told += f"\nwrote {short(place(arguments.paper))}: "
        told += ", ".join(_write_paper(arguments, paper, study, report, style))
    print(told, flush=True)


def _watch(arguments: argparse.Namespace, storage: Storage, paper: Storage | None) -> int:
    """Write the report at each change of its sources, until a signal; returns its exit code.

    One that is being written is finished: drawing may swallow an exception of Ctrl-C.
    """
    seen: object = None
    with StopSignals() as signals:
        signals.waits = True
        while signals.first is None:
            now = _state(arguments.sources)
            if now != seen:
                seen = now
                try:
                    _write_and_tell(arguments, _computed(arguments), storage, paper)
                except ConfigError as error:
                    # Runs that have not begun to report, or whose file is being written, come
                    # round.
                    print(f"waiting for the sources: {error}", flush=True)
            until = time.monotonic() + WATCH_S
            while signals.first is None and time.monotonic() < until:
                time.sleep(min(POLL_S, WATCH_S))
        return exit_code(signals.first)


def _state(sources: Iterable[str]) -> frozenset[tuple[str, int, int]]:
    """Path, size and time of every file that the report is made of."""
    names = ("metrics.jsonl", "evaluations.jsonl", "summary.json", "run_manifest.json")
    found: set[tuple[str, int, int]] = set()
    for source in sources:
        path = place(source)
        if not path.exists():
            path = place(source.partition("=")[2] or source)
        files = [file for name in names for file in path.rglob(name)] if path.is_dir() else [path]
        files += [file for file in path.iterdir() if file.is_file()] if path.is_dir() else []
        for file in files:
            try:
                stat = file.stat()
            except FileNotFoundError:
                continue
            found.add((str(file), stat.st_size, stat.st_mtime_ns))
    return frozenset(found)


def _computed(arguments: argparse.Namespace) -> tuple[Study, Report, Style]:
    from reverie.report.build import build_report
    from reverie.report.frame import BuildOptions
    from reverie.report.score_files import ReadOptions, parse_map
    from reverie.report.sources import read_study
    from reverie.report.study import Style
    from reverie.report.style import read_style

    style = read_style(place(arguments.style)) if arguments.style else Style()
    at = arguments.at if arguments.x == "env_steps" else None
    reading = ReadOptions(
        metric=arguments.metric,
        columns=parse_map(arguments.map) if arguments.map else {},
        unit=arguments.unit,
        at=at,
        allow_uneven=arguments.allow_mixed,
    )
    study = read_study(arguments.sources, reading)
    options = BuildOptions(
        title=arguments.title,
        x=arguments.x,
        at=arguments.at,
        threshold=arguments.threshold,
        allow_mixed=arguments.allow_mixed,
        published=arguments.published,
        style=style,
        command=_command(arguments),
    )
    return study, build_report(study, options), style


def _command(arguments: argparse.Namespace) -> str:
    """The command line, without what says only where the report goes."""
    style = ["--style", arguments.style] if arguments.style else []
    return shlex.join(["reverie", "report", *arguments.sources, *_options(arguments), *style])


def _options(arguments: argparse.Namespace) -> list[str]:
    """What was asked for beside sources, style and folders."""
    words: list[str] = []
    for name in ("title", "metric", "x", "at", "threshold", "map", "unit"):
        value = getattr(arguments, name)
        if value not in (None, {"title": "Report", "x": "env_steps"}.get(name)):
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else value]
    words += ["--allow-mixed"] if arguments.allow_mixed else []
    words += ["--published"] if arguments.published else []
    return words


def _write(storage: Storage, study: Study, report: Report, style: Style) -> list[str]:
    """Everything that can be written here; returns names of files."""
    from reverie.report.files import write_files

    names = write_files(storage, study, report, style)
    if find_spec("matplotlib"):
        from reverie.report import figures

        for name, data in figures.write(report, style).items():
            storage.write_atomic(name, data)
            names.append(name)
    return names


def _write_paper(
    arguments: argparse.Namespace, storage: Storage, study: Study, report: Report, style: Style
) -> list[str]:
    from reverie.report import paper

    files = paper.write(report, study, style, _options(arguments))
    for name, data in files.items():
        storage.write_atomic(name, data)
    (place(arguments.paper) / paper.SCRIPT_FILE).chmod(0o755)
    return list(files)


def _told(arguments: argparse.Namespace, study: Study, report: Report, names: list[str]) -> str:
    """What was found, in a few lines."""
    from reverie.report.markdown import estimate_text
    from reverie.report.numbers import counted

    folder = short(place(arguments.out))
    counts = {"run": len(study.curves), "task": len(report.panels), "method": len(report.methods)}
    lines = [", ".join(counted(count, noun) for noun, count in counts.items())]
    labels = {facts.method: facts.label for facts in report.methods}
    lines += [
        f"{labels[one.method]}: IQM {estimate_text(one.iqm).strip('*')},"
        f" mean {estimate_text(one.mean).strip('*')}"
        for one in report.aggregates
    ]
    lines += [f"warning: {text}" for text in report.warnings]
    lines += [f"note: {text}" for text in report.notes]
    if not find_spec("matplotlib"):
        lines.append('note: figures as SVG, PNG and PDF need: pip install "reverie[report]"')
    return "\n".join([*lines, f"wrote {folder}: {', '.join(names)}"])
