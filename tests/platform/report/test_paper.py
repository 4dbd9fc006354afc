"""`--paper`: what lies in its folder, that it compiles, and that its script repeats the runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.platform.commands import Cli, assert_refused, write_config
from tests.platform.report.runs import make_run

pytest.importorskip("matplotlib")
FILES = {
    *("curves.pdf", "aggregate.pdf", "intervals.pdf"),
    *("table.tex", "methods.tex", "references.bib", "reproduce.sh"),
}
MAIN = r"""\documentclass{article}
\usepackage{booktabs,natbib,graphicx}
\begin{document}
\includegraphics{curves.pdf}\par
\input{table.tex}\par
\input{methods.tex}
\bibliographystyle{plainnat}\bibliography{references}
\end{document}
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for task in ("pong", "alien"):
        for seed in range(3):
            place = tmp_path / f"runs/{task}{seed}"
            env = {"suite": "atari100k", "task": task}
            make_run(place, {100: -20.0, 400: 14.6 - seed}, seed=seed, env=env)
    return tmp_path


def test_the_folder_for_a_paper(runs: Path, cli: Cli) -> None:
    (runs / "x.json").write_text(json.dumps({"x_y": {"Pong": [1, 2, 3], "Alien": [4, 5, 6]}}))
    style = "labels: {x_y: 'X & Y'}\nbaseline: x_y\nwidth: 3.25\n"
    (runs / "style.yaml").write_text(style)
    flags = ("--style", "style.yaml", "--threshold", "0.5", "--allow-mixed")
    answer = cli("report", "runs", "x.json", "--at", "400", "--paper", "paper", *flags)
    assert answer.code == 0, answer
    assert "wrote paper: " in answer.out
    paper = runs / "paper"
    assert {path.name for path in paper.iterdir()} == FILES | {
        *("configs", "scores.json", "style.yaml")
    }
    assert r"X \& Y" in (paper / "table.tex").read_text()
    script = (paper / "reproduce.sh").read_text().splitlines()
    assert [line for line in script if line.startswith("reverie train")][:2] == [
        f"reverie train configs/dreamerv3-2023-alien.yaml seed={seed}"
        f" run.dir=runs/dreamerv3-2023/alien/{seed} --resume=auto"
        for seed in range(2)
    ]
    assert script[-1] == (
        "reverie report dreamerv3-2023=runs/dreamerv3-2023 scores.json --at 400 --threshold 0.5"
        " --allow-mixed --style style.yaml --out report --paper paper"
    )
    assert sorted(path.name for path in (paper / "configs").iterdir()) == [
        "dreamerv3-2023-alien.yaml",
        "dreamerv3-2023-pong.yaml",
    ]


def test_its_folder_is_no_other(runs: Path, cli: Cli) -> None:
    answer = cli("report", "runs", "--out", "o", "--paper", "./o/")
    assert_refused(answer, "--paper ./o/: expected another folder than --out")
    (runs / "thesis").mkdir()
    (runs / "thesis/main.tex").touch()
    answer = cli("report", "runs", "--out", "o", "--paper", "thesis")
    assert_refused(answer, "expected a new folder, an empty one", "(main.tex)")
    assert sorted(path.name for path in (runs / "thesis").iterdir()) == ["main.tex"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="texlive is not installed")
def test_it_compiles(runs: Path, cli: Cli) -> None:
    assert cli("report", "we_100%=runs", "--paper", "paper").code == 0
    (runs / "paper/main.tex").write_text(MAIN)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main"]
    for command in (latex, ["bibtex", "main"], latex, latex):
        done = subprocess.run(command, cwd=runs / "paper", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert "undefined" not in done.stdout


def test_its_script_repeats_a_run_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("train", str(write_config(tmp_path)), "--local").code == 0
    assert cli("report", "mine=run", "--paper", "paper").code == 0
    # The command stands beside the interpreter where the package is installed.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / "paper/reproduce.sh"],
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, again = (
        json.loads((tmp_path / place / "report.json").read_text())
        for place in ("report", "paper/report")
    )
    assert first["panels"][0]["finals"] == again["panels"][0]["finals"]
    assert (tmp_path / "paper/paper/table.tex").exists()
