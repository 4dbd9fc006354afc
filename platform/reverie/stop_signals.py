"""Signals that ask a run to end: the first is noted and looked at, a second one ends the process.

Nothing is ever raised out of a handler: whatever it interrupts would be left half done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
SAME_S = 0.2
"""Seconds within which a further signal is the first one again: `timeout`, and a terminal that
closes, send theirs to the process and to its group.
"""
SHOW_CURSOR = "\x1b[?25h\n"
ShouldStop = Callable[[], bool]
"""Asked between two steps of anything long, whether to leave it there."""


def never() -> bool:
    """The `ShouldStop` of whom nobody stops."""
    return False


def exit_code(number: int) -> int:
    """What a process ends with that a signal ended, as shells have it."""
    return 128 + number


def before_anything(number: int) -> str:
    return f"stopped by {signal.Signals(number).name} before anything began"


class StopSignals:
    """Takes SIGINT, SIGTERM, SIGUSR1 and SIGHUP while its context lasts; it may be entered again.

    Python hands signals to its main thread only; elsewhere the context does nothing. A SIGHUP that
    is ignored (`nohup`) stays so.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        """The signal that asked the run to end."""
        self.waits = False
        """Somebody looks at `first` and saves; before that the first signal ends the process."""
        self.last_words: Callable[[int], str] = before_anything
        """What to say at once of a process that a signal ends, once what is in the way is gone."""
        self._depth, self._at = 0, 0.0
        self._previous: dict[int, signal.Handlers | Callable[..., object] | int | None] = {}

    def __enter__(self) -> StopSignals:
        self._depth += 1
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if not self._depth:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous = {}

    @property
    def is_listening(self) -> bool:
        return bool(self._previous)

    def listen(self) -> None:
        """Take the signals, again where another took them meanwhile: Ray does as it starts."""
        if not self._depth or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            previous = signal.signal(number, self._note)
            self._previous.setdefault(number, previous)

    def told(self) -> bool:
        """Whether a signal asked the run to end."""
        return self.first is not None

    def end(self, number: int) -> NoReturn:
        """End the process at once, with its last words; what Ray started for it ends with it."""
        try:
            text = f"reverie: {self.last_words(number)}\n"
            with contextlib.suppress(OSError):  # the terminal may be what went
                os.write(2, ((SHOW_CURSOR if os.isatty(2) else "") + text).encode())
        finally:
            os._exit(exit_code(number))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.waits:
            self.end(number)
        now = time.monotonic()
        if self.first is None:
            self.first, self._at = number, now
        elif now - self._at > SAME_S:
            self.end(number)
