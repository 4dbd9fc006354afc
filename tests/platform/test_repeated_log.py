"""The same warning comes once, with a count later."""

from __future__ import annotations

import logging
from io import StringIO

import pytest

from reverie.repeated_log import OncePerWindow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("reverie.repeated_log.time.monotonic", lambda: now[0])
    return now


def logger_of(handler: OncePerWindow) -> tuple[logging.Logger, StringIO]:
    stream = StringIO()
    handler.setStream(stream)
    logger = logging.Logger("some.part")
    logger.addHandler(handler)
    return logger, stream


def test_the_same_warning_is_shown_once_and_counted(clock: list[float]) -> None:
    handler = OncePerWindow()
    logger, stream = logger_of(handler)
    for _ in range(72):
        logger.warning("shard %d is away", 0)
        clock[0] += 4 / 72
    logger.warning("shard %d is away", 1)
    assert stream.getvalue().splitlines() == ["shard 0 is away", "shard 1 is away"]
    handler.tell_held()
    handler.tell_held()
    assert stream.getvalue().splitlines()[2:] == ["shard 0 is away (again, 71 times in 4 s)"]


def test_what_goes_on_is_shown_again_with_its_count(clock: list[float]) -> None:
    logger, stream = logger_of(OncePerWindow(window_s=10))
    for _ in range(4):
        logger.error("full disk")
        clock[0] += 5
    assert stream.getvalue().splitlines() == [
        "full disk",
        "full disk (again, 2 times in 10 s)",
    ]


def test_progress_may_repeat_itself() -> None:
    logger, stream = logger_of(OncePerWindow())
    for _ in range(3):
        logger.info("evaluation")
    assert stream.getvalue() == "evaluation\n" * 3
