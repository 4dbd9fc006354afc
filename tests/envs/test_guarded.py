"""Calls with a time limit."""

import threading

import pytest

from reverie_envs.guarded import CallFailed, CallHung, CallThread
from reverie_envs.wrappers import ContractError


def test_all_calls_run_in_one_other_thread():
    thread = CallThread(5)
    idents = {thread.call("ask", threading.get_ident) for _ in range(3)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_an_exception_comes_with_its_place():
    with pytest.raises(CallFailed, match=r"step raised ZeroDivisionError: .*test_guarded.py:\d+"):
        CallThread(5).call("step", lambda: 1 // 0)


def test_a_contract_error_comes_as_it_is():
    def breach():
        raise ContractError("shape")

    with pytest.raises(ContractError, match=r"^shape$"):
        CallThread(5).call("step", breach)


def test_a_call_that_hangs_is_reported():
    thread, gate = CallThread(0.1), threading.Event()
    with pytest.raises(CallHung, match=r"reset did not return within 0\.1 s"):
        thread.call("reset", gate.wait)
    assert thread.hung
    gate.set()
