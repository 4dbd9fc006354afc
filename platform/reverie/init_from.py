"""`init.from`: parts of another run as a start; environment, replay and optimizers are new.

Not a resume: where a run has a checkpoint of its own, that wins and nothing is initialised again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reverie.checkpoint import Checkpoint, CheckpointStore
from reverie.documents import json_text
from reverie.errors import ConfigError
from reverie.paths import place, short
from reverie.protocols import Agent, Initialised
from reverie.settings import InitConfig
from reverie.storage import Storage
from reverie.types import Tensors

INIT_FILE = "init.json"
"""What was taken over from where, tensor by tensor; lies in the run folder."""
SHOWN = 3
"""Mismatched tensors that the short text names."""


@dataclass(frozen=True, slots=True)
class Source:
    """The weights a run starts from."""

    name: str
    """Folder of the checkpoint."""
    settings: InitConfig
    state: Mapping[str, Mapping[str, Tensors]]
    """The `modules` of an agent's state; without optimizers."""


def read_source(settings: InitConfig) -> Source | None:
    """Read what `init.from` names; None where it names nothing.

    Raises:
        ConfigError: no such run, or no checkpoint in it.
        CheckpointError: each checkpoint is broken.
    """
    if settings.from_ is None:
        return None
    root, checkpoint = _find_checkpoint(settings.from_)
    name = f"{root}/checkpoints/{checkpoint.number:08d}"
    agent = checkpoint.tensors("learner")["agent"]
    return Source(name, settings, {"modules": agent.get("modules", {})})


def initialise(agent: Agent, source: Source) -> Initialised:
    """Start `agent` from a source.

    Raises:
        ConfigError: a module the agent does not have, or nothing that fits.
    """
    chosen, known = source.settings.modules, agent.modules()
    for name in chosen:
        if name not in known:
            raise ConfigError(
                f"init.modules: unknown module {name!r}; known: {', '.join(sorted(known))}"
            )
    found = agent.initialise(source.state, chosen)
    if not found.loaded:
        there = ", ".join(sorted(source.state["modules"])) or "none"
        raise ConfigError(
            f"init.from: no tensor of {source.name} fits {_listed(chosen)}; it holds the modules "
            f"{there}{_mismatches(found)}"
        )
    return found


def init_text(source: Source, found: Initialised) -> str:
    """One line for a terminal; `init_json` holds the whole list."""
    why = Counter(found.skipped.values())
    skipped = f" ({', '.join(f'{n} {reason}' for reason, n in sorted(why.items()))})" if why else ""
    modules = dict.fromkeys(name.partition("/")[0] for name in found.loaded)
    frozen = source.settings.freeze_updates
    return (
        f"init: {len(found.loaded)} tensors loaded from {source.name} ({', '.join(modules)}), "
        f"{len(found.skipped)} skipped{skipped}, {len(found.mismatched)} mismatched"
        f"{_mismatches(found)}; list in {INIT_FILE}"
        + (f"; frozen for {frozen} updates" if frozen else "")
    )


def init_json(source: Source, found: Initialised) -> bytes:
    """The content of `INIT_FILE`."""
    head = {"from": source.name, "freeze_updates": source.settings.freeze_updates}
    return json_text(head | asdict(found), indent=1).encode()


def _find_checkpoint(name: str) -> tuple[str, Checkpoint]:
    """The run folder and the checkpoint that a run or one checkpoint's folder stands for."""
    name = name if "://" in name else str(short(place(name)))
    one = re.fullmatch(r"(.*)/checkpoints/(\d{8,})/?", name)
    root = one[1] if one else name.rstrip("/")
    store = CheckpointStore(Storage(root), keep=1)
    numbers = store.numbers()
    if not numbers:
        raise ConfigError(f"init.from: {root}: not a run folder with a checkpoint")
    if one and int(one[2]) not in numbers:
        raise ConfigError(f"init.from: {root} holds no checkpoint {one[2]}; it holds {numbers}")
    parts = ["learner.pt"]
    found = store.load(int(one[2]), parts) if one else store.latest(parts)
    assert found is not None, numbers
    return root, found


def _listed(chosen: tuple[str, ...]) -> str:
    return ", ".join(chosen) or "this agent"


def _mismatches(found: Initialised) -> str:
    if not found.mismatched:
        return ""
    shown = [f"{name} {why}" for name, why in [*found.mismatched.items()][:SHOWN]]
    return f" ({'; '.join(shown)}{'; ...' if len(found.mismatched) > SHOWN else ''})"
