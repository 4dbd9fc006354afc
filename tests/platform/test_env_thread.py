"""Calls into environments come back in time, or say where they hang."""

from __future__ import annotations

import time

import pytest

from reverie.env_thread import EnvThread, EnvTimeout


def test_a_call_that_takes_too_long_names_the_place_where_it_hangs() -> None:
    thread = EnvThread(0.2)
    with pytest.raises(EnvTimeout, match=r"within 0\.2 s .*; it hangs at") as error:
        thread.call(hang_here)
    message = str(error.value)
    assert "in hang_here" in message
    assert message.count("  File ") == 1
    assert thread.is_lost


def hang_here() -> None:
    time.sleep(5)


def test_an_error_in_the_env_thread_arrives_as_it_was_raised() -> None:
    thread = EnvThread(5.0)
    with pytest.raises(KeyError, match="lost"):
        thread.call(lambda: {}["lost"])
    assert thread.call(lambda: 3) == 3
    thread.stop()


def test_one_call_may_take_longer_than_the_limit() -> None:
    thread = EnvThread(0.05)
    assert thread.call(lambda: time.sleep(0.2) or "slow", at_least_s=5.0) == "slow"
    thread.stop()
