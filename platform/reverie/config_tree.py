"""YAML files, their bases and dotted overrides as one tree of plain values, not yet checked."""

# PyYAML's loader has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

import yaml

from reverie import registry
from reverie.config_check import refuse_huge, shown
from reverie.errors import ConfigError
from reverie.presets import find_config
from reverie.settings import EnvConfig
from reverie.types import Json, JsonTree
from reverie.yaml_words import PLAIN

ENV_KEYS = {field.name for field in dataclasses.fields(EnvConfig)} - {
    "suite",
    "task",
    "factory",
    "options",
}
"""Keys under `env` that hold for any environment."""
MOST_DIGITS = 308
"""Of a whole number: those of the largest float."""
MAX_BYTES = 1_000_000
"""Of one configuration file."""
MAX_DEPTH = 32
"""Mappings and lists within each other."""
MAX_VALUES = 10_000
"""Keys and values of one file, with its aliases written out."""
MAX_BASES = 16
"""Files that one configuration is built on."""


class _TooMuch(yaml.YAMLError):
    """More than a configuration may hold."""


class _Loader(yaml.SafeLoader):
    """Reads null, booleans, numbers, text, lists and mappings as YAML 1.2 does, and nothing else.

    So 1e-4 is a number; `off`, `1:30` and `2020-13-45` are words. Repeated keys are refused,
    and so are aliases by which a small file becomes a large one.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """Values in each node that is complete, by its id; the loader holds them all."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _TooMuch(f"expected at most {MAX_DEPTH} levels of mappings and lists, got more")
        is_alias = cast(bool, self.check_event(yaml.AliasEvent))
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise _TooMuch("expected values that end, got an alias of what it stands in")
        if node is not None and not is_alias:
            self._sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        size = 1 + sum(self._sizes[id(part)] for part in below)
        if size > MAX_VALUES:
            raise _TooMuch(
                f"expected at most {MAX_VALUES} values with aliases written out, got more"
            )
        return size

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Json]:
        found: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal(key, "expected text as a key, got a list or mapping")
            name = f"{self.construct_object(key)}"
            if name in found:
                raise _refusal(key, f"key {name!r} is given twice")
            found.add(name)
        return super().construct_mapping(node, deep)

    def construct_bool(self, node: yaml.ScalarNode) -> bool:
        text = self.construct_scalar(node).lower()
        if text not in ("true", "false"):
            raise _refusal(node, f"expected true or false, got {shown(text)}")
        return text == "true"

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node).replace("_", "")
        if len(text) > MOST_DIGITS:
            raise _refusal(node, f"expected a number below 1e308, got one of {len(text)} digits")
        try:
            return int(text, 16 if "x" in text else 10)
        except ValueError:  # an explicit tag !!int
            raise _refusal(node, f"expected a whole number, got {shown(text)}") from None

    def construct_float(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node).replace("_", "").lower()
        try:
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text))
        except ValueError:
            raise _refusal(node, f"expected a number, got {shown(text)}") from None

    def construct_unknown(self, node: yaml.Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _refusal(node, f"tag {shown(tag)} is not known here; write the value without it")


KINDS: dict[str, Callable[[Any, Any], Any]] = {
    "null": _Loader.construct_yaml_null,
    "bool": _Loader.construct_bool,
    "int": _Loader.construct_int,
    "float": _Loader.construct_float,
    "str": _Loader.construct_yaml_str,
    "seq": _Loader.construct_yaml_seq,
    "map": _Loader.construct_yaml_map,
}
"""How the kinds of values are built; `!!<kind>` may stand before a value."""
_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {None: _Loader.construct_unknown}
for name, construct in KINDS.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{name}", construct)
for tag, pattern, first in PLAIN:
    _Loader.add_implicit_resolver(tag, pattern, first)


def parse_value(text: str, where: str = "value") -> Json:
    """Read one value, or a whole file, as YAML 1.2 would.

    Raises:
        ConfigError: no YAML, or a value of a kind that no key takes; it begins with `where`.
    """
    try:
        return yaml.load(text, _Loader)
    except _TooMuch as error:
        raise ConfigError(f"{where}: {error}; write out what it needs, without the rest") from None
    except yaml.MarkedYAMLError as error:
        reason, mark = ": ".join(filter(None, [error.context, error.problem])), error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}: not valid YAML: {_one_line(reason)}{place}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {_one_line(str(error))}") from None
    except (ValueError, OverflowError):  # PyYAML does not check them: \UFFFFFFFF, %YAML 1.999...
        raise ConfigError(f"{where}: not valid YAML: an escape or a version out of range") from None


def _refusal(node: yaml.Node, reason: str) -> yaml.MarkedYAMLError:
    """A fault at the place of `node`."""
    return yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


def _one_line(text: str) -> str:
    return " ".join(text.replace('in "<unicode string>", ', "at ").split())


def read_yaml(path: Path, asked_by: tuple[Path, ...] = ()) -> JsonTree:
    """Read one file, laid over the file or preset its `base:` names.

    `asked_by` are the files whose bases led to this one.

    Raises:
        ConfigError: naming the file that is wrong, or that asks for a base which is missing.
    """
    tree = read_one_yaml(path)
    base = tree.pop("base", None)
    if not base:
        return tree
    chain = (*asked_by, path)
    return merge(read_yaml(_base_file(base, chain), chain), tree)


def read_one_yaml(path: Path) -> JsonTree:
    """Read one file as it is, its `base:` a key like any other.

    Raises:
        ConfigError: naming the file.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{path}: expected a configuration of at most {MAX_BYTES} bytes, got"
            f" {path.stat().st_size}; is it one?"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got {error}; save it as UTF-8") from None
    tree = parse_value(text, str(path))
    if not _is_mapping(tree):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    return dict(tree)


def apply_overrides(tree: JsonTree, overrides: Iterable[str] | Mapping[str, Json]) -> JsonTree:
    """Lay overrides over `tree`: `["learner.batch_size=8"]` or `{"learner.batch_size": 8}`."""
    whole = _is_mapping(overrides)
    values = overrides if whole else dict(_split_override(text) for text in overrides)
    for key, value in values.items():
        refuse_huge(value, key)
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
    return key, parse_value(value, f"{key}: {shown(value)}")


def _base_file(base: Json, chain: tuple[Path, ...]) -> Path:
    """The file that the last of `chain` names as its base."""
    path = chain[-1]
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: expected a file or the name of a preset, got {base!r}")
    try:
        found = find_config(base, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: base: {error}") from None
    way = " -> ".join(str(each) for each in (*chain, found))
    if found.resolve() in [each.resolve() for each in chain]:
        raise ConfigError(f"{path}: base: {base!r} is built on this file itself: {way}")
    if len(chain) > MAX_BASES:
        raise ConfigError(f"{path}: base: expected at most {MAX_BASES} bases, got {way}")
    return found
