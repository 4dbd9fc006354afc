"""No value of any key leads to a traceback, a hang or a crash; every refusal names its key."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.platform.config_draws import Drawn, Outcome, draw, in_a_fork, try_out

FAULTS = ("traceback", "hang", "crash", "unnamed")
LIMIT_S = 60.0
"""For one draw; a training takes about a second."""


def run_draws(draws: int, trainings: int, seed: int) -> Counter[str]:
    """Try so many draws, and train with the first so many that are allowed."""
    # Once before the forks: what a run imports takes longer than the run.
    assert try_out(Drawn("dreamerv2", "seed", 3), train=True).kind == "trained"
    rng, counts, faults = random.Random(seed), Counter[str](), list[tuple[Drawn, Outcome]]()
    for _ in range(draws):
        drawn = draw(rng)
        train = counts["trained"] + counts["stopped"] < trainings
        outcome = in_a_fork(lambda drawn=drawn, train=train: try_out(drawn, train), LIMIT_S)
        counts[outcome.kind] += 1
        if outcome.kind in FAULTS:
            faults.append((drawn, outcome))
    told = "\n".join(f"--- {drawn}: {outcome.kind}\n{outcome.text}" for drawn, outcome in faults)
    assert not faults, f"seed {seed}: {len(faults)} of {draws} draws, {dict(counts)}\n{told}"
    return counts


def run_apart(draws: int, trainings: int, seed: int) -> Counter[str]:
    """The same from a fresh process: a fork of one with threads, such as those that tests before
    this one have left, may wait forever for a lock that one of them held.
    """
    code = (
        "import json; from tests.platform.test_config_draws import run_draws;"
        f" print(json.dumps(run_draws({draws}, {trainings}, {seed})))"
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    found = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-8000:]
    return Counter(json.loads(found.stdout.splitlines()[-1]))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_odd_values_are_refused_by_name_or_train() -> None:
    counts = run_apart(120, 8, seed=0)
    assert counts["refused"] > 50
    assert counts["trained"] + counts["stopped"] == 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_odd_values_are_refused_by_name_or_train() -> None:
    counts = run_apart(2000, 300, seed=time.time_ns() % 10**6)
    assert counts["trained"] + counts["stopped"] == 300


def test_a_hang_a_crash_and_a_bug_are_seen() -> None:
    assert in_a_fork(lambda: time.sleep(60), 0.2).kind == "hang"
    assert in_a_fork(lambda: os.kill(os.getpid(), signal.SIGKILL), 20).kind == "crash"
    assert in_a_fork(lambda: Outcome("x" if 1 // 0 else "y"), 20).kind == "traceback"
