"""Calls that fail or hang are named."""

import threading
import time

import pytest

from reverie.call_thread import CallThread
from reverie_envs.guarded import CallFailed, CallHung, ask
from reverie_envs.wrappers import ContractError


def test_an_exception_comes_with_its_place():
    with pytest.raises(CallFailed, match=r"step raised ZeroDivisionError: .*test_guarded.py:\d+"):
        ask(CallThread(5), "step", lambda: 1 // 0)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_shown_is_named():
    def fail():
        raise Unprintable

    with pytest.raises(CallFailed, match="step raised Unprintable: it cannot be shown"):
        ask(CallThread(5), "step", fail)


def test_a_call_may_take_longer_than_the_limit_where_that_is_said():
    assert ask(CallThread(0.05), "make", lambda: time.sleep(0.2), at_least_s=10) is None


def test_a_contract_error_comes_as_it_is():
    def breach():
        raise ContractError("shape")

    with pytest.raises(ContractError, match=r"^shape$"):
        ask(CallThread(5), "step", breach)


def test_a_call_that_hangs_is_reported():
    thread, gate = CallThread(0.1), threading.Event()
    with pytest.raises(CallHung, match=r"reset did not return within 0\.1 s"):
        ask(thread, "reset", gate.wait)
    assert thread.is_lost
    gate.set()
