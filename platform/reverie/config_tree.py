"""YAML files, their bases and dotted overrides as one tree of plain values, not yet checked."""

# PyYAML's loader has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeGuard

import yaml

from reverie import registry
from reverie.errors import ConfigError
from reverie.presets import find_config
from reverie.settings import EnvConfig
from reverie.types import Json, JsonTree

ENV_KEYS = {field.name for field in dataclasses.fields(EnvConfig)} - {
    "suite",
    "task",
    "factory",
    "options",
}
"""Keys under `env` that hold for any environment."""


class _Loader(yaml.SafeLoader):
    """SafeLoader of YAML 1.2 scalars (1e-4 a number, `off` a word) that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Json]:
        keys: list[Hashable] = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{node.start_mark.name}: key {key!r} is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)
for first in "oOyYnN":  # YAML 1.1 reads on, off, yes and no as booleans
    _Loader.yaml_implicit_resolvers[first] = [
        resolver
        for resolver in _Loader.yaml_implicit_resolvers[first]
        if resolver[0] != "tag:yaml.org,2002:bool"
    ]


def parse_value(text: str) -> Json:
    """Read one override value as YAML 1.2 would."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path, asked_by: tuple[Path, ...] = ()) -> JsonTree:
    """Read one file, laid over the file or preset its `base:` names.

    `asked_by` are the files whose bases led to this one.

    Raises:
        ConfigError: naming the file that is wrong, or that asks for a base which is missing.
    """
    try:
        tree = parse_value(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got {error}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not _is_mapping(tree):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    tree = dict(tree)
    base = tree.pop("base", None)
    if not base:
        return tree
    chain = (*asked_by, path)
    return merge(read_yaml(_base_file(base, chain), chain), tree)


def apply_overrides(tree: JsonTree, overrides: Iterable[str] | Mapping[str, Json]) -> JsonTree:
    """Lay overrides over `tree`: `["learner.batch_size=8"]` or `{"learner.batch_size": 8}`."""
    whole = _is_mapping(overrides)
    values = overrides if whole else dict(_split_override(text) for text in overrides)
    for key, value in values.items():
        tree = merge(tree, _nest(key, value))
    return tree


def merge(low: Mapping[str, Json], high: Mapping[str, Json]) -> JsonTree:
    """Lay the tree `high` over `low`, mapping by mapping; `env: suite/task` counts as one."""
    if "env" in high:
        old, new = expand_env(low.get("env")), expand_env(high["env"])
        low, high = {**low, "env": old}, {**high, "env": new}
        if old is not None and new is not None:
            low = _forget_other_env(low, old, new)
    return lay(low, high)


def lay(low: Mapping[str, Json], high: Mapping[str, Json]) -> JsonTree:
    """Lay `high` over `low`, mapping by mapping, whatever the keys mean."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        merged[key] = lay(old, value) if _is_mapping(old) and _is_mapping(value) else value
    return merged


def expand_env(value: Json) -> JsonTree | None:
    """Write the short forms out: `env: suite/task`, and `env: {isolated: {factory: ...}}`."""
    if value is None:
        return None
    if _is_mapping(value):
        rest = dict(value)
        isolated = rest.get("isolated")
        if not _is_mapping(isolated):
            return rest
        del rest["isolated"]
        inner = dict(isolated)
        task = {"task": inner.pop("factory")} if "factory" in inner else {}
        return {**rest, "suite": "isolated", **task, **inner}
    suite, slash, task = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash:
        raise ConfigError(f"env: expected SUITE/TASK, got {value!r}; {_meant(str(value))}")
    return {"suite": suite, "task": task}


def _meant(name: str) -> str:
    """What a name without a suite may stand for: a task, or a suite whose task is missing."""
    suites = registry.env_names()
    if name in suites:
        return f"`reverie envs {name}` lists its tasks"
    tasks: dict[str, tuple[str, ...]] = registry.load(registry.TASK_NAMES)
    owners = [f"{suite}/{name}" for suite, names in tasks.items() if name in names]
    if owners:
        return f"did you mean {' or '.join(owners[:3])}?"
    return "`reverie envs` lists the suites"


def _forget_other_env(
    tree: Mapping[str, Json], old: Mapping[str, Json], new: Mapping[str, Json]
) -> Mapping[str, Json]:
    """Choosing another suite or a factory drops the options of the former one in `tree`."""
    for key, kept in {"factory": ENV_KEYS, "suite": ENV_KEYS | {"task"}}.items():
        if new.get(key) not in (None, old.get(key)):
            tree = {**tree, "env": {name: old[name] for name in old if name in kept}}
            if _is_mapping(section := tree.get("eval")):
                tree["eval"] = {name: section[name] for name in section if name != "env"}
            return tree
    return tree


def _is_mapping(value: Json | Iterable[str]) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(value, Mapping)


def _nest(key: str, value: Json) -> JsonTree:
    """Turn `a.b` and a value into `{"a": {"b": value}}`."""
    head, dot, rest = key.partition(".")
    return {head: _nest(rest, value) if dot else value}


def _split_override(text: str) -> tuple[str, Json]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r}: expected key=value, e.g. learner.batch_size=8")
    try:
        return key, parse_value(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: not a YAML value: {value!r}: {error}") from None


def _base_file(base: Json, chain: tuple[Path, ...]) -> Path:
    """The file that the last of `chain` names as its base."""
    path = chain[-1]
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: expected a file or the name of a preset, got {base!r}")
    try:
        found = find_config(base, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: base: {error}") from None
    if found.resolve() in [each.resolve() for each in chain]:
        raise ConfigError(f"{path}: base: {base!r} is built on this file itself")
    return found
