"""What the pages of docs/ show is true: code runs, links lead somewhere, messages are printed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from reverie.cli import main
from tests.conftest import ROOT

DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
WRITTEN = sorted(path for path in DOCS.glob("*.md") if path.name != "reference.md")
RUN = ["tutorial", "python", "write_an_environment", "write_an_algorithm", "concepts"]
RUN += ["troubleshooting", "report", "sweeps", "video_data", "video_pretraining"]
"""Pages whose code is run."""
SHORT = [
    "run.env_steps=224",
    "run.prefill=200",
    "eval.every=0",
    "eval.episodes=2",
    "resources.learner_threads=1",
]
"""Laid over every training that a page shows: a page trains for minutes, a test for seconds."""
LONGER = [*SHORT, "run.env_steps=232"]
"""Over every run that a page resumes."""
PRETRAIN = ["run.updates=2", "eval.every=0", "eval.batches=1", "resources.learner_threads=1"]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
SOURCES = [ROOT / name for name in ("platform", "algorithms", "envs")]
SHIM = f"""#!/bin/sh
PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{os.pathsep.join(map(str, SOURCES))}" \\
exec "{sys.executable}" %s"$@"
"""


class Block(NamedTuple):
    kind: str
    code: str
    why_not: str | None


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text())
    return [Block(one["kind"], one["code"], one["why"]) for one in found]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the examples, where `reverie` and `python` are those of this test."""
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, module in (("python", ""), ("reverie", "-m reverie.cli ")):
        (programs / name).write_text(SHIM % module)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), sys.path[:]
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def shortened(line: str) -> str:
    resumed = ["run.updates=3"] if "films" in line else LONGER
    for command, overrides in (("train", SHORT), ("pretrain", PRETRAIN), ("resume", resumed)):
        if line.startswith(f"reverie {command} "):
            return " ".join([line, *overrides])
    return line


def run_shell(code: str) -> None:
    """One command after the other: ours in this process, which has imported torch; the rest, and
    ours once the surroundings were changed, by bash.
    """
    lines = [shortened(line) for line in code.splitlines()]
    if not all(line.startswith("reverie ") for line in lines):
        found = subprocess.run(["bash", "-ec", "\n".join(lines)], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return
    for line in lines:
        words = [word for word in line.partition(" #")[0].split()][1:]
        assert main(words) == 0, line


@pytest.mark.parametrize("name", RUN)
def test_code_of_a_page_runs(name: str, folder: Path) -> None:
    module = ModuleType(f"my_page_of_{name}")
    sys.modules[module.__name__] = module  # where dataclasses look for the names they use
    for block in blocks(DOCS / f"{name}.md"):
        if block.why_not is None and block.kind == "sh":
            run_shell(block.code)
        elif block.why_not is None and block.kind == "python":
            exec(compile(block.code, f"{name}.md", "exec"), vars(module))


def test_every_page_is_run_and_only_known_kinds_of_code_are_shown() -> None:
    assert {page.stem for page in WRITTEN} - set(RUN) == {"dependencies", "house", "security"}
    kinds = {block.kind for page in WRITTEN for block in blocks(page)}
    assert kinds <= {"python", "sh", "text"}
    skipped = [block for page in WRITTEN for block in blocks(page) if block.why_not is not None]
    assert len(skipped) <= 2


@pytest.mark.parametrize(
    ("page", "example"),
    [
        ("write_an_environment", "my_environment.py"),
        ("write_an_algorithm", "my_algorithm.py"),
    ],
)
def test_a_page_quotes_its_example_to_the_letter(page: str, example: str) -> None:
    quoted = [block.code for block in blocks(DOCS / f"{page}.md")]
    assert (EXAMPLES / example).read_text() in quoted


@pytest.mark.parametrize("page", [ROOT / "README.md", *WRITTEN], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            assert anchor in [re.sub(r"[^\w-]", "", t.lower().replace(" ", "-")) for t in titles]


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in WRITTEN if f"(docs/{page.name})" not in text] == []


@cache
def messages() -> str:
    """Every text in the sources, one a line, with `...` for what is filled in."""
    paths = [path for folder in SOURCES for path in folder.rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(" ".join(_text(node).split()) for node in nodes)


def _text(node: ast.AST) -> str:
    match node:
        case ast.JoinedStr(values=parts):
            return "".join(
                _text(part) if isinstance(part, ast.Constant) else "..." for part in parts
            )
        case ast.Constant(value=str(text)):
            return text
        case _:
            return ""


QUOTED = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(), re.M)


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_that_is_explained_is_still_printed(message: str) -> None:
    parts = [re.escape(part) for part in message.split("...")]
    assert re.search(r"[^\n]*?".join(parts), messages()), message


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "images").glob("*.png")}
    assert sizes
    assert {name: size for name, size in sizes.items() if size >= 150_000} == {}
