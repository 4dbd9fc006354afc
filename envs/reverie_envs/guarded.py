"""Calls into an environment with a time limit, in a thread of their own."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from reverie_envs.wrappers import ContractError


class CallFailed(RuntimeError):
    """The environment raised."""


class CallHung(RuntimeError):
    """The environment did not answer in time; its thread is lost, so nothing more can be tried."""


class Guarded(gymnasium.Wrapper):  # type: ignore[type-arg]
    """Runs the calls of `env` in `thread`."""

    def __init__(self, env: gymnasium.Env[Any, Any], thread: CallThread) -> None:
        super().__init__(env)
        self._thread = thread

    def reset(self, **kwargs: Any) -> Any:
        return self._thread.call("reset", lambda: self.env.reset(**kwargs))

    def step(self, action: Any) -> Any:
        return self._thread.call("step", lambda: self.env.step(action))

    def close(self) -> None:
        self._thread.call("close", self.env.close)


class CallThread:
    """One daemon thread that runs calls in order; a hung one does not keep Python from ending.

    It is the same thread for all calls because OpenGL contexts belong to the thread that made
    them.
    """

    def __init__(self, limit_s: float) -> None:
        self.hung = False
        self._limit_s = limit_s
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def call(self, what: str, function: Callable[[], Any]) -> Any:
        """Wait for `function()`.

        Raises:
            CallFailed: it raised, with the place.
            CallHung: it took longer than the limit.
            ContractError: raised by a check within.
        """
        self._calls.put(function)
        try:
            value, error = self._answers.get(timeout=self._limit_s)
        except queue.Empty:
            self.hung = True
            raise CallHung(f"{what} did not return within {self._limit_s:g} s") from None
        if isinstance(error, ContractError):
            raise error
        if error is not None:
            raise CallFailed(f"{what} raised {_describe(error)}") from error
        return value

    def stop(self) -> None:
        """Let the thread end once it is free."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                self._answers.put((function(), None))
            except BaseException as error:
                self._answers.put((None, error))


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return f"{type(error).__name__}: {text}{place}"
