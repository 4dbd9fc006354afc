"""A sweep's YAML file and overrides as one checked `SweepFile`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeGuard

from annotated_types import Interval

from reverie import registry
from reverie.config_check import build, check, refuse_huge, shown
from reverie.config_tree import apply_overrides, parse_value, read_one_yaml, read_yaml
from reverie.errors import ConfigError
from reverie.presets import find_config, find_sweep
from reverie.ranges import CountOrNone, Few, Seed
from reverie.settings import TrainConfig
from reverie.tuning.samplers import OURS, RANDOM, read_space
from reverie.tuning.sweep_settings import (
    Base,
    Concurrent,
    RunResources,
    SearchConfig,
    SlurmConfig,
    StopConfig,
    SweepFile,
    SweepOptions,
)
from reverie.types import Json, JsonTree

BASE_KEYS = ("base", "tasks", "seeds", "param_space")
"""Keys of an entry of `bases`; all others are settings laid over its base."""
Seeds = Annotated[int, Interval(ge=1, le=10_000)] | tuple[Seed, ...]
_SECTIONS: dict[str, type] = {
    "stop": StopConfig,
    "search": SearchConfig,
    "resources": RunResources,
    "slurm": SlurmConfig,
    "sweep": SweepOptions,
}
_PLAIN: dict[str, Any] = {
    "samples": Few,
    "max_concurrent": Concurrent,
    "max_failures": CountOrNone,
}
KEYS = ("base", "bases", "tasks", "seeds", "param_space", "overrides", *_PLAIN, *_SECTIONS)


def read_sweep(name: str | Path, overrides: Iterable[str] = ()) -> SweepFile:
    """Read a sweep's file or preset with overrides.

    An override whose first part is a key of sweeps changes the sweep (`seeds=3`); another is laid
    over every base (`run.env_steps=500`), and so is one of `resources` that runs have
    (`resources.device=cpu`).

    Raises:
        ConfigError: in one line.
    """
    path = find_sweep(name)
    tree = read_one_yaml(path)
    for text in overrides:
        tree = _override(tree, text)
    return check_sweep(tree, path)


def check_sweep(tree: JsonTree, path: Path) -> SweepFile:
    """Check a sweep's tree, read from `path`. Raises: ConfigError."""
    refuse_huge(tree, "")
    for key in tree:
        if key not in KEYS:
            raise ConfigError(f"{key}: unknown key; {registry.suggest(key, KEYS)}")
    given: JsonTree = {key: value for key, value in tree.items() if value is not None}
    found: dict[str, Any] = {
        key: check(kind, given[key], key) for key, kind in _PLAIN.items() if key in given
    }
    found |= {key: build(kind, given[key], key) for key, kind in _SECTIONS.items() if key in given}
    file = SweepFile(
        name=path.stem,
        bases=_bases(given, path),
        has_names="bases" in given,
        tasks=_tasks(given.get("tasks"), "tasks"),
        seeds=_seeds(given.get("seeds", 1), "seeds"),
        space=read_space(given.get("param_space"), "param_space"),
        overrides=_overrides(given.get("overrides")),
        **found,
    )
    _check_relations(file)
    return file


def _check_relations(file: SweepFile) -> None:
    if "://" in (file.sweep.dir or ""):
        raise ConfigError(
            f"sweep.dir: expected a folder that every machine sees, got {file.sweep.dir}"
        )
    if file.sweep.run_as != "process":
        raise ConfigError("sweep.run_as: actors is not there yet, expected process")
    if file.search is not None:
        _check_search(file, file.search)
    spaces = [file.space, *(base.space or {} for base in file.bases.values())]
    kinds = {one.kind for space in spaces for one in space.values()}
    if file.samples > 1 and not kinds & set(RANDOM):
        raise ConfigError(
            f"samples: {file.samples} draws of nothing; param_space has none of {', '.join(RANDOM)}"
        )


def _check_search(file: SweepFile, search: SearchConfig) -> None:
    if not file.space:
        raise ConfigError("search: nothing to search; param_space says which keys vary")
    if any(base.space for base in file.bases.values()):
        raise ConfigError("bases: with `search`, param_space is the sweep's own, not a base's")
    if file.samples > 1:
        raise ConfigError("samples: of a search, write it as search.samples")
    if search.scheduler == "asha" and search.reduction_factor < 2:
        raise ConfigError(
            f"search.reduction_factor: expected at least 2, got {search.reduction_factor}"
        )
    if search.scheduler == "pbt" and search.searcher == "optuna":
        raise ConfigError("search.searcher: pbt changes configurations itself, expected random")


def _override(tree: JsonTree, text: str) -> JsonTree:
    """Lay one `key=value` over the tree of a sweep, or over its `overrides`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r}: expected key=value, e.g. seeds=3")
    parsed = parse_value(value, f"{key}: {shown(value)}")
    head, _, rest = key.partition(".")
    ours = {field.name for field in dataclasses.fields(RunResources)}
    if head not in KEYS or (head == "resources" and rest not in ours | {""}):
        head, rest = "overrides", key
    if head in ("overrides", "param_space", "bases") and rest:
        return {**tree, head: {**_mapping(tree.get(head), head), rest: parsed}}
    return apply_overrides(tree, {key: parsed})


def _bases(tree: JsonTree, path: Path) -> dict[str, Base]:
    if ("base" in tree) == ("bases" in tree):
        got = "both" if "base" in tree else "neither"
        raise ConfigError(f"base: expected either base or bases, got {got}")
    if "base" in tree:
        file = _base_file(tree["base"], "base", path)
        return {file.stem: Base(tree=read_yaml(file))}
    entries = _mapping(tree["bases"], "bases")
    if not entries:
        raise ConfigError("bases: expected at least one name, got none")
    return {str(name): _base(entry, f"bases.{name}", path) for name, entry in entries.items()}


def _base(entry: Json, where: str, path: Path) -> Base:
    if isinstance(entry, str):
        return Base(tree=read_yaml(_base_file(entry, where, path)))
    keys = _mapping(entry, where)
    known = [*BASE_KEYS, *(one.name for one in dataclasses.fields(TrainConfig))]
    for key in keys:
        if key.partition(".")[0] not in known:
            raise ConfigError(f"{where}.{key}: unknown key; {registry.suggest(key, known)}")
    if "base" not in keys:
        raise ConfigError(f"{where}.base: missing; expected a file or the name of a preset")
    tree = read_yaml(_base_file(keys["base"], f"{where}.base", path))
    own = {key: value for key, value in keys.items() if key not in BASE_KEYS}
    tasks, seeds, space = (keys.get(key) for key in BASE_KEYS[1:])
    return Base(
        tree=apply_overrides(tree, own),
        tasks=None if tasks is None else _tasks(tasks, f"{where}.tasks"),
        seeds=None if seeds is None else _seeds(seeds, f"{where}.seeds"),
        space=None if space is None else read_space(space, f"{where}.param_space"),
    )


def _base_file(name: Json, where: str, path: Path) -> Path:
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected a file or the name of a preset, got {shown(name)}")
    try:
        return find_config(name, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _tasks(value: Json, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    names = check(str | tuple[str, ...], value, where)
    names = (names,) if isinstance(names, str) else names
    if not names:
        raise ConfigError(f"{where}: expected at least one task, got none")
    return tuple(dict.fromkeys(one for name in names for one in expand_tasks(name, where)))


def expand_tasks(name: str, where: str) -> tuple[str, ...]:
    """The tasks that `suite/task`, `suite/*` or the name of a list stands for.

    Raises:
        ConfigError: a suite whose tasks are not known, or a word without a suite.
    """
    lists: dict[str, tuple[str, ...]] = registry.load(registry.TASK_LISTS)
    suite, slash, task = name.partition("/")
    if name in lists:
        return tuple(f"{suite}/{one}" for one in lists[name])
    if not slash or not task:
        raise ConfigError(
            f"{where}: expected SUITE/TASK, SUITE/* or a list ({', '.join(lists)}), got {name!r}"
        )
    if task != "*":
        return (name,)
    tasks: dict[str, tuple[str, ...]] = registry.load(registry.TASK_NAMES)
    if suite not in tasks:
        raise ConfigError(
            f"{where}: {name}: no such suite with known tasks; known: {', '.join(sorted(tasks))}"
        )
    return tuple(f"{suite}/{one}" for one in tasks[suite])


def read_seeds(text: str) -> tuple[int, ...]:
    """Seeds as they are written on the command line: a number of them, or a list.

    Raises:
        ConfigError: neither.
    """
    return _seeds(parse_value(text, f"seeds: {text}"), "seeds")


def _seeds(value: Json, where: str) -> tuple[int, ...]:
    found: int | tuple[int, ...] = check(Seeds, value, where)
    seeds = tuple(range(found)) if isinstance(found, int) else found
    if not seeds:
        raise ConfigError(f"{where}: expected at least one seed, got none")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}: expected each seed once, got {shown(list(seeds))}")
    return seeds


def _overrides(value: Json) -> JsonTree:
    """Settings of all runs, less what the sweep itself sets for each."""
    tree = apply_overrides({}, _mapping(value, "overrides"))
    run = tree.get("run")
    for key, is_there in (
        ("seed", "seed" in tree),
        ("run.dir", _is_mapping(run) and "dir" in run),
    ):
        if is_there:
            raise ConfigError(f"overrides: {key}: write it as `{OURS[key]}` of the sweep")
    return tree


def _mapping(value: Json, where: str) -> JsonTree:
    if value is None:
        return {}
    if not _is_mapping(value):
        raise ConfigError(f"{where}: expected a mapping of keys, got {shown(value)}")
    return dict(value)


def _is_mapping(value: Json) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(value, Mapping)
