"""Does a short training run of every suite come to its summary? One after the other, through Ray.

    python benchmarks/suite_runs.py                     # every suite that is installed
    python benchmarks/suite_runs.py dmcr crafter        # a part; it is merged into the results
    python benchmarks/suite_runs.py --runs runs/suites  # keep the run folders there

Runs `reverie train` as a user would and reads the summary that it leaves. The budgets are too
short to learn anything: what counts is that each run ends with its budget met exactly, with an
evaluation and a video, and nothing restarted or lost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import save, saved

NAME = "suite_runs"
PRESETS = Path(__file__).parent.parent / "tune_configs"
CASES: dict[str, tuple[str, ...]] = {
    "atari100k": ("harmonydream/atari100k_cpu.yaml", "run.env_steps=2_000", "eval.every=0"),
    "crafter": ("dreamerv3/crafter_cpu.yaml",),
    "distracting": ("harmonydream/distracting_cpu.yaml",),
    "dmc": ("dreamerv3/dmc_vision_cpu.yaml",),
    "dmc, DrQ-v2": ("drqv2/dmc_easy_cpu.yaml",),
    "dmc, state": ("dreamerv3/dmc_proprio_cpu.yaml",),
    "dmcr": ("harmonydream/dmcr_cpu.yaml",),
    "metaworld": ("harmonydream/metaworld_cpu.yaml",),
    "robodesk": ("dreamerv3/crafter_cpu.yaml", "env=robodesk/open_slide", "run.env_steps=1_000"),
    "robosuite": ("dreamerv3/crafter_cpu.yaml", "env=robosuite/lift", "run.env_steps=1_000"),
}
"""Suite -> preset and what is laid over it."""
KEPT = (
    "env_steps",
    "grad_updates",
    "episodes",
    "seconds",
    "score",
    "protocol",
    "eval_episodes",
    "restarts",
    "lost_steps",
    "lost_rows",
    "lost_updates",
)


def run(case: str, folder: Path) -> dict[str, Any]:
    """Train one case; returns what counts of its summary, or how it failed."""
    preset, *overrides = CASES[case]
    config = PRESETS / preset
    command = [sys.executable, "-m", "reverie.cli", "train", str(config), *overrides]
    done = subprocess.run(
        [*command, f"run.dir={folder}"], capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = {"config": f"tune_configs/{preset}", "overrides": overrides}
    if done.returncode:
        return found | {"exit_code": done.returncode, "stderr": done.stderr[-1_000:]}
    summary = json.loads((folder / "summary.json").read_text())
    return found | {key: summary[key] for key in KEPT} | {"videos": len(summary["videos"])}


def missing(case: str) -> str | None:
    """What has to be done before a case can run."""
    from reverie import registry

    suite = registry.suite(case.partition(",")[0])
    return suite.missing()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {list(CASES)}")
    parser.add_argument("--runs", help="where run folders are kept; a temporary folder by default")
    options = parser.parse_args()
    figures = saved(NAME) or {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.runs or temporary).resolve()
        for case in options.cases or CASES:
            if lack := missing(case):
                print(f"{case}: left out: {lack}")
                continue
            figures[case] = run(case, root / case.replace(", ", "-"))
            print(case, {k: v for k, v in figures[case].items() if k != "overrides"}, flush=True)
            save(NAME, figures)


if __name__ == "__main__":
    main()
