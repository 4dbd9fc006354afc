"""What a configuration builds and what there is to choose from, without running anything."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import TypedDict

from reverie import env_factory, evaluator, registry
from reverie.cli.list_suites import first_line, terminal_width
from reverie.config import TrainConfig
from reverie.data.index import INDEX_FILE
from reverie.data.video_loader import HELD_OUT, make_samplers, open_data
from reverie.data.video_sampler import VideoSampler
from reverie.paths import place, short
from reverie.policy import make_agent
from reverie.pretrain_wiring import IMAGE, video_spaces
from reverie.protocols import StreamSpec
from reverie.settings import PretrainConfig
from reverie.types import ActionSpec, ArraySpec, Spaces

Figures = Mapping[str, str | float]

USUAL_SHAPE = (64, 64, 3)
"""Of frames in the papers."""
ABSENT = "not there yet: make it with `reverie data import`"
ACTS = {
    "mode": "the policy's mode",
    "sample": "a sample of the policy",
    "train": "a sample of the policy, with noise",
}
"""What is done in each mode, in words."""


class Description(TypedDict):
    """What a configuration stands for."""

    algorithm: str
    dialect: str | None
    env: str
    modules: dict[str, int]
    """Trainable parameters."""
    total: int
    targets: dict[str, int]
    """Parameters of slow copies."""
    observations: Figures
    action: str
    streams: dict[str, Figures]
    budget: Figures
    ratio: Figures
    evaluation: Figures


class PretrainDescription(TypedDict):
    """What a configuration of a run that learns from video stands for."""

    algorithm: str
    data: dict[str, Figures]
    modules: dict[str, int]
    """Trainable parameters."""
    total: int
    observations: Figures
    streams: dict[str, Figures]
    budget: Figures
    evaluation: Figures


def describe(config: TrainConfig | PretrainConfig) -> Description | PretrainDescription:
    """Networks with their trainable parameters, spaces, budgets and ratios; JSON-able."""
    if isinstance(config, PretrainConfig):
        return _describe_pretrain(config)
    return _describe_train(config)


def _describe_pretrain(config: PretrainConfig) -> PretrainDescription:
    is_there = [(place(folder) / INDEX_FILE).is_file() for folder in config.data.folders]
    if not any(is_there):
        return _describe_without_data(config)
    datasets = open_data(config.data)
    spaces = video_spaces(datasets)
    agent = make_agent(config, spaces, seed=config.seed, training=True, device="meta")
    modules, _ = agent.module_sizes()
    streams = agent.streams()
    samplers = make_samplers(config.data, streams, datasets, config.seed)
    steps = next(iter(streams.values())).trained_steps
    return {
        "algorithm": config.algorithm.name,
        "data": {
            str(short(dataset.folder)): {
                "clips": len(dataset.clips),
                "frames": sum(clip.frames for clip in dataset.clips),
            }
            for dataset in datasets
        },
        "modules": modules,
        "total": sum(modules.values()),
        "observations": {k: f"{v.dtype} {list(v.shape)}" for k, v in spaces.obs.items()},
        "streams": _streams(streams),
        "budget": {
            "updates": config.run.updates,
            "frames": config.run.updates * steps,
            "clips_trained_on": _clips(samplers, next(iter(streams))),
        },
        "evaluation": {
            "every_updates": config.eval.every,
            "batches": config.eval.batches,
            "clips_held_out": _clips(samplers, HELD_OUT + next(iter(streams))),
        },
    }


def _describe_without_data(config: PretrainConfig) -> PretrainDescription:
    """As if its data sets, none of which is there yet, had the frames that the papers have."""
    spaces = Spaces({IMAGE: ArraySpec(USUAL_SHAPE, "uint8")}, ActionSpec("box"))
    agent = make_agent(config, spaces, seed=config.seed, training=True, device="meta")
    modules, streams = agent.module_sizes()[0], agent.streams()
    steps = next(iter(streams.values())).trained_steps
    return {
        "algorithm": config.algorithm.name,
        "data": {folder: {} for folder in config.data.folders},
        "modules": modules,
        "total": sum(modules.values()),
        "observations": {IMAGE: f"uint8 {list(USUAL_SHAPE)}, which the data sets may change"},
        "streams": _streams(streams),
        "budget": {"updates": config.run.updates, "frames": config.run.updates * steps},
        "evaluation": {"every_updates": config.eval.every, "batches": config.eval.batches},
    }


def _clips(samplers: Mapping[str, VideoSampler], name: str) -> int:
    sampler = samplers[name]
    return sum(sampler.count(index) for index in range(len(sampler.datasets)))


def _streams(specs: Mapping[str, StreamSpec]) -> dict[str, Figures]:
    return {
        name: {
            "batch_size": spec.batch_size,
            "batch_length": spec.batch_length,
            "context": spec.context,
            "sampler": spec.sampler,
            "every": spec.every,
        }
        for name, spec in specs.items()
    }


def _describe_train(config: TrainConfig) -> Description:
    spaces = env_factory.spaces_of(config.env)
    agent = make_agent(config, spaces, seed=config.seed, training=True, device="meta")
    modules, targets = agent.module_sizes()
    streams = agent.streams()
    steps = next(iter(streams.values())).trained_steps
    ratio, learner, run = config.learner.training_ratio, config.learner, config.run
    trained = max(0, run.env_steps - run.prefill) * ratio + learner.pretrain * steps
    repeat = evaluator.action_repeat_of(config)
    protocol = evaluator.protocol_of(config)
    return {
        "algorithm": config.algorithm.name,
        "dialect": getattr(config.algorithm, "dialect", None),
        "env": config.env.name,
        "modules": modules,
        "total": sum(modules.values()),
        "targets": targets,
        "observations": {k: f"{v.dtype} {list(v.shape)}" for k, v in spaces.obs.items()},
        "action": f"{spaces.action.kind} {list(spaces.action.num) or spaces.action.width}",
        "streams": _streams(streams),
        "budget": {
            "env_steps": run.env_steps,
            "env_frames": run.env_steps * repeat,
            "action_repeat": repeat,
            "prefill": run.prefill,
            "updates": int(trained // steps),
            "replay_rows": config.replay.capacity,
        },
        "ratio": {
            "trained_steps_per_env_step": ratio,
            "updates_per_env_step": ratio / steps,
        },
        "evaluation": {
            "protocol": protocol.id,
            "mode": protocol.mode,
            "episodes": config.eval.episodes or protocol.episodes,
            "every_env_steps": config.eval.every,
        },
    }


def describe_text(found: Description | PretrainDescription) -> str:
    """`describe` for a terminal."""
    if "data" in found:
        return _pretrain_text(found)
    return _train_text(found)


def _pretrain_text(found: PretrainDescription) -> str:
    lines = [f"{found['algorithm']} on {', '.join(found['data'])}", "", "trainable parameters"]
    lines += [f"  {name:16} {count:>14,}" for name, count in found["modules"].items()]
    lines += [f"  {'total':16} {found['total']:>14,}", "", "data"]
    lines += [
        f"  {name:28} {', '.join(f'{_figure(n)} {key}' for key, n in counts.items()) or ABSENT}"
        for name, counts in found["data"].items()
    ]
    for section in ("observations", "budget", "evaluation"):
        lines += ["", section]
        lines += [f"  {key:28} {_figure(value)}" for key, value in found[section].items()]
    return "\n".join(lines)


def _train_text(found: Description) -> str:
    dialect = f" ({found['dialect']})" if found["dialect"] else ""
    lines = [f"{found['algorithm']}{dialect} on {found['env']}", "", "trainable parameters"]
    lines += [f"  {name:12} {count:>14,}" for name, count in found["modules"].items()]
    lines += [f"  {'total':12} {found['total']:>14,}"]
    lines += [f"  {name:12} {count:>14,}  (slow copy)" for name, count in found["targets"].items()]
    evaluation = dict(found["evaluation"])
    evaluation["actions"] = ACTS[str(evaluation.pop("mode"))]
    for section in ("observations", "budget", "ratio", "evaluation"):
        rows = evaluation if section == "evaluation" else found[section]
        lines += ["", section]
        lines += [f"  {key:28} {_figure(value)}" for key, value in rows.items()]
        if section == "observations":
            lines.append(f"  {'action':28} {found['action']}")
    return "\n".join(lines)


def list_algorithms() -> str:
    """What there is to set as `algorithm.name`, dialect and size, from the agents themselves."""
    names, lines = sorted(registry.algorithm_names()), list[str]()
    left = max(map(len, names)) + 2
    for name in names:
        agent = registry.algorithm(name)
        sizes, variants = getattr(agent, "SIZES", {}), getattr(agent, "VARIANTS", {})
        rows = {"paper": getattr(agent, "PAPER", ""), "sizes": ", ".join(sizes), **variants}
        texts = [first_line(agent), *(f"{key}: {text}" for key, text in rows.items() if text)]
        room = terminal_width() - left
        wrapped = [textwrap.wrap(text, room, break_on_hyphens=False) for text in texts]
        heads = itertools.chain([name], itertools.repeat(""))
        parts = itertools.chain.from_iterable(wrapped)
        lines += [f"{head:{left}}{part}" for part, head in zip(parts, heads, strict=False)]
    return "\n".join(lines)


def _figure(value: str | float) -> str:
    """A number with at most three decimals, and none where it is whole."""
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
