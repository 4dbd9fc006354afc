"""Calls into an environment with a time limit, each named where it fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from reverie.call_thread import CallThread, CallTimeout
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
        return ask(self._thread, "reset", lambda: self.env.reset(**kwargs))

    def step(self, action: Any) -> Any:
        return ask(self._thread, "step", lambda: self.env.step(action))

    def close(self) -> None:
        ask(self._thread, "close", self.env.close)


def ask(thread: CallThread, what: str, function: Callable[[], Any], at_least_s: float = 0.0) -> Any:
    """Wait for `function()`, run in `thread`, `at_least_s` seconds where its limit is lower.

    Raises:
        CallFailed: it raised, with the place.
        CallHung: it took longer than the limit.
        ContractError: raised by a check within.
    """
    try:
        value, error = thread.outcome(function, at_least_s)
    except CallTimeout:
        limit_s = max(thread.limit_s, at_least_s)
        raise CallHung(f"{what} did not return within {limit_s:g} s") from None
    if isinstance(error, ContractError):
        raise error
    if error is not None:
        raise CallFailed(f"{what} raised {_describe(error)}") from error
    return value


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    except Exception:  # of its own __str__
        text = "it cannot be shown"
    return f"{type(error).__name__}: {text}{place}"
