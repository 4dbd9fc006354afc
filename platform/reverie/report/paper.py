"""What a paper takes from a report: figures, table, sentences, references, how to repeat it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from reverie.config_tree import read_one_yaml
from reverie.documents import read_json
from reverie.paths import place
from reverie.report import figures, latex
from reverie.report.files import score_list
from reverie.report.references import bibliography
from reverie.report.run_folders import CONFIG_FILE, MANIFEST_FILE, is_run_folder
from reverie.report.study import Curve, Report, Study, Style
from reverie.report.trees import Tree, is_tree, section

SCRIPT_FILE = "reproduce.sh"
"""By this file a folder is known as one for a paper."""
SCORES, STYLE = "scores.json", "style.yaml"
BEGIN = """\
#!/usr/bin/env bash
# Runs everything behind the report once more, then makes the report and the files of the paper.
# {versions}
set -euo pipefail
cd "$(dirname "$0")"
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run folder that is to be repeated."""

    curve: Curve
    config: Tree
    """Without seed and folder."""
    commit: str


def write(report: Report, study: Study, style: Style, options: Sequence[str]) -> dict[str, bytes]:
    """All files by name, those of runs' settings in `configs/`.

    `options` are those of the command, such as `--threshold 0.5`, without sources, style and
    folders.

    Raises:
        ImportError: matplotlib is missing, with the `pip install` line.
        OSError: a run folder is gone.
    """
    texts = {
        "table.tex": latex.table(report),
        "methods.tex": latex.methods(report),
        "references.bib": bibliography(latex.all_cited(report)),
        **_repeating(report, study, style, options),
    }
    drawn = figures.write(report, style, ["pdf"])
    return drawn | {name: text.encode() for name, text in texts.items()}


def _repeating(
    report: Report, study: Study, style: Style, options: Sequence[str]
) -> dict[str, str]:
    """reproduce.sh and what it reads."""
    runs = [run for curve in study.curves if (run := _run(curve))]
    repeated = {id(run.curve) for run in runs}
    others = tuple(curve for curve in study.curves if id(curve) not in repeated)
    texts: dict[str, str] = {}
    sources: list[str] = []
    lines = [BEGIN.format(versions=_versions(report, runs))]
    for run, name, config in _configs(runs):
        texts[f"configs/{name}.yaml"] = config
        folder = f"runs/{_file_name(run.curve.method)}/{_file_name(run.curve.task)}"
        words = ["reverie", "train", f"configs/{name}.yaml", f"seed={run.curve.seed}"]
        lines.append(shlex.join([*words, f"run.dir={folder}/{run.curve.seed}", "--resume=auto"]))
        sources.append(f"{run.curve.method}=runs/{_file_name(run.curve.method)}")
    if others:
        texts[SCORES] = score_list(Study(curves=others))
        sources.append(SCORES)
    words = ["reverie", "report", *dict.fromkeys(sources), *options]
    if style != Style():
        texts[STYLE] = yaml.safe_dump(_plain(asdict(style)), sort_keys=False, allow_unicode=True)
        words += ["--style", STYLE]
    lines.append(shlex.join([*words, "--out", "report", "--paper", "paper"]))
    texts[SCRIPT_FILE] = "\n".join(lines) + "\n"
    return texts


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}  # pyright: ignore
    return value


def _run(curve: Curve) -> _Run | None:
    folder = place(curve.source)
    if not is_run_folder(folder):
        return None
    config = read_one_yaml(folder / CONFIG_FILE)
    inner = {key: item for key, item in section(config, "run").items() if key != "dir"}
    shared = {key: item for key, item in config.items() if key not in ("seed", "run")}
    return _Run(curve, {**shared, "run": inner}, _commit(folder))


def _commit(folder: Path) -> str:
    """Of the code that ran; with what must be known of it."""
    if not (folder / MANIFEST_FILE).exists():
        return ""
    manifest = read_json(folder / MANIFEST_FILE)
    if not is_tree(manifest):
        return ""
    git = section(manifest, "git")
    commit = git.get("commit")
    if not commit:
        return ""
    return f"{commit}{' with changes (git.diff in the run folder)' if git.get('diff') else ''}"


def _versions(report: Report, runs: Sequence[_Run]) -> str:
    commits = sorted({run.commit for run in runs if run.commit})
    code = f"; runs were made at commit {', '.join(commits)}" if commits else ""
    return f"Reverie {report.version}{code}."


def _configs(runs: Sequence[_Run]) -> list[tuple[_Run, str, str]]:
    """Each run with the name and the text of its settings, which seeds share."""
    known: dict[str, str] = {}
    names: dict[str, str] = {}
    found: list[tuple[_Run, str, str]] = []
    for run in runs:
        text = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
        if text not in known:
            base = name = _file_name(f"{run.curve.method}-{run.curve.task}")
            count = 1
            while name in names:
                count += 1
                name = f"{base}-{count}"
            known[text], names[name] = name, text
        found.append((run, known[text], text))
    return found


def _file_name(text: str) -> str:
    """What a shell and every file system take: letters, digits, `.`, `_`, `+` and `-`."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._") or "run"
