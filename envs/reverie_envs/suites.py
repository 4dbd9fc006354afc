"""What every suite says in the same words: unknown tasks and protocol names."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any


def unknown_task(task: str, suite: str, known: Iterable[str]) -> KeyError:
    """Word the error for a task that `suite` does not have, with the nearest names."""
    names = sorted(known)
    near = difflib.get_close_matches(task, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return KeyError(f"unknown task {task!r} of suite {suite!r}; {hint}")


def protocol_id(base: str, config: Any) -> str:
    """Name a protocol: `base`, and after it every option that is not at its default."""
    changed = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    ]
    return "-".join([base, *changed])
