"""What must one read to know what an update does? The files that it enters, and who imports what.

    python benchmarks/way.py
    python benchmarks/way.py --agent dreamerv3/2025 --json
    python benchmarks/way.py --agent dreamerv3/2025 --limits

A file counts with all its lines, whichever functions are entered. Files of `fast/` compute what a
plain form elsewhere says, only sooner, and are counted apart. An agent's own folder is the one its
class lies in. `--limits` ends with 1 where DreamerV3-2025 goes beyond what we allow it.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from same_bits_cases import Case, batches, learn, make

import reverie
import reverie_algorithms
from reverie import registry

ALGORITHMS, PLATFORM = (
    Path(package.__file__ or "").resolve().parent for package in (reverie_algorithms, reverie)
)
WAYS = {
    "dreamerv2": Case("dreamerv2", "box", "large", "float32", "paper"),
    "dreamerv3/2023": Case("dreamerv3/2023", "box", "large", "float32", "paper"),
    "dreamerv3/2025": Case("dreamerv3/2025", "box", "large", "float32", "paper"),
    "drqv2": Case("drqv2", "box", "large", "float32"),
    "ipv": Case("ipv", "box", "large", "float32"),
}
"""What each agent is watched at: images, continuous actions, HarmonyDream where there is one."""
LIMITED = "dreamerv3/2025"
MOST_FILES, MOST_FAST, MOST_LINES = 13, 4, 300


class Entered(NamedTuple):
    """A file on the way."""

    path: Path
    lines: int
    functions: int
    """Those that were entered, comprehensions and lambdas left out."""

    @property
    def is_fast(self) -> bool:
        return self.path.is_relative_to(ALGORITHMS / "fast")

    @property
    def name(self) -> str:
        return _name(self.path)


class Way(NamedTuple):
    """All files that one update enters, the largest first."""

    own: Path | None
    """The agent's own folder; None where its file lies among all others."""
    files: list[Entered]

    @property
    def plain(self) -> list[Entered]:
        return [file for file in self.files if not file.is_fast]

    @property
    def fast(self) -> list[Entered]:
        return [file for file in self.files if file.is_fast]

    @property
    def own_share(self) -> float:
        """Share of the plain files that lie in the agent's own folder."""
        own = self.own
        inside = [] if own is None else [f for f in self.plain if f.path.is_relative_to(own)]
        return len(inside) / len(self.plain)

    def figures(self) -> dict[str, Any]:
        return {
            "files": len(self.plain),
            "lines": sum(file.lines for file in self.plain),
            "functions": sum(file.functions for file in self.plain),
            "fast_files": len(self.fast),
            "fast_lines": sum(file.lines for file in self.fast),
            "own_share": round(self.own_share, 2),
            "entered": {f.name: {"lines": f.lines, "functions": f.functions} for f in self.files},
        }


def way_of(name: str) -> Way:
    """Follow one update of an agent, after one that warms up."""
    agent, stored = make(WAYS[name]), {}
    learn(agent, range(2), stored)
    given = batches(agent, 2, stored)
    codes = entered(lambda: agent.update(given, _counters()))
    by_file: dict[Path, set[str]] = defaultdict(set)
    for path, function in codes:
        by_file[path].add(function)
    files = [Entered(path, _num_lines(path), len(names)) for path, names in by_file.items()]
    folder = Path(sys.modules[type(agent).__module__].__file__ or "").resolve().parent
    own = None if folder == ALGORITHMS else folder
    return Way(own, sorted(files, key=lambda file: (file.is_fast, -file.lines)))


def _counters() -> Any:
    from reverie.types import Counters

    return Counters(grad_updates=2)


def entered(call: Callable[[], object]) -> set[tuple[Path, str]]:
    """Our files and the functions in them that a call enters."""
    codes = set()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    found = {(Path(code.co_filename).resolve(), code.co_qualname) for code in codes}
    ours = {(path, name) for path, name in found if _is_ours(path)}
    return {(path, name) for path, name in ours if not name.endswith(">")}


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(ALGORITHMS) or path.is_relative_to(PLATFORM)


def _num_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _name(path: Path) -> str:
    """A file as `reverie_algorithms/optim.py`."""
    root = ALGORITHMS if path.is_relative_to(ALGORITHMS) else PLATFORM
    return str(path.relative_to(root.parent))


# Who imports whom


def importers() -> dict[str, list[str]]:
    """Module outside the agents' own folders -> files that import it, the most wanted first."""
    modules = {_module(path): path for path in sorted(ALGORITHMS.rglob("*.py"))}
    own = set(_own_folders())
    shared = {name for name, path in modules.items() if not own & {path.parent, *path.parents}}
    found: dict[str, list[str]] = {name: [] for name in shared if modules[name].stem != "__init__"}
    for root in (ALGORITHMS, PLATFORM):
        for path in sorted(root.rglob("*.py")):
            for name in sorted(set(_imports(path, modules)) & found.keys()):
                found[name].append(_name(path))
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _own_folders() -> Iterator[Path]:
    for target in registry.ALGORITHMS.values():
        folder = ALGORITHMS.parent.joinpath(*target.partition(":")[0].split(".")).parent
        if folder != ALGORITHMS:
            yield folder


def _module(path: Path) -> str:
    parts = path.relative_to(ALGORITHMS.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports; of `from package import module` the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


# What we allow, and what is shown


def beyond_limits(way: Way) -> list[str]:
    """What is too much on the way, a line each."""
    plain, fast = len(way.plain), len(way.fast)
    faults = []
    if plain > MOST_FILES:
        faults.append(f"expected at most {MOST_FILES} files outside fast/, got {plain}")
    if fast > MOST_FAST:
        faults.append(f"expected at most {MOST_FAST} files in fast/, got {fast}")
    if way.own_share < 0.5:
        share = f"{way.own_share:.0%} of {plain} files"
        faults.append(f"expected half of them or more in the agent's own folder, got {share}")
    long = [f"{f.name} with {f.lines}" for f in way.files if f.lines > MOST_LINES]
    if long:
        faults.append(f"expected no file above {MOST_LINES} lines, got {', '.join(long)}")
    return faults


def show(ways: dict[str, Way], imported: dict[str, list[str]]) -> None:
    """Print tables for a person."""
    for name, way in ways.items():
        figures = way.figures()
        print(
            f"{name}: {figures['files']} files, {figures['lines']} lines, "
            f"{figures['functions']} functions, {way.own_share:.0%} of the files its own; "
            f"fast/: {figures['fast_files']} files, {figures['fast_lines']} lines"
        )
        for file in way.files:
            print(f"  {file.lines:5} lines {file.functions:3} functions  {file.name}")
    print("importers of shared modules:")
    for module, files in imported.items():
        print(f"  {len(files):3}  {module}")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", choices=WAYS, help="all, unless one is named")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limits", action="store_true", help=f"end with 1 if {LIMITED} is beyond")
    options = parser.parse_args(words)
    if options.limits and options.agent not in (None, LIMITED):
        parser.error(f"--limits: there are some of {LIMITED} only, got {options.agent}")
    return options


def main(words: Sequence[str] | None = None) -> int:
    options = parse(words)
    torch.set_num_threads(1)
    ways = {name: way_of(name) for name in ([options.agent] if options.agent else WAYS)}
    imported = importers()
    if options.json:
        agents = {name: way.figures() for name, way in ways.items()}
        print(json.dumps({"agents": agents, "importers": imported}, indent=2))
    else:
        show(ways, imported)
    faults = beyond_limits(ways[LIMITED]) if options.limits else []
    for fault in faults:
        print(f"{LIMITED}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
