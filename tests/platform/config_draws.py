"""Random values for every configuration key, each tried in a forked process of its own.

A hang, a crash or a full memory so ends one process. A drawn value is refused in words that name
its key, the value and what was expected; or it is accepted, and then training with it ends well or
with an error meant for the user.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import random
import resource
import select
import signal
import tempfile
import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reverie import registry
from reverie.config import load_config
from reverie.config_check import shown
from reverie.errors import ConfigError, RunError
from reverie.settings import EnvConfig, TrainConfig, key_of, sections_of
from tests.conftest import ROOT

BASES = {
    "dreamerv2": "dreamerv2/catch",
    "dreamerv3/2023": "dreamerv3/catch",
    "dreamerv3/2025": "dreamerv3/catch_2025",
    "drqv2": "drqv2/catch",
}
"""The preset that an algorithm's keys are drawn over."""
NET = {"depth": 2, "units": 8}
SMALL: dict[str, dict[str, Any]] = {
    "dreamerv2": {"rssm": {"deter": 16, "hidden": 16, "stoch": 2, "classes": 3}},
    "dreamerv3/2023": {"rssm": {"deter": 16, "units": 16, "stoch": 2, "classes": 3}},
    "dreamerv3/2025": {"rssm": {"deter": 16, "units": 8, "stoch": 2, "classes": 3, "blocks": 2}},
    "drqv2": {"channels": 2, "features": 4, "hidden": 8},
}
for settings in list(SMALL.values())[:3]:
    settings |= {"encoder": NET, "decoder": NET, "heads": {"units": 8}, "horizon": 3}
SHORT = {
    "learner": {"batch_size": 2, "batch_length": 4, "training_ratio": 0.8, "compile": "off"},
    "run": {"env_steps": 50, "prefill": 20},
    "eval": {"every": 0, "episodes": 1, "envs": 1, "video": False},
    "logging": {"tensorboard": False},
    "resources": {"learner_threads": 1},
}
ODD: tuple[Any, ...] = (
    *(float("nan"), float("inf"), float("-inf"), 0, -1, -5, -0.5, 0.5, 1, 2, 3, 7, 1e-300),
    *(2.0, 1e9, 3e9, 3e10, 10**12, 2**63, 1e300, 10**400, 10**5000, True, False, None),
    *("", "x", "auto", "1", "a:b", "os:path", "\0", "\ud800", "\u00e9", "y" * 300),
    *([], [1], ["x"], {}, {"a": 1}, {"image": 1.0}, [[[]]], datetime.date(2020, 1, 1)),
)
LARGEST_TRAINED = 64
"""A number beyond this may be allowed and yet take more time or memory than a test has."""
WANTED = ("expected", "unknown", "missing", "No module")
"""One of these stands in every refusal."""
NOT_TRAINED = {"run.dir", "logging.wandb", "learner.compile", "run.max_env_restarts"}
"""Keys that write elsewhere, use the network or take minutes."""
MEMORY = 8 << 30
"""Bytes of address space that one draw may take."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One value for one key."""

    algorithm: str
    key: str
    value: Any

    @property
    def trains(self) -> bool:
        """Whether a run with it, if it is allowed, is short and leaves nothing behind."""
        value = self.value
        number = isinstance(value, int | float) and abs(value) > LARGEST_TRAINED
        return not number and self.key not in NOT_TRAINED


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of it: `refused`, `accepted`, `trained`, `stopped`, or a fault."""

    kind: str
    text: str = ""


def all_keys(algorithm: str) -> dict[str, Any]:
    """Every dotted key of a run with this algorithm on a toy task, and its type."""
    found = {"seed": int}
    classes = [*sections_of(TrainConfig).items(), ("env", EnvConfig)]
    classes += [("env", registry.suite("toy").Config)]
    classes += [("algorithm", registry.algorithm(algorithm).Config)]
    for prefix, cls in classes:
        found |= dict(_leaves(cls, prefix))
    return {key: kind for key, kind in found.items() if key != "env.options"}


def _leaves(cls: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = f"{prefix}.{key_of(field.name)}", hints[field.name]
        yield key, kind
        if dataclasses.is_dataclass(kind):
            yield from _leaves(kind, key)


def draw(rng: random.Random) -> Drawn:
    """One odd value for one key, or one that is often in the range."""
    algorithm = rng.choice(list(BASES))
    key, kind = rng.choice(list(all_keys(algorithm).items()))
    usual: dict[Any, Any] = {
        int: rng.randint(1, 12),
        float: round(rng.random(), 3),
        bool: rng.random() < 0.5,
    }
    value = usual[kind] if kind in usual and rng.random() < 0.4 else rng.choice(ODD)
    return Drawn(algorithm, key, value)


def try_out(drawn: Drawn, train: bool) -> Outcome:
    """Resolve a configuration with the value, and train with it where that is asked for."""
    overrides = dict(_dotted({**SHORT, "algorithm": SMALL[drawn.algorithm]}, ""))
    if drawn.algorithm == "drqv2":
        overrides["learner.batch_length"] = 1
    overrides[drawn.key] = drawn.value
    try:
        config = load_config(ROOT / f"tune_configs/{BASES[drawn.algorithm]}.yaml", overrides)
    except ConfigError as error:
        return _judge(drawn, str(error))
    if not (train and drawn.trains):
        return Outcome("accepted")
    from reverie.trainer import Trainer

    try:
        Trainer(config, local=True).run()
    except (ConfigError, RunError, OSError, ImportError) as error:
        return Outcome("stopped", str(error))
    return Outcome("trained")


def _judge(drawn: Drawn, message: str) -> Outcome:
    """Whether a refusal names the drawn key, its value and what was expected."""
    key = drawn.key.rpartition(".")[2]
    named = key in message and any(word in message for word in WANTED)
    value = drawn.value
    odd = isinstance(value, int) and value.bit_length() > 1024
    forms = [] if odd else [shown(value), str(value)]
    if isinstance(value, float) and value.is_integer():
        forms.append(str(int(value)))  # a count may be written in exponent form
    has_value = odd or any(form in message for form in forms)
    inside = isinstance(value, dict | list) and value  # the fault may be in one of its parts
    return Outcome("refused" if named and (has_value or inside) else "unnamed", message)


def _dotted(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def in_a_fork(work: Callable[[], Outcome], limit_s: float) -> Outcome:
    """Run `work` in a forked process, in an empty folder; a hang or a crash is an outcome too."""
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.close(reader)
            _be_the_child(work, writer, Path(folder))
        os.close(writer)
        text = _read(reader, limit_s)
        os.close(reader)
        if text is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if text is None:
        return Outcome("hang", f"over {limit_s} s")
    if not text:
        return Outcome("crash", f"wait status {status}")
    return Outcome(*json.loads(text))


def _be_the_child(work: Callable[[], Outcome], writer: int, folder: Path) -> None:
    """Never returns: what pytest would do at the end of a process is not to be done twice."""
    try:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        outcome = work()
    except BaseException:
        outcome = Outcome("traceback", traceback.format_exc())
    try:
        os.write(writer, json.dumps([outcome.kind, outcome.text[-4000:]]).encode())
    finally:
        os._exit(0)


def _read(reader: int, limit_s: float) -> bytes | None:
    """All that is written until the end; None where nothing comes in time."""
    ready, _, _ = select.select([reader], [], [], limit_s)
    return os.read(reader, 1 << 16) if ready else None
