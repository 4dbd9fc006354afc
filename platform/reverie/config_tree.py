"""YAML files, their bases and dotted overrides as one tree of plain values, not yet checked."""

# PyYAML's loader has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from reverie import registry
from reverie.errors import ConfigError
from reverie.presets import find_config
from reverie.settings import EnvConfig

ENV_KEYS = {field.name for field in dataclasses.fields(EnvConfig)} - {
    "suite",
    "task",
    "factory",
    "options",
}
"""Keys under `env` that hold for any environment."""


class _Loader(yaml.SafeLoader):
    """SafeLoader of YAML 1.2 scalars (1e-4 a number, `off` a word) that refuses repeated keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = [self.construct_object(key, deep=True) for key, _ in node.value]
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


def parse_value(text: str) -> Any:
    """Read one override value as YAML 1.2 would."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path, asked_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read one file, laid over the file or preset its `base:` names.

    `asked_by` are the files whose bases led to this one.

    Raises:
        ConfigError: naming the file that is wrong, or that asks for a base which is missing.
    """
    try:
        tree = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    tree = cast(dict[str, Any], tree)
    base = tree.pop("base", None)
    if not base:
        return tree
    chain = (*asked_by, path)
    return merge(read_yaml(_base_file(base, chain), chain), tree)


def apply_overrides(
    tree: dict[str, Any], overrides: Iterable[str] | Mapping[str, Any]
) -> dict[str, Any]:
    """Lay overrides over `tree`: `["learner.batch_size=8"]` or `{"learner.batch_size": 8}`."""
    if isinstance(overrides, Mapping):
        values = cast(Mapping[str, Any], overrides)
    else:
        values = dict(_split_override(text) for text in overrides)
    for key, value in values.items():
        tree = merge(tree, _nest(key, value))
    return tree


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the tree `high` over `low`, mapping by mapping; `env: suite/task` counts as one."""
    if "env" in high:
        old, new = expand_env(low.get("env")), expand_env(high["env"])
        low, high = {**low, "env": old}, {**high, "env": new}
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            low = _forget_other_env(low, cast(Any, old), cast(Any, new))
    return lay(low, high)


def lay(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `high` over `low`, mapping by mapping, whatever the keys mean."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = lay(cast(Any, old), cast(Any, value)) if both else value
    return merged


def expand_env(value: Any) -> Any:
    """Write the short forms out: `env: suite/task`, and `env: {isolated: {factory: ...}}`."""
    if isinstance(value, Mapping):
        rest = dict(cast(Mapping[str, Any], value))
        if not isinstance(rest.get("isolated"), Mapping):
            return rest
        inner: dict[str, Any] = dict(rest.pop("isolated"))
        task = {"task": inner.pop("factory")} if "factory" in inner else {}
        return {**rest, "suite": "isolated", **task, **inner}
    if not isinstance(value, str):
        return value
    suite, slash, task = value.partition("/")
    if not slash:
        raise ConfigError(f"env: expected SUITE/TASK, got {value!r}; {_meant(value)}")
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
    tree: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Choosing another suite or a factory drops the options of the former one in `tree`."""
    for key, kept in {"factory": ENV_KEYS, "suite": ENV_KEYS | {"task"}}.items():
        if new.get(key) not in (None, old.get(key)):
            tree = {**tree, "env": {name: old[name] for name in old if name in kept}}
            if isinstance(tree.get("eval"), Mapping):
                tree["eval"] = {name: tree["eval"][name] for name in tree["eval"] if name != "env"}
            return tree
    return tree


def _nest(key: str, value: Any) -> dict[str, Any]:
    """Turn `a.b` and a value into `{"a": {"b": value}}`."""
    head, dot, rest = key.partition(".")
    return {head: _nest(rest, value) if dot else value}


def _split_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r}: expected key=value, e.g. learner.batch_size=8")
    try:
        return key, parse_value(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: not a YAML value: {value!r}: {error}") from None


def _base_file(base: Any, chain: tuple[Path, ...]) -> Path:
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
