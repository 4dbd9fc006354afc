"""What the user names, as one study: run folders, folders of them, and score files.

A source is written `PATH` or `NAME=PATH`; the name replaces that of the method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from reverie.errors import ConfigError
from reverie.paths import place
from reverie.report.numbers import counted
from reverie.report.run_folders import NoMetric, read_run, run_folders
from reverie.report.score_files import SUFFIXES, ReadOptions, is_score_file, read_score_file
from reverie.report.study import Curve, Study


def read_study(sources: Sequence[str], options: ReadOptions | None = None) -> Study:
    """Read every source.

    Raises:
        ConfigError: one that is missing or wrong, or the same run twice; in one line.
        OSError: a file cannot be read.
    """
    options = options or ReadOptions()
    curves: list[Curve] = []
    notes: list[str] = []
    lacking: list[tuple[str, NoMetric]] = []
    for source in sources:
        method, written = _split(source)
        path = place(written)
        if path.is_dir():
            _read_folder(path, written, method, options, curves, notes, lacking)
        elif path.exists():
            _read_file(path, written, method, options, curves, notes)
        else:
            raise ConfigError(f"{written}: expected a run folder or a score file, got no such path")
    if not curves:
        raise ConfigError(_no_metric(lacking))
    if lacking:
        shown = ", ".join(folder for folder, _ in lacking[:3])
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        names = ", ".join(sorted({one.metric for _, one in lacking}))
        notes.append(f"{counted(len(lacking), 'run')} without {names} left out: {shown}{more}.")
    _refuse_twice(curves)
    return Study(curves=tuple(curves), notes=tuple(notes))


def _split(source: str) -> tuple[str | None, str]:
    """Name and path; a path that exists may hold `=` itself."""
    name, equals, path = source.partition("=")
    if not equals or "/" in name or place(source).exists():
        return None, source
    return name, path


def _read_folder(
    path: Path,
    shown: str,
    method: str | None,
    options: ReadOptions,
    curves: list[Curve],
    notes: list[str],
    lacking: list[tuple[str, NoMetric]],
) -> None:
    folders = list(run_folders(path))
    for folder in folders:
        inner = "" if folder == path else f"/{folder.relative_to(path)}"
        name = f"{shown.rstrip('/')}{inner}"
        found, skipped = read_run(folder, name, method, options.metric)
        notes += skipped
        if isinstance(found, NoMetric):
            lacking.append((name, found))
        else:
            curves.append(found)
    if folders:
        return
    files = [file for file in sorted(path.iterdir()) if file.is_file() and is_score_file(file)]
    if not files or (path / "report.json").exists():
        raise ConfigError(
            f"{shown}: expected run folders (with metrics.jsonl) or score files"
            f" ({', '.join(SUFFIXES)}) in it, got neither"
        )
    for file in files:
        _read_file(file, f"{shown.rstrip('/')}/{file.name}", method, options, curves, notes)


def _read_file(
    path: Path,
    shown: str,
    method: str | None,
    options: ReadOptions,
    curves: list[Curve],
    notes: list[str],
) -> None:
    if not is_score_file(path):
        raise ConfigError(
            f"{shown}: expected a run folder or a file that ends in {', '.join(SUFFIXES)}"
        )
    found, skipped = read_score_file(path, shown, method, options)
    curves += found
    notes += skipped


def _no_metric(lacking: list[tuple[str, NoMetric]]) -> str:
    wanted = ", ".join(sorted({one.metric for _, one in lacking}))
    reported = Counter(name for _, one in lacking for name in one.reported)
    names = sorted(name for name in reported if name.startswith(("eval/", "episode/")))
    known = f"they report {', '.join(names[:20])}" if names else "they report no evaluation yet"
    return f"--metric: no run reports {wanted}; {known}"


def _refuse_twice(curves: Iterable[Curve]) -> None:
    seen: dict[tuple[str | None, str, str, str], Curve] = {}
    for curve in curves:
        key = curve.suite, curve.task, curve.method, curve.seed
        if first := seen.get(key):
            raise ConfigError(
                f"{curve.source}: {curve.method} on {curve.task} with seed {curve.seed} is in"
                f" {first.source} already; name the sources apart, e.g. other={curve.source}"
            )
        seen[key] = curve
