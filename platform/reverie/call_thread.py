"""Runs calls in a thread of their own, with a time limit: what an environment does may hang."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

PASS_ON = (
    *(__name__, "reverie.env_factory", "reverie.cli.film"),
    *("reverie_envs.vector", "reverie_envs.wrappers", "gymnasium.core", "gymnasium.wrappers"),
    *("threading", "contextlib"),
)
"""Modules that only hand the calls of an environment on, or check what it returned."""


class CallTimeout(RuntimeError):
    """A call did not come back in time; the message shows where it hangs."""


class CallThread:
    """A daemon thread that runs calls in order; a hung one does not keep Python from ending.

    Environments live in it from their construction on: some bind graphics contexts to a thread.

    Args:
        limit_s: seconds that one call may take; 0 sets no limit.
        setting: the configuration key the limit comes from, for the message.
    """

    def __init__(self, limit_s: float, setting: str = "") -> None:
        self.limit_s, self.is_lost = limit_s, False
        self._setting = setting
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="calls", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T], at_least_s: float = 0.0) -> T:
        """Run `function` there and wait for it, `at_least_s` seconds where the limit is lower.

        Raises:
            CallTimeout: it took longer than the limit; the thread is lost.
            BaseException: what `function` raised.
        """
        found = self.outcome(function, at_least_s)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def outcome(
        self, function: Callable[[], T], at_least_s: float = 0.0
    ) -> tuple[T, None] | tuple[None, BaseException]:
        """As `call`, but hands back what `function` raised beside what it returned.

        Raises:
            CallTimeout: it took longer than the limit; the thread is lost.
        """
        results: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]]
        results = queue.SimpleQueue()

        def run() -> None:
            try:
                results.put((function(), None))
            except BaseException as error:  # handed to the caller, whatever it is
                results.put((None, error))

        self._calls.put(run)
        limit_s = max(self.limit_s, at_least_s) if self.limit_s else None
        try:
            return results.get(timeout=limit_s)
        except queue.Empty:
            self.is_lost = True
            raise CallTimeout(self._where_it_hangs(limit_s)) from None

    def stop(self) -> None:
        """Let the thread end once it is free."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            function()

    def _where_it_hangs(self, limit_s: float | None) -> str:
        frame = sys._current_frames().get(  # pyright: ignore[reportPrivateUsage]
            self._thread.ident or 0
        )
        stack = reversed(list(traceback.walk_stack(frame))) if frame else ()
        source = f" ({self._setting}={self.limit_s:g})" if self._setting else ""
        return f"no answer within {limit_s:g} s{source}; it hangs at:\n{_listed(stack)}"


def own_traceback(error: BaseException) -> str:
    """The traceback of `error` from where the code of the environment itself begins."""
    shown = _listed(traceback.walk_tb(error.__traceback__))
    return shown + "".join(traceback.format_exception_only(error))


def _listed(frames: Iterable[tuple[FrameType, int]]) -> str:
    own = [frame for frame in frames if not _passes_on(frame[0].f_globals.get("__name__", ""))]
    return "".join(traceback.format_list(traceback.StackSummary.extract(own)))


def _passes_on(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PASS_ON)
