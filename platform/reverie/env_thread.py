"""Runs the calls of environments in a thread of their own, with a time limit."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any


class EnvTimeout(RuntimeError):
    """An environment did not come back in time; the message shows where it hangs."""


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

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` there and wait for it.

        Raises:
            EnvTimeout: it took longer than the limit; the thread is lost.
        """
        self._calls.put(function)
        try:
            result, error = self._results.get(timeout=self._timeout_s or None)
        except queue.Empty:
            self.is_lost = True
            raise EnvTimeout(self._where_it_hangs()) from None
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

    def _where_it_hangs(self) -> str:
        frame = sys._current_frames().get(  # pyright: ignore[reportPrivateUsage]
            self._thread.ident or 0
        )
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        return f"no answer within env.step_timeout_s={self._timeout_s:g} s; it hangs at:\n{stack}"
