"""Runs the calls of environments in a thread of their own, with a time limit."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

PASS_ON = (
    *(__name__, "reverie.env_factory", "reverie.cli.film"),
    *("reverie_envs.vector", "reverie_envs.wrappers", "gymnasium.core", "gymnasium.wrappers"),
    *("threading", "contextlib"),
)
"""Modules that only hand the calls of an environment on, or check what it returned."""


class EnvTimeout(RuntimeError):
    """An environment did not come back in time; the message shows where it hangs."""


class EnvFault(Exception):
    """An environment raised or hung; the text is its own traceback, the cause what it raised."""


class EnvThread:
    """A daemon thread that runs calls with a time limit.

    Environments live in it from their construction on: some bind graphics contexts to a thread.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self.is_lost = timeout_s, False
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="env", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any], at_least_s: float = 0.0) -> Any:
        """Run `function` there and wait for it, `at_least_s` seconds where the limit is lower.

        Raises:
            EnvTimeout: it took longer than the limit; the thread is lost.
        """
        self._calls.put(function)
        limit_s = max(self._timeout_s, at_least_s) if self._timeout_s else None
        try:
            result, error = self._results.get(timeout=limit_s)
        except queue.Empty:
            self.is_lost = True
            raise EnvTimeout(self._where_it_hangs(limit_s)) from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self._calls.put(None)

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                self._results.put((function(), None))
            except BaseException as error:  # handed to the caller, whatever it is
                self._results.put((None, error))

    def _where_it_hangs(self, limit_s: float | None) -> str:
        frame = sys._current_frames().get(  # pyright: ignore[reportPrivateUsage]
            self._thread.ident or 0
        )
        stack = reversed(list(traceback.walk_stack(frame))) if frame else ()
        return (
            f"no answer within {limit_s:g} s (env.step_timeout_s={self._timeout_s:g});"
            f" it hangs at:\n{_listed(stack)}"
        )


def own_traceback(error: BaseException) -> str:
    """The traceback of `error` from where the environment's own code begins."""
    shown = _listed(traceback.walk_tb(error.__traceback__))
    return shown + "".join(traceback.format_exception_only(error))


def _listed(frames: Iterable[tuple[FrameType, int]]) -> str:
    own = [frame for frame in frames if not _passes_on(frame[0].f_globals.get("__name__", ""))]
    return "".join(traceback.format_list(traceback.StackSummary.extract(own)))


def _passes_on(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PASS_ON)
