"""A corridor seen from above: walk to the light before time runs out."""

import gymnasium
import numpy as np

WIDTH, CELL = 8, 8
"""Cells of the corridor, and pixels of a cell."""


class Corridor(gymnasium.Env):
    """One picture and a clock; actions 0 left, 1 stay, 2 right.

    The light is at one of the ends. Reaching it pays 1 and ends the episode (terminal); every step
    costs 0.01. Time-outs are a wrapper's business: they end an episode and are not terminal.
    """

    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self):
        side = WIDTH * CELL
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8),
                "clock": gymnasium.spaces.Box(0, 1, (1,), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # makes self.np_random; draw from nothing else
        self.position, self.steps = WIDTH // 2, 0
        self.light = int(self.np_random.choice([0, WIDTH - 1]))
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        self.position = min(max(self.position + int(action) - 1, 0), WIDTH - 1)
        found = self.position == self.light
        reward = 1.0 if found else -0.01
        info = {"log/found": float(found)}  # goes to the metrics, never to the agent
        return self._observe(), reward, found, False, info

    def render(self):
        picture = np.full((WIDTH * CELL, WIDTH * CELL, 3), 40, np.uint8)
        row = slice(WIDTH // 2 * CELL, (WIDTH // 2 + 1) * CELL)
        for cell, colour in ((self.light, (255, 220, 80)), (self.position, (80, 160, 255))):
            picture[row, cell * CELL : (cell + 1) * CELL] = colour
        return picture

    def _observe(self):
        return {"image": self.render(), "clock": np.array([self.steps / 40], np.float32)}


def make_env():
    """What `env.factory=my_environment:make_env` calls, once per environment."""
    return gymnasium.wrappers.TimeLimit(Corridor(), 40)
