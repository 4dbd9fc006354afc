"""Each reason for an empty replay names the key that helps."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reverie.config import resolve_config
from reverie.protocols import StreamSpec
from reverie.starvation import reason
from tests.fakes import tree


@pytest.mark.parametrize(
    ("sampler", "longest", "settings", "wanted"),
    [
        ("episodes", 8, {}, "learner.batch_length: .* had 9 rows; write learner.batch_length=7 or"),
        ("episodes", 0, {}, "run.env_steps: .* none has ended yet; put a gymnasium.*TimeLimit"),
        ("episodes", 99, {"replay__capacity": 60}, "replay.capacity: .*=100 or more"),
        ("episodes", 50, {}, "run.env_steps: .* only just ended"),
        ("uniform", 8, {}, "learner.batch_length: .* each of 3 environments .* rebuilt"),
    ],
)
def test_the_reason_names_the_key_that_helps(
    sampler: Any, longest: int, settings: dict[str, Any], wanted: str
) -> None:
    config = resolve_config(tree(resources__envs_per_worker=3, **settings))
    specs = {"replay": StreamSpec(4, 18, context=2, sampler=sampler)}
    assert re.match(wanted, reason(config, specs, 1000, longest))
