"""A search on a function whose best configuration is known, with Tune's own scheduler, in process.

Eight configurations, three seeds each, scores with noise. Groups: a trial is a configuration and
reports the mean of its seeds. Single seeds: a trial is one seed of a configuration, and the best
trial's configuration is taken, as sweeps do that put `seed` into the search space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from reverie.tuning.group import rungs
from reverie.tuning.search import SCORE, TIME, make_scheduler
from reverie.tuning.sweep_settings import SearchConfig

CONFIGS, SEEDS, BUDGET = 8, 3, 8_000
NOISE = (0.05, 0.6)
"""Standard deviations of seeds' scores, drawn for each configuration: some are steady and some
depend on luck. Configurations lie 0.1 apart at the end."""
SEARCH = SearchConfig(scheduler="asha", samples=CONFIGS, grace_env_steps=1_000, reduction_factor=2)


@dataclass
class One:
    """A trial, and what it is."""

    trial: Trial
    config: int
    seeds: range
    env_steps: int = 0
    score: float = float("-inf")
    goes_on: bool = True


def score(config: int, env_steps: int, noise: np.ndarray) -> float:
    """Mean over seeds of 0.1 x config, learned along the way."""
    return float(np.mean(0.1 * config * env_steps / BUDGET + noise))


def search(generator: np.random.Generator, *, groups: bool) -> int:
    """The configuration that a search takes; the best is `CONFIGS` - 1."""
    scheduler = make_scheduler(SEARCH, BUDGET, {})
    scheduler.set_search_properties(SCORE, "max")
    spread = generator.uniform(*NOISE, size=(CONFIGS, 1))
    noise = spread * generator.normal(size=(CONFIGS, SEEDS))
    trials = [
        One(Trial("x", stub=True, config={}), config, seeds)
        for config in range(CONFIGS)
        for seeds in ([range(SEEDS)] if groups else [range(s, s + 1) for s in range(SEEDS)])
    ]
    generator.shuffle(trials)  # type: ignore[arg-type]
    for one in trials:
        scheduler.on_trial_add(None, one.trial)  # type: ignore[arg-type]
    for at in rungs(SEARCH, BUDGET):
        for one in trials:
            if one.goes_on:
                one.env_steps = at
                one.score = score(one.config, at, noise[one.config, list(one.seeds)])
                result = {SCORE: one.score, TIME: at, "training_iteration": 1}
                answer = scheduler.on_trial_result(None, one.trial, result)  # type: ignore[arg-type]
                one.goes_on = answer == TrialScheduler.CONTINUE
    return max(trials, key=lambda one: (one.env_steps, one.score)).config


def found_best(repeats: int, *, groups: bool) -> int:
    """How often the best configuration is found, and each search on noise of its own."""
    return sum(
        search(np.random.default_rng(seed), groups=groups) == CONFIGS - 1 for seed in range(repeats)
    )
