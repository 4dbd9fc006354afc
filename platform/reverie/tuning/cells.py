"""Every cell of a sweep: base x task x point x seed, each an ordinary run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from reverie import registry
from reverie.config import resolve_config
from reverie.config_tree import apply_overrides, expand_env
from reverie.errors import ConfigError
from reverie.names import identifier
from reverie.settings import TrainConfig
from reverie.tuning.samplers import Point, Sampler, grid_size, label, points
from reverie.tuning.sweep_settings import Base, SweepFile
from reverie.types import Json, JsonTree

MOST_CELLS = 10_000
"""More are refused, unless the user insists."""
LONGEST = 150
"""Bytes of a cell's name; file systems take 255, with endings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One run of a sweep."""

    id: str
    """Name of its folder under `runs/`, its log and its state."""
    config: str
    """Name of its configuration under `configs/`, which its seed completes."""
    base: str
    task: str
    """`suite/task`."""
    point: Point
    label: str
    """The point as people read it; empty where nothing varies."""
    seed: int
    env_steps: int
    """Its budget."""
    after: str | None = None
    """Id of the cell whose run it starts from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells of a sweep, and what they are."""

    cells: tuple[Cell, ...]
    configs: dict[str, TrainConfig]
    """By `Cell.config`; seed and run folder are not theirs."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """The cells of one configuration, which differ by their seeds."""

    name: str
    base: str
    task: str | None
    """None: its base's own."""
    point: Point
    seeds: tuple[int, ...]


def count_cells(file: SweepFile) -> int:
    """How many cells a sweep has."""
    return sum(
        max(1, len(_tasks(file, base)))
        * grid_size(_space(file, base))
        * (file.samples if any(one.kind != "grid" for one in _space(file, base).values()) else 1)
        * len(_seeds(file, base))
        for base in file.bases.values()
    )


def plan(file: SweepFile, *, insist: bool = False) -> Plan:
    """Make all cells, and check the configuration of each.

    `insist` allows for more than `MOST_CELLS`.

    Raises:
        ConfigError: too many cells, a configuration that is wrong, or a cell that starts from one
            that is unknown or that waits for it.
    """
    count = count_cells(file)
    if count > MOST_CELLS and not insist:
        raise ConfigError(f"{count:,} cells are more than {MOST_CELLS:,}; --yes runs them")
    settings = list(_settings(file))
    sources = _check_order(settings, {one.name: _source(file, one) for one in settings})
    configs = {one.name: _resolve(file, one, sources[one.name]) for one in settings}
    by_name = {one.name: one for one in settings}
    cells = tuple(
        _cell(one, seed, configs[one.name], by_name.get(sources[one.name] or ""))
        for one in settings
        for seed in one.seeds
    )
    return Plan(cells, configs)


def _settings(file: SweepFile) -> Iterator[_Setting]:
    for name, base in file.bases.items():
        space = _space(file, base)
        found = list(points(space, file.samples, file.sweep.seed))
        width = len(str(len(found) - 1))
        for task in _tasks(file, base) or (None,):
            for number, point in enumerate(found):
                at = f"p{number:0{width}}" if len(found) > 1 else ""
                where = _env_name(file, base, task)
                parts = [name, *where.split("/", 1), *([at] if at else [])]
                full = ".".join(identifier(part) for part in parts)
                if len(full.encode()) > LONGEST:
                    raise ConfigError(
                        f"bases.{name}: a cell's folder would be called {full}, expected at most"
                        f" {LONGEST} bytes; shorten the base's name"
                    )
                yield _Setting(full, name, task, point, _seeds(file, base))


def _env_name(file: SweepFile, base: Base, task: str | None) -> str:
    """`suite/task`, for the name of a folder."""
    if task is not None:
        return task
    env = expand_env(apply_overrides(base.tree, file.overrides).get("env")) or {}
    if env.get("factory"):
        return f"factory/{env['factory']}"
    return f"{env.get('suite')}/{env.get('task')}"


def _resolve(file: SweepFile, setting: _Setting, source: str | None) -> TrainConfig:
    """Check a configuration, so that what is wrong is told where it stands.

    Raises:
        ConfigError: in the base, the overrides, the task or the point.
    """
    where = f"bases.{setting.base}: " if file.has_names else "base: "
    tree = file.bases[setting.base].tree
    if source is not None:
        tree = apply_overrides(tree, {"init.from": f"cell:{source}"})
    steps: list[tuple[str, Mapping[str, Json]]] = [(where, {}), ("overrides: ", file.overrides)]
    if setting.task is not None:
        steps.append(("tasks: ", {"env": setting.task}))
    if file.stop.env_steps is not None:
        steps.append(("stop: ", {"run.env_steps": file.stop.env_steps}))
    steps.append(("param_space: ", setting.point))
    for _, changes in steps:
        tree = apply_overrides(tree, changes)
    try:
        return resolve_config(tree)
    except ConfigError as error:
        raise _placed(error, file.bases[setting.base].tree, steps, source) from None


def _placed(
    error: ConfigError,
    tree: JsonTree,
    steps: list[tuple[str, Mapping[str, Json]]],
    source: str | None,
) -> ConfigError:
    """The error with the first step from which on it is there, in one line."""
    said = str(error).partition("\n")[0]
    if source is not None:
        tree = apply_overrides(tree, {"init.from": f"cell:{source}"})
    for where, changes in steps:
        tree = apply_overrides(tree, changes)
        try:
            resolve_config(tree)
        except ConfigError as found:
            if str(found) == str(error):
                return ConfigError(f"{where}{said}")
    return ConfigError(said)


def _cell(setting: _Setting, seed: int, config: TrainConfig, source: _Setting | None) -> Cell:
    return Cell(
        id=_id(setting.name, seed),
        config=setting.name,
        base=setting.base,
        task=config.env.name,
        point=setting.point,
        label=label(setting.point),
        seed=seed,
        env_steps=config.run.env_steps,
        after=None if source is None else _seed_of(setting, seed, source),
    )


def _id(name: str, seed: int) -> str:
    return f"{name}.s{seed}"


# Cells that start from others


def _source(file: SweepFile, setting: _Setting) -> str | None:
    """What `init.from: {cell: NAME}` names, None where it is no cell."""
    tree = file.bases[setting.base].tree
    for changes in (file.overrides, setting.point):
        tree = apply_overrides(tree, changes)
    init = tree.get("init")
    start = init.get("from") if _is_mapping(init) else None
    if not _is_mapping(start):
        return None
    name = start.get("cell")
    if list(start) != ["cell"] or not isinstance(name, str):
        raise ConfigError(
            f"bases.{setting.base}.init.from: expected a run folder or {{cell: NAME}}, got"
            f" {dict(start)!r}"
        )
    return name


def _check_order(
    settings: list[_Setting], named: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Turn the names of cells to start from into names of settings.

    Raises:
        ConfigError: one that there is not, that is not the only one of its name, or a circle.
    """
    found = {
        one.name: None if named[one.name] is None else _find(one, named[one.name] or "", settings)
        for one in settings
    }
    for one in settings:
        seen, at = [one.name], found[one.name]
        while at is not None:
            if at == one.name:
                what = "itself" if len(seen) == 1 else f"itself: {' -> '.join([*seen, at])}"
                raise ConfigError(f"bases.{one.base}.init.from: a cell cannot start from {what}")
            if at in seen:
                break  # a circle further on, which its own members report
            seen.append(at)
            at = found[at]
    return found


def _find(setting: _Setting, name: str, settings: list[_Setting]) -> str:
    """The setting that `name`, a base or a setting itself, stands for as seen from `setting`."""
    where = f"bases.{setting.base}.init.from"
    near = [one for one in settings if name in (one.base, one.name)]
    if not near:
        known = dict.fromkeys(one.base for one in settings)
        raise ConfigError(f"{where}: unknown cell {name!r}; {registry.suggest(name, known)}")
    rules: list[Callable[[_Setting], bool]] = [
        lambda one: one.task == setting.task and one.point == setting.point,
        lambda one: one.task == setting.task,
        lambda one: one.point == setting.point,
        lambda one: True,
    ]
    for fits in rules:
        found = [one.name for one in near if fits(one)]
        if len(found) == 1:
            return found[0]
    raise ConfigError(
        f"{where}: {len(near)} cells are called {name!r}; name one of"
        f" {', '.join(one.name for one in near[:3])}"
    )


def _seed_of(setting: _Setting, seed: int, source: _Setting) -> str:
    """The cell of `source` that has the same seed, or its only one."""
    if seed in source.seeds:
        return _id(source.name, seed)
    if len(source.seeds) == 1:
        return _id(source.name, source.seeds[0])
    raise ConfigError(
        f"bases.{setting.base}.init.from: {source.base} has no seed {seed}; it has"
        f" {', '.join(map(str, source.seeds))}"
    )


# What a base has of its own


def _tasks(file: SweepFile, base: Base) -> tuple[str, ...]:
    return file.tasks if base.tasks is None else base.tasks


def _seeds(file: SweepFile, base: Base) -> tuple[int, ...]:
    return file.seeds if base.seeds is None else base.seeds


def _space(file: SweepFile, base: Base) -> Mapping[str, Sampler]:
    return file.space if base.space is None else base.space


def _is_mapping(value: Json) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(value, Mapping)
