"""What the tests run in processes of their own: numpy only, spaces and environments imitated."""

import ctypes
import os
import random
import subprocess
import sys
import time

import numpy as np


class Box:
    def __init__(self, low, high, shape, dtype):
        self.low, self.high = np.full(shape, low, dtype), np.full(shape, high, dtype)
        self.shape, self.dtype = shape, np.dtype(dtype)


class Discrete:
    def __init__(self, n):
        self.n = n


class Tuple:
    def __init__(self):
        self.spaces = (Discrete(2),)


class Old:
    """As gym was up to 0.25: `seed`, `reset` without arguments, four values from `step`."""

    observation_space = Box(0, 255, (8, 8, 3), np.uint8)
    action_space = Discrete(3)

    def __init__(self, fault="", length=5, done=True):
        self.fault, self.length, self.done, self.count = fault, length, done, 0

    def seed(self, seed):
        self.seeded = seed

    def reset(self):
        self.count = 0
        self._misbehave("reset")
        return self._image()

    def step(self, action):
        self.count += 1
        if self.count == 3:
            self._misbehave("step")
        over = self.done if self.count == self.length else False
        return self._image(), float(np.sum(action)), over, {"seen": action, "array": np.zeros(3)}

    def close(self):
        self._misbehave("close")

    def _image(self):
        return np.full((8, 8, 3), np.random.randint(256), np.uint8)  # noqa: NPY002

    def _misbehave(self, where):
        if self.fault == f"hangs in {where}":
            time.sleep(60)
        elif self.fault == f"dies in {where}":
            os.write(2, b"the simulator is out of memory\n")
            os._exit(3)
        elif self.fault == f"segfaults in {where}":
            ctypes.string_at(0)
        elif self.fault == f"raises in {where}":
            raise RuntimeError("the boat sank")


class Sloppy(Old):
    """Returns what its spaces and the interface do not allow."""

    def step(self, action):
        image, reward, done, info = super().step(action)
        if self.fault == "float64":
            image = image.astype(np.float64)
        elif self.fault == "shape":
            image = image[:4]
        elif self.fault == "reward":
            reward = None
        elif self.fault == "nan":
            reward = float("nan")
        elif self.fault == "five":
            return image, reward
        return image, reward, 1 if self.fault == "done" else done, info


class Nested(Old):
    observation_space = {
        "eye": {"image": Box(0, 255, (8, 8, 3), np.uint8)},
        "speed": Box(-np.inf, np.inf, (2,), np.float64),
    }
    action_space = Box(-2, 2, (2,), np.float32)

    def _image(self):
        return {"eye": {"image": super()._image()}, "speed": np.array([random.random(), 2.0])}


class Clash(Nested):
    observation_space = {"a": {"b": Discrete(2)}, "a_b": Discrete(2)}


class Unsupported(Old):
    observation_space = Tuple()


class Parts(Old):
    action_space = {"camera": Discrete(2), "jump": Discrete(2)}


class Where(Old):
    """Shows where it runs; starts a process of its own that must not outlive it."""

    def __init__(self):
        super().__init__()
        self.helper = subprocess.Popen(["sleep", "60"])
        sys.stdout.write("chatter " * 10)

    def reset(self, seed=None, options=None):
        info = {
            "helper": self.helper.pid,
            "path": os.pathsep.join(sys.path),
            "options": str(options),
            "seed": seed,
            "mark": os.environ.get("MARK", ""),
        }
        return self._image(), info


def old(**kwargs):
    return Old(**kwargs)


def sloppy(fault):
    return Sloppy(fault)


def broken():
    raise RuntimeError("no display")


def text():
    return "env"
