"""Crafter (arXiv:2109.06780): a small open world of 22 achievements, the light Minecraft.

`crafter/reward` gives 1 for each achievement that is unlocked for the first time in an episode
and 0.1 for each point of health won or lost; `crafter/no_reward` gives nothing. Death is terminal,
10,000 decisions are a time-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Interval
from gymnasium import spaces

from reverie.protocols import EvalProtocol, Suite
from reverie.ranges import Count
from reverie.types import STRICT, Array, Rows
from reverie_envs.suites import drawn_seed, installed, pip_line, protocol_id, unknown_task

ACHIEVEMENTS = (
    "collect_coal",
    "collect_diamond",
    "collect_drink",
    "collect_iron",
    "collect_sapling",
    "collect_stone",
    "collect_wood",
    "defeat_skeleton",
    "defeat_zombie",
    "eat_cow",
    "eat_plant",
    "make_iron_pickaxe",
    "make_iron_sword",
    "make_stone_pickaxe",
    "make_stone_sword",
    "make_wood_pickaxe",
    "make_wood_sword",
    "place_furnace",
    "place_plant",
    "place_stone",
    "place_table",
    "wake_up",
)
ACTIONS = (
    "noop",
    "move_left",
    "move_right",
    "move_up",
    "move_down",
    "do",
    "sleep",
    "place_stone",
    "place_table",
    "place_furnace",
    "place_plant",
    "make_wood_pickaxe",
    "make_stone_pickaxe",
    "make_iron_pickaxe",
    "make_wood_sword",
    "make_stone_sword",
    "make_iron_sword",
)
LOGS = {name: f"log/achievement_{name}" for name in ACHIEVEMENTS}
SCORES = {"reward": (2.1, 14.3), "no_reward": (None, None)}
"""Task -> mean return of random play, of human experts (source: danijar/crafter@e04542a)."""
REMEDY = pip_line("crafter", "crafter", "crafter")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrafterConfig:
    """How the world is shown and how long it lasts."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Annotated[int, Interval(ge=9, le=1024)] = 64
    """Height and width of the image in pixels, at least 9 (source: danijar/crafter@e04542a)."""
    length: Count = 10_000
    """Decisions after which an episode is cut off (source: danijar/crafter@e04542a)."""


class Crafter(Suite):
    """A small open world with 22 achievements, with their rewards or without any."""

    Config = CrafterConfig
    extra = "crafter"
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return tuple(SCORES)

    def action_repeat(self, config: CrafterConfig) -> int:
        return 1

    def protocol(self, task: str, config: CrafterConfig) -> EvalProtocol:
        """20 episodes, actions sampled. The paper scores the episodes of training instead, see
        `scores`.

        Raises: KeyError.
        """
        if task not in SCORES:
            raise unknown_task(task, "crafter", SCORES)
        random_score, human_score = SCORES[task]
        return EvalProtocol(
            protocol_id(f"crafter-v1-{task}", config),
            mode="sample",
            episodes=20,
            random_score=random_score,
            human_score=human_score,
            max_steps=config.length,
        )

    def scores(self, means: Mapping[str, float]) -> dict[str, float]:
        """The Crafter score; published is `episode/crafter_score` after 1,000,000 env steps, which
        is over all episodes of training (source: danijar/crafter@e04542a).
        """
        rates = [means[f"achievement_{name}_max"] for name in ACHIEVEMENTS]
        return {"crafter_score": crafter_score(rates)}

    def rendering(self) -> str:
        return "numpy"

    def missing(self) -> str | None:
        """What has to be done before it can be used."""
        return None if installed("crafter") else REMEDY

    def make(self, task: str, config: CrafterConfig) -> gymnasium.Env[Rows, Any]:
        """Raises: KeyError; ImportError where the package is missing, with the `pip` line."""
        if task not in SCORES:
            raise unknown_task(task, "crafter", SCORES)
        return CrafterEnv(config, reward=task == "reward")


def crafter_score(success_rates: Iterable[float]) -> float:
    """Return the benchmark's score: the geometric mean of success rates (arXiv:2109.06780, eq. 1).

    Args:
        success_rates: For each achievement the share of episodes, 0 to 1, in which it was
            unlocked; the mean of `achievement_<name>_max` over episodes.

    Returns:
        0 to 100. One is added to each percentage before and subtracted after, so that an
        achievement never unlocked does not make the whole 0.
    """
    logs = [math.log1p(100 * rate) for rate in success_rates]
    return math.expm1(sum(logs) / len(logs))


def make_world(**options: Any) -> Any:
    """Build the package's own environment, made to depend on its seed alone.

    Its creatures lie in Python sets, whose order follows memory addresses, and the one that
    vanishes is drawn by its place in that order. Raises: ImportError.
    """
    try:
        import crafter
    except ImportError as error:
        raise ImportError(REMEDY) from error
    world: Any = crafter.Env(**options)
    balance = world._balance_chunk

    def balance_in_order(chunk: Any, creatures: Any) -> None:
        balance(chunk, sorted(creatures, key=lambda creature: tuple(creature.pos)))

    world._balance_chunk = balance_in_order
    # The map that each step would put into its info takes a tenth of the step.
    world._sem_view = lambda: None
    return world


def begin(world: Any, seed: int) -> Array:
    """Start the episode that a fresh environment with this seed starts with."""
    world._seed, world._episode = seed, 0
    return world.reset()


class CrafterEnv(gymnasium.Env[Rows, Any]):
    """One world after another.

    `log/achievement_<name>` is 1 in the step that unlocks it and missing, which means 0, elsewhere;
    the first row has all of them.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def __init__(self, config: CrafterConfig, *, reward: bool) -> None:
        size = (config.size, config.size)
        self._world = make_world(size=size, reward=reward, length=config.length, seed=0)
        self._unlocked: set[str] = set()
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (*size, 3), np.uint8)})
        self.action_space = spaces.Discrete(len(ACTIONS))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Grow a world from `seed`; takes half a second."""
        super().reset(seed=seed)
        self._unlocked = set()
        image = begin(self._world, drawn_seed(self, seed))
        return {"image": image}, dict.fromkeys(LOGS.values(), 0.0)

    def step(self, action: Any) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Take one of the 17 actions."""
        image, reward, done, info = self._world.step(int(action))
        reached = {name for name, count in info["achievements"].items() if count}
        logs = {LOGS[name]: 1.0 for name in reached - self._unlocked}
        self._unlocked = reached
        dead = info["discount"] == 0
        return {"image": image}, float(reward), dead, bool(done) and not dead, logs

    def render(self) -> Array:
        """Return the image, uint8 [size, size, 3]."""
        return self._world.render()
