"""Do two source trees compute the same numbers, to the last bit?

    python benchmarks/same_bits.py ../before .
    python benchmarks/same_bits.py ../before . --modes on --only dreamerv3/2025
    python benchmarks/same_bits.py ../before . --tolerance 1e-4 --json differences.json

OLD and NEW are roots that hold `platform/`, `algorithms/` and `envs/`. Each tree runs this file
in a process of its own (`--record`), on one thread, and writes down what small agents compute:
metrics and feedback of five updates, weights, optimizers and generators, a report, twenty acting
steps, and whether a resumed agent goes on as if it had not stopped. Then names, shapes, types and
all bits are compared. Mode `off` runs inside `reverie_algorithms.fast.plain()`.

Ends with 1 where anything differs (with `--tolerance R`: by more than R times a tensor's largest
entry) or an agent fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from same_bits_cases import cases, record
from tensor_trees import Difference, compare

ROOTS = ("platform", "algorithms", "envs")
PACKAGES = ("reverie", "reverie_algorithms")
MODES = ("on", "off")


def recorded(tree: Path, mode: str, only: str, folder: Path) -> dict[str, Any] | None:
    """What a tree computes, by case and path; None where it cannot switch its fast code off."""
    file = folder / "recorded.pt"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(str(tree / root) for root in ROOTS)
    command = [__file__, str(tree), "--record", str(file), "--modes", mode, "--only", only]
    env = os.environ | threads | {"PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, *command], env=env, check=True)
    return torch.load(file, weights_only=True)


def check_origin(tree: Path) -> None:
    """Raise `ValueError` where another tree's packages would be imported."""
    for name in PACKAGES:
        file = Path(importlib.import_module(name).__file__ or "")
        if not file.is_relative_to(tree):
            raise ValueError(f"{name}: expected that of {tree}, got {file}")


def compare_trees(options: argparse.Namespace, mode: str, folder: Path) -> dict[str, Any] | None:
    """Differences by case; None where a tree has no such mode."""
    trees = {"OLD": options.old, "NEW": options.new}
    found = {n: recorded(tree, mode, options.only, folder) for n, tree in trees.items()}
    if missing := [name for name, cases_of in found.items() if cases_of is None]:
        print(f"{mode}: not compared ({' and '.join(missing)} has no switch for its fast code)")
        return None
    old, new = found["OLD"], found["NEW"]
    assert old is not None
    assert new is not None
    return {case: judge(case, mode, old[case], new[case], options.tolerance) for case in old}


def judge(
    case: str, mode: str, old: dict[str, Any], new: dict[str, Any], tolerance: float
) -> dict[str, Any]:
    """Print one line on one case, and return what it says."""
    if faults := [
        f"{n} failed: {x['fault']}" for n, x in (("OLD", old), ("NEW", new)) if "fault" in x
    ]:
        print(f"{mode:4}{case}: {'; '.join(faults)}", flush=True)
        return {"passed": False, "faults": faults}
    found = compare(old, new)
    print(f"{mode:4}{case}: {found}", flush=True)
    passed = not found.paths or found.relative <= tolerance
    return {"passed": passed, **_figures(found)}


def _figures(found: Difference) -> dict[str, Any]:
    first = {"first": found.paths[0], "what": found.what} if found.paths else {}
    sizes = {"absolute": found.absolute, "relative": found.relative}
    return {"tensors": found.tensors, "differ": len(found.paths), **first, **sizes}


def sum_up(found: dict[str, Any], tolerance: float) -> bool:
    """Print what the worst case is; return whether all passed."""
    rows = {f"{mode} {case}": row for mode, by in found.items() for case, row in (by or {}).items()}
    failed = [name for name, row in rows.items() if not row["passed"]]
    worst = max(rows, key=lambda name: rows[name].get("relative", 0.0))
    if rows[worst].get("differ"):
        print(f"worst: {worst}, relative {rows[worst]['relative']:.3g} (allowed {tolerance:g})")
    print(f"{len(rows) - len(failed)} of {len(rows)} cases {'within' if tolerance else 'equal'}")
    return not failed


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=_tree)
    parser.add_argument("new", type=_tree, nargs="?")
    parser.add_argument("--modes", type=_modes, default=MODES, help="on,off: fast code")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative, by tensor")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--record", metavar="FILE", help="write down what OLD computes, no more")
    options = parser.parse_args()
    if not options.record and options.new is None:
        parser.error("expected two trees, OLD and NEW, got one")
    if not any(options.only in case.name for case in cases()):
        parser.error(f"--only: no case's name holds {options.only!r}, e.g. {next(cases()).name!r}")
    return options


def _tree(text: str) -> Path:
    path = Path(text).resolve()
    if missing := [root for root in ROOTS if not (path / root).is_dir()]:
        raise argparse.ArgumentTypeError(f"{text}: no source tree, it holds no {missing[0]}/")
    return path


def _modes(text: str) -> tuple[str, ...]:
    modes = tuple(text.split(","))
    if wrong := set(modes) - set(MODES):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(MODES)}, got {sorted(wrong)}")
    return modes


def main() -> int:
    options = parse()
    if options.record:
        check_origin(options.old)
        record(options.record, options.modes[0], options.only)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = {mode: compare_trees(options, mode, Path(folder)) for mode in options.modes}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if sum_up(found, options.tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
