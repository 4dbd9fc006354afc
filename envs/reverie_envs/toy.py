"""Tiny deterministic tasks drawn with numpy: they learn in minutes and test every kind of space.

`catch`             one image, three actions, one reward at the end
`catch_distracted`  the same over a film of moving colours that has nothing to do with the task
`two_cameras`       two images of different sizes and a vector, continuous actions, ends by time-out
`multi`             one small image, two discrete action components, ends by time-out
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from reverie.protocols import EvalProtocol, Suite
from reverie.types import STRICT, Array, Rows
from reverie_envs.suites import protocol_id, unknown_task

Info = dict[str, Any]
Step = tuple[Rows, float, bool, bool, Info]
WHITE, RED, GREEN, BLUE = (255, 255, 255), (220, 50, 50), (60, 200, 80), (70, 120, 255)
FILM_FRAMES, FILM_WAVES, FILM_MEAN = 40, 12, 100
"""Frames until the moving background repeats, its waves, and its mean value of 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig:
    """The one option of the toy tasks."""

    __pydantic_config__: ClassVar[Any] = STRICT

    continuous: bool = False
    """`catch` with one action from -1 to 1 in place of its three: the lower third of the range
    goes left, the middle stays, the upper third goes right."""


class Toy(Suite):
    """Tiny tasks that are learned in minutes: catch, two cameras, several choices at once."""

    Config = ToyConfig
    extra = None
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return tuple(TASKS)

    def rendering(self) -> str:
        return "numpy"

    def action_repeat(self, config: ToyConfig) -> int:
        return 1

    def protocol(self, task: str, config: ToyConfig) -> EvalProtocol:
        """20 episodes. Raises: KeyError."""
        random_score, best_score = _find(task).scores
        return EvalProtocol(
            protocol_id("toy-v1", config),
            mode="mode",
            episodes=20,
            random_score=random_score,
            human_score=best_score,
        )

    def make(self, task: str, config: ToyConfig) -> gymnasium.Env[Rows, Any]:
        """Raises: KeyError; ValueError where `continuous` does not fit the task."""
        env = _find(task)()
        return Dial(env, task) if config.continuous else env


def _find(task: str) -> type[ToyEnv]:
    if task not in TASKS:
        raise unknown_task(task, "toy", TASKS)
    return TASKS[task]


class ToyEnv(gymnasium.Env[Rows, Any]):
    """A task that knows what random and perfect play score."""

    scores: ClassVar[tuple[float | None, float | None]] = (None, None)


class Catch(ToyEnv):
    """A ball falls through 10 rows and 5 columns; stand below it with the paddle.

    Nine decisions per episode: 0 left, 1 stay, 2 right. The last one is terminal, with reward 1
    for a catch and -1 for a miss.
    """

    rows, columns, size = 10, 5, 64
    scores = (-0.6, 1.0)

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"image": _image_space(self.size)})
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Drop the ball in a random column; the paddle starts in the middle."""
        super().reset(seed=seed)
        self._ball_row = 0
        self._ball_column = int(self.np_random.integers(self.columns))
        self._paddle = self.columns // 2
        return self._obs(), {}

    def step(self, action: Any) -> Step:
        """Move the paddle by one column and let the ball fall by one row."""
        self._paddle = min(max(self._paddle + int(action) - 1, 0), self.columns - 1)
        self._ball_row += 1
        landed = self._ball_row == self.rows - 1
        caught = self._paddle == self._ball_column
        reward = (1.0 if caught else -1.0) if landed else 0.0
        return self._obs(), reward, landed, False, {}

    def _obs(self) -> Rows:
        image = self._background()
        image[self._cell(self.rows - 1, self._paddle)] = BLUE
        image[self._cell(self._ball_row, self._ball_column)] = WHITE
        return {"image": image}

    def _background(self) -> Array:
        return np.zeros((self.size, self.size, 3), np.uint8)

    def _cell(self, row: int, column: int) -> tuple[slice, slice]:
        return _part(row, self.rows, self.size), _part(column, self.columns, self.size)


class CatchDistracted(Catch):
    """Catch over a moving background, the same film in every episode, from a random frame on.

    The film fills the image and costs a model more to rebuild than ball and paddle, whose colours
    it never has: a test of how well the losses of a world model are balanced.
    """

    _frame = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Drop the ball in a random column and let the film begin at a random frame."""
        super().reset(seed=seed)
        self._frame = int(self.np_random.integers(FILM_FRAMES))
        return self._obs(), {}

    def _background(self) -> Array:
        return _film(self.size)[(self._frame + self._ball_row) % FILM_FRAMES].copy()


class Dial(gymnasium.ActionWrapper[Rows, Any, Any]):
    """Turns one action from -1 to 1 into one of n choices, each an equal part of the range."""

    def __init__(self, env: ToyEnv, task: str) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Discrete):
            raise ValueError(
                f"env.continuous: expected a task with one choice, got {task}: {space}"
            )
        self._choices = int(space.n)
        self.action_space = spaces.Box(-1.0, 1.0, (1,))

    def action(self, action: Any) -> int:
        part = (float(np.asarray(action).item()) + 1) / 2 * self._choices
        return min(max(int(part), 0), self._choices - 1)


class TwoCameras(ToyEnv):
    """Move a point to a target that only the two images show.

    `image` sees the whole square from above, `wrist` what lies around the point, `proprio` is
    the point's place. The action is a move of at most 0.1 per axis; the reward is minus the
    distance to the target. Ends after 50 decisions, never terminal.
    """

    size, wrist_size, limit, reach = 64, 32, 50, 0.1
    scores = (-49.8, -4.3)

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": _image_space(self.size),
                "wrist": _image_space(self.wrist_size),
                "proprio": spaces.Box(-1.0, 1.0, (2,)),
            }
        )
        self.action_space = spaces.Box(-0.1, 0.1, (2,))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Put point and target at random places of the square from -0.9 to 0.9."""
        super().reset(seed=seed)
        self._point, self._target = self.np_random.uniform(-0.9, 0.9, (2, 2))
        self._steps = 0
        return self._obs(), self._logs()

    def step(self, action: Any) -> Step:
        """Move the point."""
        move = np.clip(np.asarray(action, np.float64), -0.1, 0.1)
        self._point = np.clip(self._point + move, -1, 1)
        self._steps += 1
        return self._obs(), -self._distance(), False, self._steps == self.limit, self._logs()

    def _logs(self) -> Info:
        return {"log/success": float(self._distance() < self.reach)}

    def _distance(self) -> float:
        return float(np.linalg.norm(self._point - self._target))

    def _obs(self) -> Rows:
        places = ((self._target, RED), (self._point, GREEN))
        seen_from_point = (((self._target - self._point) * 2, RED), (np.zeros(2), GREEN))
        return {
            "image": _draw_dots(self.size, 5, places),
            "wrist": _draw_dots(self.wrist_size, 3, seen_from_point),
            "proprio": self._point.astype(np.float32),
        }


class Multi(ToyEnv):
    """Name the row (of 3) and the column (of 2) of the lit field; it moves at every decision.

    The reward is the share of components that were right. Ends after 10 decisions, never
    terminal.
    """

    size, limit, num = 16, 10, (3, 2)
    scores = (10 * (1 / 3 + 1 / 2) / 2, 10.0)

    def __init__(self) -> None:
        self.observation_space = spaces.Dict({"image": _image_space(self.size)})
        self.action_space = spaces.MultiDiscrete(list(self.num))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        """Light a random field."""
        super().reset(seed=seed)
        self._steps = 0
        return self._next_obs(), {}

    def step(self, action: Any) -> Step:
        """Judge the answer and light another field."""
        reward = float(np.mean(np.asarray(action) == self._lit))
        self._steps += 1
        return self._next_obs(), reward, False, self._steps == self.limit, {}

    def _next_obs(self) -> Rows:
        self._lit = self.np_random.integers(self.num)
        row, column = (
            _part(int(lit), num, self.size) for lit, num in zip(self._lit, self.num, strict=True)
        )
        image = np.zeros((self.size, self.size, 3), np.uint8)
        image[row, column] = WHITE
        return {"image": image}


TASKS: dict[str, type[ToyEnv]] = {
    "catch": Catch,
    "catch_distracted": CatchDistracted,
    "two_cameras": TwoCameras,
    "multi": Multi,
}


def _image_space(size: int) -> spaces.Box:
    return spaces.Box(0, 255, (size, size, 3), np.uint8)


@lru_cache(maxsize=1)
def _film(size: int) -> Array:
    """Plane waves of random colour, direction and speed: uint8 [FILM_FRAMES, size, size, 3].

    Every wave returns to where it began, so that the film can be shown without end.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    time = np.arange(FILM_FRAMES)[:, None, None] / FILM_FRAMES
    film = np.zeros((FILM_FRAMES, size, size, 3))
    for _ in range(FILM_WAVES):
        (right, up), speed = rng.integers(-6, 7, 2), rng.choice([-4, -3, -2, 2, 3, 4])
        turns = right * x + up * y + speed * time + rng.random()
        film += np.sin(2 * np.pi * turns)[..., None] * rng.normal(size=3)
    contrast = np.clip(film / (1.25 * film.std()), -1, 1)
    return np.round(FILM_MEAN * (1 + contrast)).astype(np.uint8)


def _part(index: int, count: int, size: int) -> slice:
    """Pixels of part `index` where `size` pixels are cut into `count` parts."""
    return slice(round(index * size / count), round((index + 1) * size / count))


def _draw_dots(size: int, width: int, dots: Any) -> Array:
    """Draw squares at places (x, y) of [-1, 1]; y points up. What lies outside is not seen."""
    image = np.full((size, size, 3), 30, np.uint8)
    for (x, y), colour in dots:
        left = round((x + 1) / 2 * (size - 1)) - width // 2
        top = round((1 - y) / 2 * (size - 1)) - width // 2
        rows, columns = (slice(max(start, 0), max(start + width, 0)) for start in (top, left))
        image[rows, columns] = colour
    return image
