"""The first hour on a GPU: does it work, how fast is it, does it learn?

    python benchmarks/gpu.py --part tests --minutes 9 --out runs/gpu
    python benchmarks/gpu.py --part speed --minutes 9 --out runs/gpu
    python benchmarks/gpu.py --part learn --minutes 9 --out runs/gpu
    python benchmarks/gpu.py --part tests --dry-run       # three steps on a CPU, tiny

Runs from a bare source tree, without an installation and without Ray. Each part ends within its
minutes, writes its rows to `gpu-<part>.json` in `--out` as they come, and goes on after them when
it is called again: rows that failed are kept (`--again` repeats them), those that a former call
could not finish come last. What the compiler made and the runs of `learn` stay in `--out` too.
Exit code: 0, 1 where a row failed, 3 where rows are left for another call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
SOURCES = [BENCHMARKS, ROOT, *(ROOT / name for name in ("platform", "algorithms", "envs"))]
PARTS = ("tests", "speed", "learn")
LEAST_S = 20.0
"""With less time left than this, no row is begun."""
BEGUN = "begun"


def find_sources() -> None:
    """Let this process and those it starts import the source tree, and nothing reach for Ray."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(path) for path in SOURCES]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, *filter(None, known)]))
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"


class Deadline:
    """When a part has to end."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


class Ledger:
    """The rows of one result file, by name; written whenever one changes."""

    def __init__(self, name: str, folder: Path, **about: Any) -> None:
        from common import saved

        self.name, self.folder, self._about = name, folder, about
        self.rows: dict[str, dict[str, Any]] = {
            row["row"]: row for row in saved(name, folder) or []
        }

    def put(self, name: str, **figures: Any) -> None:
        """Replace one row."""
        from common import save

        self.rows[name] = {"row": name, **figures}
        save(self.name, [*self.rows.values()], self.folder, **self._about)

    def todo(self, names: Sequence[str], again: bool = False) -> list[str]:
        """Names without a result; what a former call began and did not finish comes last."""
        state = {name: self.rows.get(name, {}).get("state") for name in names}
        left = [name for name in names if state[name] in (None, BEGUN)]
        left += [name for name in names if again and state[name] == "failed"]
        return sorted(left, key=lambda name: state[name] == BEGUN)


def work_off(
    ledger: Ledger,
    rows: dict[str, Callable[[], dict[str, Any]]],
    deadline: Deadline,
    again: bool = False,
) -> None:
    """Make one row after the other until there are none or the time is up."""
    for name in ledger.todo([*rows], again):
        if deadline.left() < LEAST_S:
            return
        ledger.put(name, state=BEGUN)
        begin = time.perf_counter()
        try:
            found: dict[str, Any] = {"state": "passed", **rows[name]()}
        except TimeoutError:
            print(f"{name}: not finished in time", flush=True)
            continue
        except Exception as error:
            found = {"state": "failed", "error": f"{type(error).__name__}: {error}"[-2000:]}
            found["where"] = traceback.format_exc(limit=-4).splitlines()[1:-1]
        ledger.put(name, **found, seconds=round(time.perf_counter() - begin, 1))
        print(f"{name}: {ledger.rows[name]}", flush=True)
        if "CUDA error" in found.get("error", ""):
            print("this process cannot use the GPU any more: call again", flush=True)
            return


def gpu_facts() -> dict[str, Any]:
    """What stands beside the figures about the GPU."""
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    card = torch.cuda.get_device_properties(0)
    memory = round(card.total_memory / 2**30, 1)
    return {"gpu": card.name, "gpu_memory_gb": memory, "cuda": torch.version.cuda}


def run_tests(options: argparse.Namespace, ledger: Ledger, deadline: Deadline) -> list[str]:
    """Checks of every agent, those of `tests/gpu`, without pytest."""
    import torch

    from tests.gpu.checks import Where, rows

    where, wanted = Where(), rows()
    if options.dry_run:
        where = Where("cpu", "eager", updates=3)
        names = ("no_host_sync", "acts", "compiled_equals_eager")
        firsts = {row.check.__name__: row for row in wanted[::-1] if row.agent == "drqv2"}
        wanted = [firsts[name] for name in names]

    def run(row: Any) -> dict[str, Any]:
        try:
            return row.run(where)
        finally:
            torch.compiler.reset()

    table = {row.name: lambda row=row: run(row) for row in wanted}
    work_off(ledger, table, deadline, options.again)
    return [*table]


def run_part(options: argparse.Namespace) -> int:
    """Run one part until its time is up; return the exit code."""
    deadline = Deadline(options.minutes)
    about = gpu_facts() | {"dry_run": options.dry_run}
    if about["gpu"] is None and not options.dry_run:
        print("torch sees no GPU on this machine; --dry-run tries the parts on a CPU")
        return 2
    cache = options.out.resolve() / "gpu-cache"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    name = f"gpu-{options.part}" + ("-dry" if options.dry_run else "")
    ledger = Ledger(name, options.out, **about)
    if options.part == "tests":
        names = run_tests(options, ledger, deadline)
    elif options.part == "speed":
        from gpu_speed import run_speed

        names = run_speed(options, ledger, deadline)
    else:
        from gpu_learn import run_learn

        names = run_learn(options, ledger, deadline)
    states = [ledger.rows.get(name, {}).get("state") for name in names]
    failed, left = states.count("failed"), sum(state in (None, BEGUN) for state in states)
    print(f"{options.out / name}.json: {len(names)} rows, {failed} failed, {left} left")
    return 1 if failed else 3 if left else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="the part ends within them")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "results")
    parser.add_argument("--again", action="store_true", help="repeat rows that failed")
    parser.add_argument("--dry-run", action="store_true", help="three steps on a CPU, tiny")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the runs of `learn`"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    find_sources()
    return run_part(parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
