"""Words that all suites share."""

from dataclasses import dataclass

import pytest

from reverie_envs.suites import protocol_id, unknown_task


@dataclass
class Options:
    size: int = 64
    sticky: float = 0.0


def test_an_unknown_task_names_the_nearest():
    error = unknown_task("pnog", "atari100k", ["pong", "boxing"])
    assert error.args[0] == "unknown task 'pnog' of suite 'atari100k'; did you mean pong?"


def test_without_a_near_one_it_names_all():
    assert unknown_task("zzz", "toy", ["multi", "catch"]).args[0].endswith("known: catch, multi")


@pytest.mark.parametrize(
    ("options", "name"),
    [(Options(), "x-v1"), (Options(sticky=0.25), "x-v1-sticky=0.25")],
)
def test_a_protocol_id_names_the_options_that_were_changed(options, name):
    assert protocol_id("x-v1", options) == name
