"""Do environments with odd spaces and habits train, or end in one sentence? One line for each.

    python benchmarks/odd_envs.py [--json] [--only PART ...] [--save]

Each environment of `tests/contract/zoo.py` gets a process of its own, which runs as a user would:
`check-env`, `train --local` for 80 env steps with every agent at its smallest, `eval`, and then
`reverie.load(...).act` in the raw environment, which has to play to the returns of `eval`. A row is

    trained   by at least one agent; the others refused it
    refused   by every agent in one sentence, before the environment took a step
    ended     with exit code 2 and a sentence about the environment, which failed as it ran, or
              about a loss that its numbers made infinite
    WRONG     anything else: a traceback of ours, another return, a hang, a dead process, or what
              the tables of `tests/contract/zoo_fates.py` do not say

An agent's refusals and endings are kept word by word. The exit code is 1 where a row is wrong.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
sys.path.insert(0, str(Path(__file__).parent.parent))  # where `env.factory` finds the tests, too

import yaml
from common import installed, save, saved
from odd_envs_stages import EPISODES, MAX_STEPS, SEED, checked, tried

from reverie import registry, run_manifest
from tests.contract import zoo, zoo_fates
from tests.contract.cases import ACTORS, SMALLEST

ENV_STEPS = 80
"""Of one training run."""
PATIENCE_S = 180.0
"""Seconds after which the process of one environment counts as hung."""
PLAIN: dict[str, Any] = {
    "seed": SEED,
    "env": "toy/catch",
    "replay": {"capacity": 2_000, "chunk_length": 16},
    "learner": {"training_ratio": 1, "batch_size": 4, "batch_length": 4},
    "resources": {"device": "cpu", "learner_threads": 1},
    "eval": {"every": 0, "episodes": EPISODES, "envs": 1, "max_steps": MAX_STEPS, "video": False},
    "run": {"env_steps": ENV_STEPS, "prefill": 32, "max_env_restarts": 3},
    "logging": {"tensorboard": False},
}
SINGLE_ROWS = {"training_ratio": 1, "batch_size": 16, "batch_length": 1}
"""Batches of an agent that trains on transitions."""


@dataclass(kw_only=True)
class Row:
    """What became of one environment."""

    name: str
    outcome: str = "WRONG"
    check: str = ""
    """What `check-env` found: `ok` or its first breach."""
    agents: dict[str, str] = field(default_factory=dict)
    """`trained`, or `refused:`, `ended:` or `WRONG:` and why."""
    seconds: float = 0.0

    def judge(self) -> None:
        """Set the outcome from what became of it with each agent."""
        kinds = {text.partition(":")[0] for text in (*self.agents.values(), self.check)}
        ranks = ("WRONG", "trained", "ended", "refused")
        self.outcome = next((rank for rank in ranks if rank in kinds), "WRONG")
        if self.outcome not in ("WRONG", expected(self.name)):
            self.agents["table"] = f"WRONG: {self.outcome}, expected {expected(self.name)}"
            self.outcome = "WRONG"
        if self.outcome == "trained" and (self.check == "ok") == (
            self.name in zoo_fates.FAILS_CHECK
        ):
            self.agents["table"] = f"WRONG: check-env says {self.check}"
            self.outcome = "WRONG"

    def line(self) -> str:
        trained = [agent for agent, text in self.agents.items() if text == "trained"]
        others = {text: agent for agent, text in self.agents.items() if text != "trained"}
        said = list(others) if self.outcome != "trained" else []
        texts = [f"[{', '.join(trained)}]"] if trained else []
        wrong = [text for text in (*others, self.check) if text.startswith("WRONG")]
        texts += wrong or said[:1]
        texts += [f"check-env: {self.check}"] if self.check != "ok" and trained else []
        return f"{self.name:32} {self.outcome:8} {self.seconds:5.1f} s  {'; '.join(texts)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--only", nargs="+", default=[""], help="names that hold one of these")
    parser.add_argument("--save", action="store_true", help="write results/odd_envs.json")
    arguments = parser.parse_args()
    names = [name for name in zoo.ENVS if any(part in name for part in arguments.only)]
    rows, begin = [], time.perf_counter()
    memory = Path("/dev/shm")  # the disk is not what is asked about
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="reverie-odd-", dir=where) as folder:
        configs = write_configs(Path(folder))
        warm_up(configs, Path(folder) / "warm")
        for name in names:
            row = in_a_process(name, configs, Path(folder) / name)
            rows.append(row)
            print(json.dumps(asdict(row)) if arguments.json else row.line(), flush=True)
    seconds = round(time.perf_counter() - begin)
    counts = Counter(row.outcome for row in rows)
    if not arguments.json:
        print(f"{len(rows)} environments in {seconds} s: {dict(counts)}")
    if arguments.save:  # beside those of other calls
        new = {row.name: asdict(row) for row in rows}
        old = {row["name"]: row for row in saved("odd_envs") or [] if row["name"] in zoo.ENVS}
        figures = [(old | new)[name] for name in zoo.ENVS if name in old | new]
        more = {
            "gymnasium": installed("gymnasium"),
            "numpy": installed("numpy"),
            "outcomes": Counter(row["outcome"] for row in figures),
            "seconds": round(sum(row["seconds"] for row in figures)),
        }
        print(save("odd_envs", figures, **more))
    return 0 if not counts["WRONG"] else 1


def write_configs(folder: Path) -> dict[str, Path]:
    """A configuration file for every agent, by its name."""
    found = {}
    for name, algorithm in ((name, SMALLEST[name]) for name in ACTORS):
        tree = PLAIN | {"algorithm": algorithm}
        if algorithm["name"] == "drqv2":
            tree |= {"learner": SINGLE_ROWS}
        found[name] = folder / f"{name.replace('/', '-')}.yaml"
        found[name].write_text(yaml.safe_dump(tree))
    return found


def expected(name: str) -> str:
    """What the tables say of an environment."""
    if name in zoo_fates.REFUSED or name in zoo_fates.DEPTH:
        return "refused"
    return "ended" if name in zoo_fates.ENDS else "trained"


def warm_up(configs: Mapping[str, Path], folder: Path) -> None:
    """Import here what a run imports, and read once what is installed: each costs seconds."""
    registry.entry_points = functools.cache(registry.entry_points)
    run_manifest.installed_versions = functools.cache(run_manifest.installed_versions)
    run_manifest.installed_versions()
    registry.env_names(), registry.algorithm_names()
    folder.mkdir()
    before = set(sys.modules)

    def run(pipe: Any) -> None:
        for agent, config in configs.items():
            options = ["env.factory=tests.contract.zoo:length_two_steps", "learner.batch_length=1"]
            tried("length_two_steps", str(config), options, folder / agent.replace("/", "-"))
        pipe.send(set(sys.modules) - before)
        pipe.close()
        os._exit(0)

    for module in sorted(_forked(run).recv()):
        with suppress(Exception):  # some can only be imported where something else was
            importlib.import_module(module)


def _forked(run: Callable[[Any], None]) -> Any:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    return ours


def in_a_process(name: str, configs: Mapping[str, Path], folder: Path) -> Row:
    """Run one environment in a fork of this process, which has imported what takes seconds."""
    folder.mkdir()
    begin = time.perf_counter()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, configs, folder, theirs))
    process.start()
    theirs.close()
    row = Row(name=name)
    try:
        while ours.poll(max(0.0, begin + PATIENCE_S - time.perf_counter())):
            row = ours.recv()
        row.agents["process"] = f"WRONG: hung for {PATIENCE_S:g} s"
        process.kill()
    except EOFError:
        process.join()
        if process.exitcode:
            row.agents["process"] = f"WRONG: died with exit code {process.exitcode}"
    process.join()
    row.seconds = round(time.perf_counter() - begin, 1)
    row.judge()
    return row


def _child(name: str, configs: Mapping[str, Path], folder: Path, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)  # no checkout: each run would ask git for its differences
    nowhere = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    row = Row(name=name)
    try:
        options = (f"env.factory=tests.contract.zoo:{name}", *zoo.OPTIONS.get(name, ()))
        row.check = checked(name, configs["dreamerv3/2025"], zoo.OPTIONS.get(name, ()), folder)
        pipe.send(row)
        for agent, config in configs.items():
            mine = [o for o in options if agent != "drqv2" or "batch_length" not in o]
            run = folder / agent.replace("/", "-")
            row.agents[agent] = tried(name, str(config), mine, run)
            pipe.send(row)
    except BaseException:
        row.agents["process"] = f"WRONG: {traceback.format_exc()[-1500:]}"
        pipe.send(row)
    pipe.close()
    os._exit(0)  # whatever threads of the environment hang


if __name__ == "__main__":
    raise SystemExit(main())
