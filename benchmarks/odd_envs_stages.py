"""What one odd environment goes through: `check-env`, `train`, `eval`, and the deployed policy."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import reverie
from reverie.cli import main as command_line
from reverie.seeds import EVAL_ENVS, derive_seed
from tests.contract import zoo
from tests.contract.zoo_env import Calls

EPISODES, MAX_STEPS, SEED = 2, 20, 3
"""Of one evaluation, each episode cut at so many steps."""


def checked(name: str, config: Path, options: tuple[str, ...], folder: Path) -> str:
    """What `reverie check-env` says: `ok`, or its first breach."""
    arguments = ["check-env", f"tests.contract.zoo:{name}", str(config), *options]
    code, out, err = command(arguments, folder)
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    if code == 0 and not failed:
        return "ok"
    if code == 2:
        return failed[0] if failed else sentence(err)
    return f"WRONG: exit code {code}: {err[-1500:]}"


def tried(name: str, config: str, options: list[str], run: Path) -> str:
    """Train, evaluate and deploy one agent; returns what became of it."""
    Calls.resets = Calls.steps = 0
    code, _, err = command(["train", config, *options, f"run.dir={run}", "--local"], run.parent)
    if code != 0:
        return refused(code, err, run)
    broken = [file.name for file in run.glob("*.json*") if not _is_json(file)]
    if broken:
        return f"WRONG: no valid JSON in {broken}"
    updates = strict_json((run / "summary.json").read_text())["grad_updates"]
    if not updates:
        return "WRONG: exit code 0 without an update"
    Calls.steps = 0
    code, out, err = command(["eval", str(run), "--json"], run.parent)
    if code != 0:
        return f"WRONG: eval: exit code {code}: {err[-1500:]}"
    try:
        wanted = strict_json(out)["returns"]
    except ValueError:
        return f"WRONG: eval --json printed {out[:200]!r}"
    Calls.steps = 0
    made = [o.removeprefix("env.kwargs.").split("=") for o in options if "kwargs" in o]
    kwargs = {key: yaml.safe_load(value) for key, value in made}
    played = deployed(run, lambda: zoo.ENVS[name](**kwargs))
    if not np.allclose(played, wanted, rtol=1e-5, atol=1e-6):
        return f"WRONG: deployed returns {played}, eval {wanted}"
    return "trained"


def strict_json(text: str) -> Any:
    """Raises: ValueError, also for NaN and Infinity, which only Python reads."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _is_json(file: Path) -> bool:
    text = file.read_text()
    try:
        for part in text.splitlines() if file.suffix == ".jsonl" else [text]:
            strict_json(part)
    except ValueError:
        return False
    return True


def refused(code: int, err: str, run: Path) -> str:
    """Judge how `train` ended."""
    text = sentence(err)
    if code != 2:
        return f"WRONG: exit code {code}: {err[-1500:]}"
    if Calls.steps == 0 and "\n" not in said(err):
        return f"refused: {text}"
    if "environment" in text or "became NaN or infinite" in text:
        return f"ended: {text}"
    return f"WRONG: exit code 2 after {Calls.steps} steps: {said(err)}"


def said(err: str) -> str:
    """What the command says last: from its own `reverie:` on, up to what it had logged."""
    last = err[err.rfind("reverie: ") :].removeprefix("reverie: ")
    return re.split(r"^[DIWEC] ", last, maxsplit=1, flags=re.MULTILINE)[0].strip()


def sentence(err: str) -> str:
    """Its first line, and the last of the environment's own traceback."""
    lines = said(err).splitlines() or [""]
    return lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1].strip()}"


def deployed(run: Path, make: Callable[[], Any]) -> list[float]:
    """The returns of the policy in the raw environment, with the seeds of an evaluation."""
    policy, env, found = reverie.load(run), make(), []
    for episode in range(EPISODES):
        policy.reset()
        obs, _ = env.reset(seed=derive_seed(SEED, EVAL_ENVS, episode), options=None)
        total = 0.0
        for _ in range(MAX_STEPS):
            action = policy.act(obs)
            if not env.action_space.contains(action):
                raise AssertionError(f"{action!r} is not in {env.action_space}")
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        found.append(total)
    with suppress(OSError):  # of the one whose `close` raises
        env.close()
    return found


def command(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Run `reverie` in this process: exit code, standard output, standard error."""
    files = [folder / "stdout", folder / "stderr"]
    kept = [os.dup(1), os.dup(2)]
    for number, file in enumerate(files, start=1):
        fresh = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(fresh, number)
        os.close(fresh)
    try:
        code = command_line(arguments)
    except SystemExit as error:  # of argparse
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(kept, start=1):
            os.dup2(old, number)
            os.close(old)
    out, err = (file.read_text(errors="replace") for file in files)
    return code, out, err
