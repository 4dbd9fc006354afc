"""What a configuration builds and what there is to choose from, without running anything."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import TypedDict

from reverie import env_factory, evaluator, registry
from reverie.cli.list_suites import first_line, terminal_width
from reverie.config import TrainConfig
from reverie.policy import make_agent

Figures = Mapping[str, str | float]

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


def describe(config: TrainConfig) -> Description:
    """Networks with their trainable parameters, spaces, budgets and ratios; JSON-able."""
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
        "streams": {
            name: {
                "batch_size": spec.batch_size,
                "batch_length": spec.batch_length,
                "context": spec.context,
                "sampler": spec.sampler,
                "every": spec.every,
            }
            for name, spec in streams.items()
        },
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


def describe_text(found: Description) -> str:
    """`describe` for a terminal."""
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
