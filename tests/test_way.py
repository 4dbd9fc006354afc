"""How much one must read to know what an update of DreamerV3-2025 does (benchmarks/way.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from reverie import registry
from tests.conftest import ROOT


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import way

    yield way
    for name in ("way", "same_bits_cases", "tensor_trees"):
        sys.modules.pop(name, None)


def file(way: Any, name: str, lines: int = 100) -> Any:
    return way.Entered(way.ALGORITHMS / name, lines, 1)


def path(way: Any, *files: Any) -> Any:
    return way.Way(way.ALGORITHMS / "own", list(files))


def test_an_update_of_dreamerv3_2025_enters_few_files_most_of_them_its_own(way: Any) -> None:
    assert way.beyond_limits(way.way_of(way.LIMITED)) == []


@pytest.mark.parametrize("name", sorted(registry.ALGORITHMS))
def test_what_an_update_enters_is_the_agent_s_code_and_the_modules_it_imports(
    way: Any, name: str
) -> None:
    found = way.way_of(name)
    module = registry.ALGORITHMS[name].partition(":")[0]
    assert way.ALGORITHMS.parent / f"{module.replace('.', '/')}.py" in [f.path for f in found.files]
    assert found.own == way.ALGORITHMS / module.split(".")[1]
    figures = found.figures()
    assert figures["files"] + figures["fast_files"] == len(figures["entered"])
    assert figures["functions"] >= figures["files"]


def test_limits_count_fast_code_apart_and_say_what_is_beyond_them(way: Any) -> None:
    own = [file(way, f"own/{n}.py") for n in range(7)]
    shared = [file(way, f"shared/{n}.py", 300) for n in range(6)]
    fast = [file(way, f"fast/{n}.py") for n in range(4)]
    assert way.beyond_limits(path(way, *own, *shared, *fast)) == []
    more = file(way, "shared/more.py", 301), file(way, "fast/more.py")
    assert way.beyond_limits(path(way, *own[1:], *shared, *fast, *more)) == [
        "expected at most 4 files in fast/, got 5",
        "expected half of them or more in the agent's own folder, got 46% of 13 files",
        "expected no file above 300 lines, got reverie_algorithms/shared/more.py with 301",
    ]
    (fault,) = way.beyond_limits(path(way, *own, *shared, own[0]._replace(path=Path("/other"))))
    assert fault == "expected at most 13 files outside fast/, got 14"
    alone = way.Way(None, own)
    assert "got 0% of 7 files" in way.beyond_limits(alone)[0]


def test_only_our_functions_are_counted(way: Any) -> None:
    found = way.entered(lambda: [registry.suggest("a", ["b"]) for _ in range(2)])
    assert found == {(way.PLATFORM / "registry.py", "suggest")}


def test_importers_are_files_and_a_module_from_a_package_counts_as_itself(way: Any) -> None:
    found = way.importers()
    counts = [len(files) for files in found.values()]
    assert counts == sorted(counts, reverse=True)
    for module, files in found.items():
        package, _, name = module.rpartition(".")
        for importer in files:
            text = (way.ALGORITHMS.parent / importer).read_text()
            assert module in text or (f"from {package} import" in text and name in text)
