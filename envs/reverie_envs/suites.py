"""What suites have in common: errors, missing packages, names of protocols, seeds."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from collections.abc import Iterable
from typing import Any

import gymnasium


def unknown_task(task: str, suite: str, known: Iterable[str]) -> KeyError:
    """Word the error for a task that `suite` does not have, with the nearest names."""
    names = sorted(known)
    near = difflib.get_close_matches(task, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return KeyError(f"unknown task {task!r} of suite {suite!r}; {hint}")


def pip_line(suite: str, package: str, extra: str) -> str:
    """Word what to do about a package that `suite` needs."""
    return f'the suite {suite!r} needs {package}: pip install "reverie[{extra}]"'


def installed(module: str) -> bool:
    """Whether a top-level module could be imported; imports nothing."""
    return importlib.util.find_spec(module) is not None


def protocol_id(base: str, config: Any) -> str:
    """Name a protocol: `base`, and after it every option that is not at its default, with those of
    a mapping one by one.
    """
    changed: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, dict):
            changed += [f"{field.name}.{key}={each}" for key, each in sorted(value.items())]
        elif value != field.default:
            changed.append(f"{field.name}={value}")
    return "-".join([base, *changed])


def drawn_seed(env: gymnasium.Env[Any, Any], seed: int | None) -> int:
    """Return `seed`, or without one the next of the environment's own generator."""
    return int(env.np_random.integers(2**31)) if seed is None else seed
