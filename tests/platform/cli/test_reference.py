"""The reference page holds every key that a configuration may set."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from reverie import registry
from reverie.cli import reference
from reverie.config import load_experiment
from reverie.presets import preset_files
from reverie.ranges import Count
from reverie.settings import PretrainConfig, TrainConfig, sections_of
from tests.conftest import ROOT


def leaves(value: object, path: str = "") -> set[str]:
    if not isinstance(value, dict) or not value:
        return {path}
    return {
        leaf for key, part in value.items() for leaf in leaves(part, f"{path}.{key}".strip("."))
    }


def test_every_key_of_a_resolved_configuration_stands_on_the_page() -> None:
    page = reference.page()
    for file in preset_files().values():
        for key in leaves(load_experiment(file).to_dict()):
            row = key.replace("eval.env.", "env.")  # what evaluations may change is the suite's own
            assert f"| `{row}` |" in page, key


def test_every_key_has_a_meaning() -> None:
    configs = [(registry.algorithm(name).Config, "algorithm") for name in registry.ALGORITHMS]
    configs += [(registry.suite(name).Config, "env") for name in registry.ENVS]
    for kind in (TrainConfig, PretrainConfig):
        configs += [(cls, name) for name, cls in sections_of(kind).items()]
    for cls, prefix in configs:
        for entry in reference.entries(cls, prefix):
            assert entry.meaning, entry.key


@dataclasses.dataclass
class Inner:
    """Nested."""

    rate: float = 1e-4
    """How fast (arXiv:2301.04104v1, table 1)."""


@dataclasses.dataclass
class Outer:
    """Options."""

    count: Count = 1_000_000
    """How many | in
    all."""
    inner: Inner = dataclasses.field(default_factory=Inner)
    """Further ones."""
    name: str = dataclasses.field(kw_only=True)
    """Required one."""


def test_defaults_meanings_and_sources_come_from_the_dataclass() -> None:
    assert [dataclasses.astuple(entry) for entry in reference.entries(Outer, "x")] == [
        ("x.count", "`1_000_000`", "a whole number, 1 or more", "How many | in all.", ""),
        ("x.inner.rate", "`0.0001`", "a finite number", "How fast.", "arXiv:2301.04104v1, table 1"),
        ("x.name", "required", "text", "Required one.", ""),
    ]


def test_a_bar_in_a_meaning_does_not_break_the_table() -> None:
    for line in reference.page().splitlines():
        if line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == 6, line


@pytest.mark.skipif(not (ROOT / "docs/reference.md").exists(), reason="written by `make docs`")
def test_the_committed_page_is_current() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "reverie.cli.reference"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ROOT / "docs/reference.md").read_text() == found.stdout, "run `make docs`"
