"""A log handler that shows the same warning once, and says later how often it came."""

from __future__ import annotations

import logging
import time
from typing import TextIO

WINDOW_S = 30.0
"""A message that comes again within so many seconds of its last showing is counted instead."""


class OncePerWindow(logging.StreamHandler[TextIO]):
    """Writes warnings and errors once per `window_s`; the next showing has the count.

    `tell_held` shows at the end what was counted and did not come again. Messages below warnings
    pass: progress may well repeat itself.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._window_s = window_s
        self._shown: dict[tuple[str, str], float] = {}
        """When a message was last shown, by logger and text."""
        self._held: dict[tuple[str, str], tuple[int, logging.LogRecord]] = {}
        """How often it came since, and as what."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return super().emit(record)
        key, now = (record.name, record.getMessage()), time.monotonic()
        if now - self._shown.get(key, -self._window_s) < self._window_s:
            self._held[key] = self._held.get(key, (0, record))[0] + 1, record
            return None
        since = now - self._shown.get(key, now)
        self._shown[key] = now
        count, _ = self._held.pop(key, (0, record))
        return super().emit(_counted(record, count + 1, since) if count else record)

    def tell_held(self) -> None:
        """Show the counts of what came again and was not shown since."""
        now = time.monotonic()
        for key, (count, record) in self._held.items():
            super().emit(_counted(record, count, now - self._shown[key]))
        self._held.clear()


def _counted(record: logging.LogRecord, count: int, seconds: float) -> logging.LogRecord:
    """The record, with how often it came."""
    text = f"{record.getMessage()} (again, {count} times in {seconds:.0f} s)"
    return logging.LogRecord(
        record.name, record.levelno, record.pathname, record.lineno, text, (), None
    )
