"""From YAML files and dotted overrides to one checked `TrainConfig`.

The same dotted keys work in YAML, on the command line and in sweeps. A file may name one other
file or preset as `base:`. `algorithm.name` and `env.suite` choose the dataclass that checks the
rest of their sub-trees. A resolved configuration, written to the run folder, is enough to start
the run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reverie import registry
from reverie.config_check import build, check, refuse_huge
from reverie.config_tree import apply_overrides, expand_env, lay, read_yaml
from reverie.errors import ConfigError
from reverie.presets import find_config
from reverie.protocols import Agent, LearnsFrom, Suite
from reverie.ranges import Seed
from reverie.settings import (
    EnvConfig,
    EvalConfig,
    ExperimentConfig,
    InitConfig,
    PretrainConfig,
    TrainConfig,
    sections_of,
)
from reverie.types import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
ConfigT = TypeVar("ConfigT", bound=ExperimentConfig)
COMMANDS: Mapping[LearnsFrom, str] = {"environment": "train", "video": "pretrain"}
"""Which command runs an algorithm."""


def load_config(
    path: str | Path, overrides: Iterable[str] | Mapping[str, Json] = ()
) -> TrainConfig:
    """Read a file or preset and its bases, apply dotted overrides, check everything.

    `path` names a file, or else a preset, e.g. `harmonydream/atari100k`.

    Raises:
        ConfigError: no such file or preset, an unknown key (with near names), a wrong type.
    """
    return resolve_config(apply_overrides(read_yaml(find_config(path)), overrides))


def load_pretrain_config(
    path: str | Path, overrides: Iterable[str] | Mapping[str, Json] = ()
) -> PretrainConfig:
    """As `load_config`, of a run that learns from video."""
    return resolve_pretrain(apply_overrides(read_yaml(find_config(path)), overrides))


def load_experiment(
    path: str | Path, overrides: Iterable[str] | Mapping[str, Json] = ()
) -> TrainConfig | PretrainConfig:
    """As `load_config`, of a run of either kind."""
    return resolve_experiment(apply_overrides(read_yaml(find_config(path)), overrides))


def load_run_config(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """As `load_config`, of a file that a run has written: what is wrong in it names the file.

    Raises:
        ConfigError: as `load_config`.
    """
    return _load_run(path, overrides, resolve_config)


def load_run_experiment(path: Path, overrides: Iterable[str] = ()) -> TrainConfig | PretrainConfig:
    """As `load_run_config`, of a run of either kind."""
    return _load_run(path, overrides, resolve_experiment)


def _load_run(
    path: Path, overrides: Iterable[str], resolve: Callable[[Mapping[str, Json]], ConfigT]
) -> ConfigT:
    tree = read_yaml(path)
    try:
        return resolve(apply_overrides(tree, overrides))
    except ConfigError as error:
        try:
            resolve(tree)
        except ConfigError:
            raise ConfigError(f"{path}: {error}") from error
        raise  # an override's


def resolve_config(tree: Mapping[str, Json]) -> TrainConfig:
    """Check a whole tree and build the frozen configuration.

    Raises:
        ConfigError: with the full path of everything that is wrong.
    """
    refuse_huge(tree, "")
    _check_command(tree, "environment")
    env = resolve_env(tree.get("env"))
    sections = resolve_sections(TrainConfig, tree)
    sections["eval"] = _resolve_eval(sections["eval"], env)
    config = TrainConfig(env=env, **sections)
    _check_relations([*_relations(config), _init_relation(config)])
    return config


def resolve_pretrain(tree: Mapping[str, Json]) -> PretrainConfig:
    """As `resolve_config`, of a run that learns from video."""
    refuse_huge(tree, "")
    _check_command(tree, "video")
    config = PretrainConfig(**resolve_sections(PretrainConfig, tree))
    data, weights = config.data, config.data.weights
    count = len(data.folders)
    _check_relations(
        [
            ("data.folders", [], count > 0, "folders that `reverie data import` has written"),
            (
                "data.weights",
                list(weights or ()),
                weights is None or (len(weights) == count and sum(weights) > 0),
                f"one for each of the {count} data.folders, some above 0",
            ),
            _init_relation(config),
        ]
    )
    return config


def resolve_experiment(tree: Mapping[str, Json]) -> TrainConfig | PretrainConfig:
    """Check a tree of either kind: the algorithm says which."""
    is_video = source_of(tree) == "video"
    return resolve_pretrain(tree) if is_video else resolve_config(tree)


def source_of(tree: Mapping[str, Json]) -> LearnsFrom | None:
    """What the algorithm of a tree learns from; None where it names none that there is."""
    raw = tree.get("algorithm")
    if not isinstance(raw, Mapping) or "name" not in raw:
        return None
    try:
        return registry.learns_from(registry.algorithm(str(raw["name"])))
    except (KeyError, ImportError, AttributeError):
        return None  # told with its remedy where the section is resolved


def _check_command(tree: Mapping[str, Json], wanted: LearnsFrom) -> None:
    found = source_of(tree)
    if found not in (wanted, None):
        raw = tree["algorithm"]
        assert isinstance(raw, Mapping)
        articles = {"environment": "an environment", "video": "video"}
        raise ConfigError(
            f"algorithm.name: {raw['name']} learns from {articles[found]}, not from "
            f"{articles[wanted]}; run it with: reverie {COMMANDS[found]} CONFIG"
        )


def resolve_sections(kind: type[ExperimentConfig], tree: Mapping[str, Json]) -> dict[str, Any]:
    """Check what `kind` has besides `env`: the fields it is built with, by name.

    Raises:
        ConfigError: a key that `kind` does not have, with near names; a wrong value.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in tree:
        if key not in known:
            raise ConfigError(f"{key}: unknown key; {registry.suggest(key, known)}")
    found: dict[str, Any] = {"algorithm": resolve_algorithm(tree.get("algorithm"))}
    for name, cls in sections_of(kind).items():
        found[name] = build(cls, tree.get(name), name)
    return found | {"seed": check(Seed, tree.get("seed", 0), "seed")}


def resolve_algorithm(raw: Json) -> DataclassInstance:
    """Check the `algorithm` sub-tree with the dataclass of the algorithm it names."""
    if not isinstance(raw, Mapping) or "name" not in raw:
        names = {key.partition("/")[0] for key in registry.algorithm_names()}
        raise ConfigError(f"algorithm.name: missing; {registry.suggest('', names)}")
    raw = dict(raw)
    # `size: 200` and `dialect: 2025` are names, whether quoted or not.
    raw |= {key: str(raw[key]) for key in ("size", "dialect") if type(raw.get(key)) is int}
    name, dialect = str(raw["name"]), raw.get("dialect")
    where = "algorithm.dialect" if registry.dialects_of(name) else "algorithm.name"
    agent = _named(where, registry.algorithm, name, dialect)
    try:
        defaults = agent.config_defaults(raw)
    except (ValueError, TypeError) as error:
        raise ConfigError(algorithm_fault(error) + _size_elsewhere(agent, raw)) from None
    return build(agent.Config, lay(defaults, raw), "algorithm")


def _size_elsewhere(agent: type[Agent], raw: Mapping[str, Json]) -> str:
    """Which algorithm or dialect has the size that `agent` lacks."""
    size = raw.get("size")
    if not isinstance(size, str) or size in getattr(agent, "SIZES", {}):
        return ""
    # Ours alone: a plug-in that cannot be imported must not hide what is wrong here.
    found = [name for name in registry.ALGORITHMS if size in registry.algorithm(name).SIZES]
    return f"; {size!r} is a size of {', '.join(found)}" if found else ""


def algorithm_fault(error: Exception) -> str:
    """An algorithm's own words, with the section they are about."""
    return f"algorithm: {error}".replace("algorithm: algorithm.", "algorithm.")


def resolve_env(raw: Json) -> EnvConfig:
    """Check the `env` sub-tree: ours, and the options of its suite."""
    raw = dict(expand_env(raw) or {})
    if raw.get("factory") is not None:
        raw |= {"suite": "factory", "task": raw["factory"]}
    for key in ("suite", "task"):
        if key not in raw:
            raise ConfigError(f"env.{key}: missing; write env=SUITE/TASK")
    suite = _named("env.suite", registry.suite, str(raw["suite"]))
    _check_task(suite, str(raw["suite"]), str(raw["task"]))
    ours = {f.name for f in dataclasses.fields(EnvConfig)} - {"options"}
    options = {key: value for key, value in raw.items() if key not in ours}
    for key in options:
        names = ours | {f.name for f in dataclasses.fields(suite.Config)}
        if key not in names:
            raise ConfigError(f"env.{key}: unknown key; {registry.suggest(key, names)}")
    env = build(EnvConfig, {k: v for k, v in raw.items() if k in ours}, "env")
    return dataclasses.replace(env, options=build(suite.Config, options, "env"))


def _resolve_eval(config: EvalConfig, env: EnvConfig) -> EvalConfig:
    """Check `eval.env` as options of the suite, laid over those under `env`."""
    if not config.env:
        return config
    options = lay(dataclasses.asdict(env.options), config.env)
    whole = build(env.options.__class__, options, "eval.env")
    return dataclasses.replace(config, env={key: getattr(whole, key) for key in config.env})


def _check_task(suite: Suite, name: str, task: str) -> None:
    tasks = suite.tasks()
    if tasks and not suite.knows(task):
        raise ConfigError(
            f"env.task: unknown task {task!r} of {name}; {registry.suggest(task, tasks)}"
        )


def _named(where: str, find: Callable[..., T], name: str, *more: Json) -> T:
    try:
        return find(name, *more)
    except KeyError as error:
        raise ConfigError(f"{where}: {error.args[0]}") from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: {name}: {error}") from error


_Relation = tuple[str, Json, bool, str]
"""Key, its value, whether it fits to the others, and what would."""


def _check_relations(relations: Iterable[_Relation]) -> None:
    faults = [
        f"{path}: expected {wanted}, got {value!r}"
        for path, value, ok, wanted in relations
        if not ok
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _relations(config: TrainConfig) -> list[_Relation]:
    replay, learner, run = config.replay, config.learner, config.run
    length = getattr(config.algorithm, "batch_length", None) or learner.batch_length
    least = length * config.resources.num_shards
    return [
        ("replay.capacity", replay.capacity, replay.capacity >= least, f"at least {least} rows"),
        (
            "run.prefill",
            run.prefill,
            run.prefill <= run.env_steps,
            f"at most the {run.env_steps} of run.env_steps",
        ),
    ]


def _init_relation(config: ExperimentConfig) -> _Relation:
    init = config.init
    return (
        "init.from",
        None,
        init.from_ is not None or init == InitConfig(),
        f"a run to start from, with init.modules={list(init.modules)} and "
        f"init.freeze_updates={init.freeze_updates}",
    )
