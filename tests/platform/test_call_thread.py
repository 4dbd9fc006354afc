"""Calls come back in time, or say where they hang; one thread runs them all."""

from __future__ import annotations

import threading
import time

import pytest

from reverie.call_thread import CallThread, CallTimeout


def test_a_call_that_takes_too_long_names_the_place_where_it_hangs() -> None:
    thread = CallThread(0.2, "env.step_timeout_s")
    limit = r"no answer within 0\.2 s \(env\.step_timeout_s=0\.2\); it hangs at"
    with pytest.raises(CallTimeout, match=limit) as error:
        thread.call(hang_here)
    message = str(error.value)
    assert "in hang_here" in message
    assert message.count("  File ") == 1
    assert thread.is_lost


def hang_here() -> None:
    time.sleep(5)


def test_an_error_in_the_thread_arrives_as_it_was_raised() -> None:
    thread = CallThread(5.0)
    with pytest.raises(KeyError, match="lost"):
        thread.call(lambda: {}["lost"])
    assert thread.call(lambda: 3) == 3
    thread.stop()


def test_one_call_may_take_longer_than_the_limit() -> None:
    thread = CallThread(0.05)
    assert thread.call(lambda: time.sleep(0.2) or "slow", at_least_s=5.0) == "slow"
    thread.stop()


def test_all_calls_run_in_one_other_thread() -> None:
    thread = CallThread(5.0)
    idents = {thread.call(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents
    thread.stop()


def test_what_a_call_raised_may_be_handed_back_beside_what_it_returned() -> None:
    thread = CallThread(5.0)
    assert thread.outcome(lambda: 3) == (3, None)
    nothing, error = thread.outcome(lambda: 1 // 0)
    assert (nothing, type(error)) == (None, ZeroDivisionError)
    thread.stop()
