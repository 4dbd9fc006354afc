"""Names of environments and algorithms, as strings: nothing is imported before it is used.

A name may also be `module:Class`, and packages may add names under the entry-point groups
`reverie.envs` and `reverie.algorithms`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from reverie.protocols import AGENT_NEEDS, SUITE_NEEDS, Agent, LearnsFrom, Suite

ENVS = {
    "atari100k": "reverie_envs.atari:Atari100k",
    "crafter": "reverie_envs.crafter:Crafter",
    "distracting": "reverie_envs.distracting:Distracting",
    "dmc": "reverie_envs.dmc:Dmc",
    "dmcr": "reverie_envs.dmc_remastered:DmcRemastered",
    "gym": "reverie_envs.gymnasium_suite:GymSuite",
    "factory": "reverie_envs.gymnasium_suite:FactorySuite",
    "isolated": "reverie_envs.isolated:Isolated",
    "metaworld": "reverie_envs.metaworld:MetaWorld",
    "minecraft": "reverie_envs.minecraft:Minecraft",
    "robodesk": "reverie_envs.vp2:Robodesk",
    "robosuite": "reverie_envs.vp2:Robosuite",
    "toy": "reverie_envs.toy:Toy",
}
ALGORITHMS = {
    "dreamerv2": "reverie_algorithms.dreamer_v2.agent:DreamerV2",
    "dreamerv3/2023": "reverie_algorithms.dreamer_v3_2023.agent:DreamerV32023",
    "dreamerv3/2025": "reverie_algorithms.dreamer_v3_2025.agent:DreamerV32025",
    "drqv2": "reverie_algorithms.drq_v2.agent:DrQV2",
    "ipv": "reverie_algorithms.ipv.agent:IPV",
}
"""By name, or name and dialect; the first dialect is the default."""
VECTOR_ENV = "reverie_envs.vector:SyncVectorEnv"
STANDARDISE = "reverie_envs.wrappers:standardise"
SPACES_OF = "reverie_envs.wrappers:spaces_of"
CHECK_ENV = "reverie_envs.contract:check_env"
INSTALL_ENV = "reverie_envs.venvs:install"
TASK_NAMES = "reverie_envs.names:TASKS"
"""Suite -> names of its tasks, without importing it."""
TASK_LISTS = "reverie_envs.names:TASK_LISTS"
"""`suite/list` -> names of the tasks of the suite that publications compare on."""


def env_names() -> dict[str, str]:
    """All suites by name, those of installed plug-ins included."""
    return _with_plugins(ENVS, "reverie.envs")


def algorithm_names() -> dict[str, str]:
    """All algorithms by name, those of installed plug-ins included."""
    return _with_plugins(ALGORITHMS, "reverie.algorithms")


def suite(name: str) -> Suite:
    """Make the suite registered under `name`.

    Raises:
        KeyError: no such suite, with the nearest names.
        AttributeError: it is no suite, with what it lacks.
        ImportError: it spells no class.
    """
    kind = _class(resolve(name, env_names(), "environment suite"), "an environment suite")
    _check_needs(kind, SUITE_NEEDS, "environment suite", "Suite")
    made = kind()
    if not isinstance(made, Suite):
        made.__class__ = _completed(made.__class__)
    return made


@cache
def _completed(kind: type) -> type:
    """A class that is no `Suite`, with the defaults of one for what it lacks."""
    own = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind, Suite), own)


def algorithm(name: str, dialect: str | None = None) -> type[Agent]:
    """Return the agent class registered under `name` in a dialect; `name/dialect` works too.

    Raises:
        KeyError: no such algorithm or dialect, with the nearest names.
        AttributeError: it is no algorithm, with what it lacks.
        ImportError: it spells no class.
    """
    return _agent(_find_algorithm(name, dialect))


def learns_from(agent: type[Agent]) -> LearnsFrom:
    """What an algorithm learns from; one that does not say so has an environment."""
    return getattr(agent, "LEARNS_FROM", "environment")


def dialects_of(name: str) -> list[str]:
    """Dialects of the algorithm `name`, the default first; none for most."""
    return [key.removeprefix(f"{name}/") for key in algorithm_names() if key.startswith(f"{name}/")]


def _agent(found: Any) -> type[Agent]:
    kind = _class(found, "an algorithm")
    _check_needs(kind, AGENT_NEEDS, "algorithm", "Agent")
    return kind


def _find_algorithm(name: str, dialect: str | None) -> Any:
    table, dialects = algorithm_names(), dialects_of(name)
    if not dialects:
        return resolve(name, table, "algorithm")
    chosen = dialects[0] if dialect is None else dialect
    if chosen not in dialects:
        raise KeyError(f"unknown dialect {dialect!r} of {name}; known: {', '.join(dialects)}")
    return load(table[f"{name}/{chosen}"])


def resolve(name: str, table: dict[str, str], kind: str) -> Any:
    """Import the object that `name` stands for in `table` (or that it spells as module:Name)."""
    if name in table:
        return load(table[name])
    if ":" in name:
        return load(name)
    names = {key.partition("/")[0] for key in table}
    raise KeyError(f"unknown {kind} {name!r}; {suggest(name, names)}")


def load(target: str) -> Any:
    """Import `module:Name`.

    Raises:
        ImportError: no such module, or not written like that.
        AttributeError: the module has no such name.
    """
    module, _, attribute = target.partition(":")
    if not module or module.startswith("."):
        raise ImportError(f"expected <module>:<name>, got {target!r}")
    return getattr(importlib.import_module(module), attribute)


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean a?` where a name is near, else the list of known names."""
    names = sorted(known)
    if not names:
        return "there are none"
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"


def _class(found: Any, wanted: str) -> type[Any]:
    if not isinstance(found, type):
        raise ImportError(f"expected the class of {wanted}, got a {type(found).__name__}")
    return found


def _check_needs(kind: type, needs: tuple[str, ...], wanted: str, protocol: str) -> None:
    if lack := [need for need in needs if not hasattr(kind, need)]:
        raise AttributeError(
            f"{kind.__qualname__} is no {wanted}: it lacks {', '.join(lack)}"
            f" (see reverie.protocols.{protocol})"
        )


def _with_plugins(table: dict[str, str], group: str) -> dict[str, str]:
    return {**{entry.name: entry.value for entry in entry_points(group=group)}, **table}
