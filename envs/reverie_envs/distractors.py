"""What distracts: backgrounds that move, colours that drift, a camera that wanders.

Colours and camera are those of the Distracting Control Suite, arXiv:2101.02722v1, with the
figures of its code (google-research/google-research@0c1bbe5 distracting_control). Each random
walk takes one step per control step.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from reverie.types import Array

Intensity = Literal["off", "easy", "medium", "hard"]
SCALES: dict[Intensity, float] = {"easy": 0.1, "medium": 0.2, "hard": 0.3}
FIXED_CAMERA = 0
"""mjCAMLIGHT_FIXED: the camera does not follow a body."""
OVERHEAD = -0.95
"""A camera whose direction points down further than this sees its scene from above."""


class Background:
    """Frames that take the place of what is blue: sky and, where it is blue, floor."""

    def __init__(self, pool: Array) -> None:
        self._pool = pool
        self._index = 0

    def begin(self, rng: np.random.Generator) -> None:
        """Start the coming episode somewhere in the pool."""
        self._index = int(rng.integers(len(self._pool)))

    def advance(self) -> None:
        """Go on to the next frame, after the last one to the first."""
        self._index = (self._index + 1) % len(self._pool)

    def paint(self, image: Array) -> Array:
        """Replace pixels whose blue is above their green and red; uint8 [H, W, 3]."""
        red, green, blue = np.moveaxis(image, -1, 0)
        behind = (blue > green) & (blue > red)
        return np.where(behind[..., None], self._pool[self._index], image)


class Colours:
    """Every material's colour starts off the original one and drifts."""

    def __init__(self, model: Any, scale: float, dynamic: bool) -> None:
        self._model = model
        self._step = 0.03 * scale if dynamic else 0.0
        original = model.mat_rgba[:, :3]
        self._low = np.clip(original - scale, 0, 1)
        self._high = np.clip(original + scale, 0, 1)

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the colours of the coming episode."""
        self._model.mat_rgba[:, :3] = rng.uniform(self._low, self._high)

    def advance(self, rng: np.random.Generator) -> None:
        """Let the colours drift for one control step."""
        colours = self._model.mat_rgba[:, :3]
        drifted = colours + self._step * rng.standard_normal(colours.shape)
        self._model.mat_rgba[:, :3] = np.clip(drifted, self._low, self._high)


class Viewpoint:
    """A camera that starts off its place and wanders on a sphere around what it sees.

    The place is kept as radius, azimuth and angle from the vertical, around the world's origin
    or, for a camera that follows a body, around the centre of mass.
    """

    def __init__(self, model: Any, data: Any, camera: int, scale: float, dynamic: bool) -> None:
        self._model, self._data, self._camera = model, data, camera
        self._scale, self._dynamic = scale, float(dynamic)
        self._follows = model.cam_mode[camera] != FIXED_CAMERA

    def begin(self, rng: np.random.Generator) -> None:
        """Draw where the camera is at the first image. The simulation has to be reset before."""
        scale = self._scale
        place, direction, self._target = self._nominal()
        start = _spherical(place - self._centre())
        self._overhead = direction[2] < OVERHEAD
        turn = np.pi / 2 * scale
        low = np.array([start[0] * (1 - 0.5 * scale), start[1] - turn, start[2] - turn])
        high = np.array([start[0] * (1 + 1.5 * scale), start[1] + turn, start[2] + turn])
        if not self._overhead:  # the floor would hide everything from below
            low[2] = max(low[2], 0)
            high[2] = max(min(high[2], np.pi / 2), low[2])
        self._low, self._high = low, high
        self._place = rng.uniform(low, high)
        self._roll_limit = turn
        self._roll = rng.uniform(-turn, turn)
        self._slow = start[0] / 4
        heading = rng.standard_normal(3)
        speed = rng.uniform(0, 0.4 * scale * self._dynamic)
        self._velocity = heading / np.linalg.norm(heading) * speed
        self._roll_limit_velocity = np.pi / 50 * scale * self._dynamic
        self._roll_velocity = rng.uniform(-1, 1) * self._roll_limit_velocity

    def advance(self, rng: np.random.Generator) -> None:
        """Let the camera wander for one control step."""
        scale, limit = self._scale * self._dynamic, 0.4 * self._scale * self._dynamic * self._slow
        velocity = self._velocity + rng.standard_normal(3) * 0.1 * scale * self._slow
        velocity *= min(1.0, limit / max(float(np.linalg.norm(velocity)), 1e-12))
        before = _cartesian(self._place)
        self._place = np.clip(_spherical(before + velocity), self._low, self._high)
        self._velocity = _cartesian(self._place) - before
        turning = self._roll_velocity + rng.standard_normal() * np.pi / 300 * scale
        turning = np.clip(turning, -self._roll_limit_velocity, self._roll_limit_velocity)
        rolled = np.clip(self._roll + turning, -self._roll_limit, self._roll_limit)
        self._roll, self._roll_velocity = rolled, rolled - self._roll

    def apply(self) -> None:
        """Move the camera of the simulation, which puts it back at every step of its own."""
        place = _cartesian(self._place) + self._centre()
        target = self._nominal()[2] if self._follows else self._target
        axes = _looking(target - place, self._overhead) @ _rolled(self._roll)
        self._data.cam_xpos[self._camera] = place
        self._data.cam_xmat[self._camera] = axes.ravel()

    def _nominal(self) -> tuple[Array, Array, Array]:
        """Return place, direction and target of the camera as the model has it, each [3]."""
        place = self._data.cam_xpos[self._camera].copy()
        direction = -self._data.cam_xmat[self._camera].reshape(3, 3)[:, 2]
        distance = np.linalg.norm(place - self._data.subtree_com[1])
        return place, direction, place + distance * direction

    def _centre(self) -> Array:
        return self._data.subtree_com[1].copy() if self._follows else np.zeros(3)


def _spherical(point: Array) -> Array:
    x, y, z = point
    return np.array([np.linalg.norm(point), np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)])


def _cartesian(place: Array) -> Array:
    radius, azimuth, angle = place
    across = np.sin(angle)
    return radius * np.array([across * np.cos(azimuth), across * np.sin(azimuth), np.cos(angle)])


def _looking(direction: Array, overhead: bool) -> Array:
    """Return the axes [3, 3] of a camera with that direction, its right side level.

    From above there is no level; there the axes are turned from a view straight down.
    """
    forward = direction / np.linalg.norm(direction)
    if overhead:
        axis = np.cross((0.0, 0.0, -1.0), forward)
        cosine = -forward[2]
        x, y, z = axis
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        return np.eye(3) + cross + cross @ cross / (1 + cosine)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, forward), -forward], axis=1)


def _rolled(angle: float) -> Array:
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
