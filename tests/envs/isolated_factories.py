"""What the tests run in processes of their own: numpy only, spaces and environments imitated."""

import ctypes
import fcntl
import json
import os
import random
import struct
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


class Liar(Old):
    """Breaks into the pipe to its parent, or the memory that it shares with it."""

    def _misbehave(self, where):
        if where == self.fault.partition(" ")[2]:
            LIES[self.fault.partition(" ")[0]](_answers(), _memory())


def _answers():
    """The pipe of answers: the second of the numbers that the process was started with."""
    return int(sys.argv[3])


def _memory():
    return int(sys.argv[4])


def _head(status=b"k", size=0):
    return struct.pack("<cId??", status, size, 0.0, False, False)


def _flood(answers, memory):
    while True:
        os.write(answers, b"x" * 65536)


def _drip(answers, memory):
    os.write(answers, _head(size=100))
    while True:
        os.write(answers, b" ")
        time.sleep(0.1)


def _wait(answers, memory):
    os.write(answers, _head()[:3])
    time.sleep(60)


def _print(answers, memory):
    block = b"x" * (1 << 20)
    while True:
        os.write(1, block)
        time.sleep(0.05)


def _shrink(answers, memory):
    os.ftruncate(memory, 0)


LIES = {
    "flood": _flood,
    "drip": _drip,
    "wait": _wait,
    "print": _print,
    "shrink": _shrink,
    "huge": lambda answers, memory: os.write(answers, _head(size=2**32 - 1)),
    "status": lambda answers, memory: os.write(answers, _head(status=b"?")),
    "bytes": lambda answers, memory: os.write(answers, _head(size=2) + b"\xff\xff"),
    "deep": lambda answers, memory: os.write(answers, _head(size=5000) + b"[" * 5000),
    "list": lambda answers, memory: os.write(answers, _head(size=2) + b"[]"),
}


class Layout:
    """Answers to `build` by itself."""

    def __init__(self, size=640, dtype="uint8", shape=(4,), offset=64, seal=0):
        leaf = {"key": "", "kind": "box", "shape": shape, "dtype": dtype, "offset": offset}
        leaf.update(low=0, high=1)
        text = json.dumps({"size": size, "observation": [leaf], "action": leaf}).encode()
        os.ftruncate(_memory(), 640)
        if seal:
            fcntl.fcntl(_memory(), fcntl.F_ADD_SEALS, seal)
        os.write(_answers(), _head(size=len(text)) + text)
        time.sleep(60)


class Surroundings(Old):
    """Tells which variables it has."""

    def step(self, action):
        image, reward, done, _ = super().step(action)
        return image, reward, done, {"names": " ".join(sorted(os.environ))}
