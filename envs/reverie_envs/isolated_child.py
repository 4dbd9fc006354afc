"""Runs one environment in a Python of its own; `isolated.py` starts it and talks to it.

Needs Python 3.8 and numpy and imports nothing of Reverie, because the packages of the two sides
clash. Environments of old gym, gymnasium and dm_env are accepted as they are. Requests and
answers are short messages through pipes; actions and observations lie in shared memory.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, Iterator, Sequence  # noqa: UP035  (the same names in 3.8)

import numpy as np

REQUEST = struct.Struct("<cI")
"""Command, bytes of JSON that follow."""
ANSWER = struct.Struct("<cId??")
"""Status, bytes that follow, reward, terminated, truncated."""
OK, RAISED, BREACH, REFUSED, MISSING = b"k", b"e", b"c", b"v", b"i"
"""Status: done, the environment raised, it broke its spaces, it is unfit, a module is missing."""
PAGE = 64
"""Arrays begin at multiples of this many bytes."""
WATCH_S = 2.0


class Failure(Exception):
    """What is answered instead of an observation."""

    def __init__(self, status: bytes, text: str) -> None:
        super().__init__(text)
        self.status = status


# Spaces


class Leaf:
    """One array that travels: an observation key or the action."""

    def __init__(
        self, path: tuple[str, ...], kind: str, shape: Sequence[int], dtype: Any, **bounds: Any
    ) -> None:
        self.key, self.path, self.kind = "_".join(path), path, kind
        self.shape, self.dtype, self.bounds = tuple(shape), np.dtype(dtype), bounds
        self.offset = 0
        self.view: Any = None

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "kind": self.kind,
            "shape": self.shape,
            "dtype": self.dtype.name,
            "offset": self.offset,
            **self.bounds,
        }

    def place(self, offset: int) -> int:
        """Reserve memory from `offset` on and return where the next array may begin."""
        self.offset = -(-offset // PAGE) * PAGE
        return self.offset + self.dtype.itemsize * int(np.prod(self.shape, dtype=int))

    def map(self, memory: mmap.mmap) -> None:
        self.view = np.ndarray(self.shape, self.dtype, memory, self.offset)

    def write(self, value: Any) -> None:
        array = np.asarray(value)
        if array.shape != self.shape:
            self._refuse("shape", array.shape, self.shape)
        fits = array.dtype == self.dtype if self.kind == "box" else array.dtype.kind in "iub"
        if not fits:
            self._refuse("dtype", array.dtype, self.dtype)
        self.view[...] = array

    def read(self) -> Any:
        return int(self.view) if self.kind == "discrete" else self.view.copy()

    def _refuse(self, what: str, got: Any, wanted: Any) -> None:
        name = f"observation {self.key!r}" if self.key else "observation"
        text = f"{name} has {what} {got}, its space says {wanted}; fix it in the factory"
        raise Failure(BREACH, f"{text}, e.g. with a wrapper")


def leaves_of(space: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield the leaves of a space of gym or gymnasium, or of a spec of dm_env."""
    inner = getattr(space, "spaces", space)
    if isinstance(inner, Mapping):
        for key, value in inner.items():
            yield from leaves_of(value, (*path, str(key)))
    else:
        yield leaf_of(space, path)


def leaf_of(space: Any, path: tuple[str, ...]) -> Leaf:
    kinds = [kind.__name__ for kind in type(space).__mro__]
    if "DiscreteArray" in kinds:
        return Leaf(path, "discrete", (), np.int64, n=int(space.num_values), start=0)
    if "Discrete" in kinds:
        start = int(getattr(space, "start", 0))
        return Leaf(path, "discrete", (), np.int64, n=int(space.n), start=start)
    if "MultiDiscrete" in kinds:
        start = np.broadcast_to(getattr(space, "start", 0), space.nvec.shape)
        bounds = {"nvec": space.nvec.tolist(), "start": start.tolist()}
        return Leaf(path, "multidiscrete", space.nvec.shape, np.int64, **bounds)
    if "MultiBinary" in kinds:
        return Leaf(path, "multibinary", space.shape, np.int8)
    if "Box" in kinds:
        return box_leaf(path, space, space.low, space.high)
    if "BoundedArray" in kinds:
        return box_leaf(path, space, space.minimum, space.maximum)
    if "Array" in kinds and np.dtype(space.dtype).kind in "biuf":
        return box_leaf(path, space, *widest(np.dtype(space.dtype)))
    name = "_".join(path) or "the space"
    raise Failure(
        REFUSED,
        f"{name} is a {kinds[0]}, which cannot be passed on; expected Box, Discrete, MultiDiscrete,"
        " MultiBinary or a Dict of these: leave it out in the factory",
    )


def box_leaf(path: tuple[str, ...], space: Any, low: Any, high: Any) -> Leaf:
    shape = tuple(space.shape)
    return Leaf(path, "box", shape, space.dtype, low=plain(low, shape), high=plain(high, shape))


def widest(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def plain(bound: Any, shape: tuple[int, ...]) -> Any:
    """One number if all bounds are equal, else nested lists of `shape`."""
    array = np.broadcast_to(np.asarray(bound), shape)
    if array.size and (array == array.flat[0]).all():
        return array.flat[0].item()
    return array.tolist()


# Environments


class GymEnv:
    """gym of any age (`reset` returns obs, `step` four values) and gymnasium."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.takes_seed = True
        self.spaces = env.observation_space, env.action_space

    def reset(self, seed: int | None, options: Any) -> tuple[Any, Any]:
        more = {"options": options} if options else {}
        result = self._reset(seed, more)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            return result
        return result, {}

    def _reset(self, seed: int | None, more: dict[str, Any]) -> Any:
        if seed is None:
            return self.env.reset(**more)
        if self.takes_seed:
            try:
                return self.env.reset(seed=seed, **more)
            except TypeError as error:
                if "unexpected keyword argument 'seed'" not in str(error):
                    raise
                self.takes_seed = False
        if hasattr(self.env, "seed"):
            self.env.seed(seed)
        return self.env.reset(**more)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        result = self.env.step(action)
        size = len(result) if isinstance(result, tuple) else 1
        if size == 5:
            return result
        if size != 4:
            raise Failure(BREACH, f"step returned {size} values, expected 4 (old gym) or 5")
        obs, reward, done, info = result
        timed_out = bool(info.get("TimeLimit.truncated", False))
        if done is True or done is False or isinstance(done, np.bool_):
            return obs, reward, bool(done) and not timed_out, bool(done) and timed_out, info
        raise Failure(BREACH, f"done is {done!r}, expected a bool")


class DmEnv:
    """dm_env: a last step with discount 0 is terminal, any other a time-out."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.spaces = env.observation_spec(), env.action_spec()

    def reset(self, seed: int | None, options: Any) -> tuple[Any, Any]:
        generator: Any = getattr(getattr(self.env, "task", None), "random", None)
        if seed is not None and hasattr(generator, "seed"):
            generator.seed(seed)
        return self.env.reset().observation, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        now = self.env.step(action)
        over = bool(now.last())
        terminal = over and now.discount == 0
        return now.observation, now.reward, terminal, over and not terminal, {}


def load(factory: str) -> Any:
    """Import the function that `module:function` or `folder/file.py:function` names."""
    place, _, name = factory.rpartition(":")
    if not (place and name):
        raise Failure(REFUSED, f"expected module:function, e.g. my_file:make_env, got {factory!r}")
    try:
        module = import_file(place) if place.endswith(".py") else importlib.import_module(place)
    except ImportError as error:
        missing = error.name or place
        raise Failure(
            MISSING,
            f"the Python of the environment, {sys.executable}, cannot import {missing} ({error});"
            f" run from the folder it lies in, or install it: {sys.executable} -m pip install"
            f" {missing.partition('.')[0]}",
        ) from None
    function = getattr(module, name, None)
    if callable(function):
        return function
    known = sorted(key for key, value in vars(module).items() if callable(value))
    raise Failure(REFUSED, f"{place} has no function {name!r}; it has {known}")


def import_file(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    if not os.path.isfile(path) or spec is None or spec.loader is None:
        raise Failure(REFUSED, f"no such file: {os.path.abspath(path)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def adapt(env: Any, factory: str) -> GymEnv | DmEnv:
    if hasattr(env, "action_spec") and hasattr(env, "observation_spec"):
        return DmEnv(env)
    if hasattr(env, "action_space") and hasattr(env, "observation_space"):
        return GymEnv(env)
    kind = type(env).__name__
    raise Failure(
        REFUSED, f"{factory} returned a {kind}, expected an environment of gym, gymnasium or dm_env"
    )


# Serving


class Server:
    """Answers requests until told to stop or until nobody asks any more."""

    def __init__(self, requests: int, answers: int, memory: int) -> None:
        self.requests, self.answers, self.memory = requests, answers, memory
        self.env: Any = None
        self.action: Any = None
        self.leaves: list[Leaf] = []
        self.commands = {b"b": self.build, b"r": self.reset, b"s": self.step}

    def serve(self) -> None:
        while True:
            head = os.read(self.requests, REQUEST.size)
            if not head:
                break
            command, size = REQUEST.unpack(head)
            if command == b"q":
                break
            self.handle(command, json.loads(read_all(self.requests, size)) if size else {})
        if self.env is not None:
            self.env.env.close()

    def handle(self, command: bytes, values: dict[str, Any]) -> None:
        try:
            self.answer(OK, *self.commands[command](**values))
        except Failure as failure:
            self.answer(failure.status, str(failure))
        except Exception:
            self.answer(RAISED, traceback.format_exc())

    def answer(
        self,
        status: bytes,
        text: str = "",
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        payload = text.encode("utf-8", "replace")
        head = ANSWER.pack(status, len(payload), reward, terminated, truncated)
        write_all(self.answers, head + payload)

    def build(self, factory: str, kwargs: dict[str, Any]) -> tuple[str]:
        """Call the factory; answer with what travels where in the shared memory."""
        self.env = adapt(load(factory)(**kwargs), factory)
        observation, action = self.env.spaces
        self.leaves, actions = list(leaves_of(observation)), list(leaves_of(action))
        if len(actions) != 1:
            parts = [leaf.key for leaf in actions]
            raise Failure(
                REFUSED,
                f"the action space has the parts {parts}; expected one Box, Discrete, MultiDiscrete"
                " or MultiBinary: choose among them in the factory",
            )
        self.action = actions[0]
        end = PAGE
        for leaf in [*self.leaves, self.action]:
            end = leaf.place(end)
        os.ftruncate(self.memory, end)
        memory = mmap.mmap(self.memory, end)
        for leaf in [*self.leaves, self.action]:
            leaf.map(memory)
        layout = {
            "size": end,
            "observation": [leaf.to_json() for leaf in self.leaves],
            "action": self.action.to_json(),
        }
        return (json.dumps(layout),)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[str]:
        if seed is not None:  # many old environments draw from the global generators
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
        obs, info = self.env.reset(seed, options)
        self.write(obs)
        return (self.info(info),)

    def step(self) -> tuple[str, float, bool, bool]:
        obs, reward, terminated, truncated, info = self.env.step(self.action.read())
        self.write(obs)
        if np.shape(reward) or isinstance(reward, (str, bytes, type(None))):
            raise Failure(BREACH, f"reward is {reward!r}, expected one number")
        return self.info(info), float(reward), bool(terminated), bool(truncated)

    def write(self, obs: Any) -> None:
        for leaf in self.leaves:
            value = obs
            for part in leaf.path:
                if not isinstance(value, Mapping) or part not in value:
                    there = sorted(value) if isinstance(value, Mapping) else type(value).__name__
                    raise Failure(BREACH, f"observation {leaf.key!r} is missing; returned: {there}")
                value = value[part]
            leaf.write(value)

    def info(self, info: Mapping[str, Any]) -> str:
        """Keep what is one number, flag or text: nothing else fits into JSON safely."""
        kept: dict[str, Any] = {}
        for key, value in info.items():
            if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
                value = value.item()
            if isinstance(value, (bool, int, float, str)):
                kept[str(key)] = value
        return json.dumps(kept) if kept else ""


def read_all(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def watch_parent(parent: int) -> None:
    """End with everything this process started once nobody is there to ask for it."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    *fds, parent = map(int, sys.argv[2:6])
    for fd in fds:  # what the environment starts must not keep the pipes open
        os.set_inheritable(fd, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # asked for when an answer is late
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    Server(*fds).serve()


if __name__ == "__main__":
    main()
