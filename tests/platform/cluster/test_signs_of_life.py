"""Who is silent, and who could not be heard."""

from __future__ import annotations

import pytest

from reverie.cluster.fleet import Key
from reverie.cluster.signs_of_life import STOPPED_S, Listener

LEARNER = Key("learner", 0)


def look(
    listener: Listener, now: float, heard: float | None, ready: float = 1.0, since: float = 1.0
) -> float:
    signs = {} if heard is None else {LEARNER: heard}
    return listener.silent(signs, {LEARNER: ready}, since, now)[LEARNER]


@pytest.fixture
def listener() -> Listener:
    """One that has looked for 40 seconds."""
    listener = Listener()
    for now in range(1, 41):
        look(listener, float(now), 0.0)
    return listener


@pytest.mark.parametrize(
    ("heard", "ready", "since", "silent"),
    [
        pytest.param(12.0, 1.0, 1.0, 12.0, id="since its last sign"),
        pytest.param(None, 1.0, 1.0, 40.0, id="it never gave one"),
        pytest.param(None, 1.0, 30.0, 11.0, id="none to this coordinator"),
        pytest.param(25.0, 38.0, 1.0, 3.0, id="that was the part before"),
    ],
)
def test_silence_begins_when_a_sign_could_have_been_heard(
    listener: Listener, heard: float | None, ready: float, since: float, silent: float
) -> None:
    assert look(listener, 41.0, heard, ready, since) == silent


def test_signs_that_waited_beside_a_stopped_coordinator_are_waited_for(listener: Listener) -> None:
    late = 40.0 + STOPPED_S + 60.0
    assert look(listener, late, 70.0) == 0.0
    assert look(listener, late + 5.0, 75.0) == 5.0
