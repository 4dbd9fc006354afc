"""From YAML files and dotted overrides to one checked `TrainConfig`.

The same dotted keys work in YAML, on the command line and in sweeps. A file may name one other
file or preset as `base:`. `algorithm.name` and `env.suite` choose the dataclass that checks the
rest of their sub-trees. A resolved configuration, written to the run folder, is enough to start
the run again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from reverie import registry
from reverie.config_tree import apply_overrides, expand_env, lay, merge, read_yaml
from reverie.errors import ConfigError
from reverie.presets import find_config
from reverie.protocols import Agent, Suite
from reverie.settings import (
    EnvConfig,
    EvalConfig,
    ExperimentConfig,
    InitConfig,
    TrainConfig,
    key_of,
    sections_of,
)
from reverie.types import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic_core import ErrorDetails

T = TypeVar("T")

INSTEAD = {
    "learner.precision": "; float16 would need its losses scaled: write bfloat16, which has the "
    "range of float32 and works on CPU and GPU"
}
"""What to do about a value of this key that is refused."""


def load_config(
    path: str | Path, overrides: Iterable[str] | Mapping[str, Json] = ()
) -> TrainConfig:
    """Read a file or preset and its bases, apply dotted overrides, check everything.

    `path` names a file, or else a preset, e.g. `harmonydream/atari100k`.

    Raises:
        ConfigError: no such file or preset, an unknown key (with near names), a wrong type.
    """
    return resolve_config(apply_overrides(read_yaml(find_config(path)), overrides))


def resolve_config(tree: Mapping[str, Json]) -> TrainConfig:
    """Check a whole tree and build the frozen configuration.

    Raises:
        ConfigError: with the full path of everything that is wrong.
    """
    env = resolve_env(tree.get("env"))
    sections = resolve_sections(TrainConfig, tree)
    sections["eval"] = _resolve_eval(sections["eval"], env)
    config = TrainConfig(env=env, **sections)
    _check_relations(config)
    return config


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
    return found | {"seed": check(int, tree.get("seed", 0), "seed")}


def build(cls: type[T], values: Json, where: str) -> T:
    """Build dataclass `cls` from plain values, naming the full path of any fault."""
    if not isinstance(values, Mapping | None):
        raise ConfigError(f"{where}: expected a mapping of keys, got {values!r}")
    return check(cls, values or {}, where)


def check(kind: type[T], value: Json, where: str) -> T:
    """Validate `value` strictly as `kind`: no number from text, no integer from a fraction."""
    try:
        text = json.dumps(_integral(value), allow_nan=True)
        return TypeAdapter(kind).validate_json(text, strict=True)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None
    except ValidationError as error:
        lines = [_explain(kind, fault, where) for fault in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def resolve_algorithm(raw: Json) -> DataclassInstance:
    """Check the `algorithm` sub-tree with the dataclass of the algorithm it names."""
    if not isinstance(raw, Mapping) or "name" not in raw:
        names = {key.partition("/")[0] for key in registry.algorithm_names()}
        raise ConfigError(f"algorithm.name: missing; {registry.suggest('', names)}")
    raw = dict(raw)
    # `size: 200` and `dialect: 2025` are names, whether quoted or not.
    raw |= {key: str(raw[key]) for key in ("size", "dialect") if type(raw.get(key)) is int}
    agent = _named("algorithm", registry.algorithm, str(raw["name"]), raw.get("dialect"))
    try:
        defaults = agent.config_defaults(raw)
    except (ValueError, TypeError) as error:
        raise ConfigError(algorithm_fault(error) + _size_elsewhere(agent, raw)) from None
    return build(agent.Config, merge(defaults, raw), "algorithm")


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


def _check_relations(config: TrainConfig) -> None:
    faults = [
        f"{path}: expected {wanted}, got {value!r}"
        for path, value, ok, wanted in _relations(config)
        if not ok
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _relations(config: TrainConfig) -> list[tuple[str, float | str | None, bool, str]]:
    replay, learner, resources, run = config.replay, config.learner, config.resources, config.run
    at_least_one = {
        "run.env_steps": run.env_steps,
        "run.keep_checkpoints": run.keep_checkpoints,
        "replay.chunk_length": replay.chunk_length,
        "learner.batch_size": learner.batch_size,
        "learner.batch_length": learner.batch_length,
        "learner.prefetch": learner.prefetch,
        "learner.publish_every_updates": learner.publish_every_updates,
        "resources.num_env_workers": resources.num_env_workers,
        "resources.envs_per_worker": resources.envs_per_worker,
        "resources.num_shards": resources.num_shards,
        "eval.envs": config.eval.envs,
    }
    for key in ("batch_size", "batch_length"):
        if (value := getattr(config.algorithm, key, None)) is not None:
            at_least_one[f"algorithm.{key}"] = value
    rows: list[tuple[str, float | str | None, bool, str]] = [
        (path, value, value >= 1, "at least 1") for path, value in at_least_one.items()
    ]
    init = config.init
    length = getattr(config.algorithm, "batch_length", None) or learner.batch_length
    ratio, least = learner.training_ratio, length * resources.num_shards
    rows += [
        ("learner.training_ratio", ratio, ratio >= 0, "0 or more"),
        ("resources.num_learners", resources.num_learners, resources.num_learners == 1, "1"),
        ("replay.capacity", replay.capacity, replay.capacity >= least, f"at least {least} rows"),
        ("seed", config.seed, config.seed >= 0, "0 or more"),
        ("run.prefill", run.prefill, run.prefill >= 0, "0 or more"),
        ("init.from", None, init.from_ is not None or init == InitConfig(), "a run to start from"),
        ("init.freeze_updates", init.freeze_updates, init.freeze_updates >= 0, "0 or more"),
    ]
    return rows


def _integral(value: Json) -> Json:
    """Turn 1e6 into 1000000, so that counts may be written in exponent form."""
    if isinstance(value, Mapping):
        return {k: _integral(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _explain(kind: type, fault: ErrorDetails, where: str) -> str:
    path, owner = ".".join([where, *map(str, fault["loc"])]), kind
    for part in fault["loc"][:-1]:
        owner = _field_type(owner, str(part))
    if fault["type"] == "unexpected_keyword_argument" and dataclasses.is_dataclass(owner):
        names = [key_of(f.name) for f in dataclasses.fields(owner)]
        return f"{path}: unknown key; {registry.suggest(str(fault['loc'][-1]), names)}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}, got {fault['input']!r}{INSTEAD.get(path, '')}"


def _field_type(owner: Any, name: str) -> Any:
    import typing

    return typing.get_type_hints(owner).get(name) if dataclasses.is_dataclass(owner) else None
