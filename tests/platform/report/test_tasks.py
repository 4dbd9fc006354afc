"""Names of tasks in all spellings, their references, and published figures."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.errors import ConfigError
from reverie.report.tasks import (
    PUBLISHED,
    label,
    name_task,
    name_tasks,
    published,
    references,
    scores,
)


@pytest.mark.parametrize(
    "task",
    [
        *("james_bond", "jamesbond", "Jamesbond", "ALE/Jamesbond-v5", "JamesbondNoFrameskip-v4"),
        *("atari_jamesbond", "atari100k/jamesbond", "JamesbondDeterministic-v0"),
    ],
)
def test_spellings_of_a_game(task: str) -> None:
    assert name_tasks([task], "x")[task] == ("atari100k", "jamesbond")
    assert name_task("atari100k", task) == "jamesbond"


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ("dmc_walker_walk", ("dmc", "walker_walk")),
        ("walker-walk", ("dmc", "walker_walk")),
        ("lever_pull", ("metaworld", "lever-pull")),
        ("lever-pull-v2", ("metaworld", "lever-pull")),
        ("crafter_reward", ("crafter", "reward")),
        ("UpNDown", ("atari100k", "up_n_down")),
        ("my_robot", (None, "my_robot")),
    ],
)
def test_tasks_of_other_suites(task: str, named: tuple[str | None, str]) -> None:
    assert name_tasks([task], "x")[task] == named


def test_an_unknown_task_among_known_ones_is_named_with_aliases() -> None:
    with pytest.raises(ConfigError) as caught:
        name_tasks(["pong", "ms_pacmann"], "a.json")
    assert str(caught.value) == (
        "a.json: unknown task 'ms_pacmann' of atari100k; did you mean ms_pacman?"
        " Spellings such as mspacman, MsPacman, ALE/MsPacman-v5 are taken too"
    )


def test_scores_are_human_normalised_on_atari_and_scaled_elsewhere() -> None:
    assert references("atari100k", "pong") == (-20.7, 14.6)
    assert scores("atari100k", "pong", np.array([-20.7, 14.6])).tolist() == [0, 1]
    assert scores("dmc", "walker_walk", np.array([500.0])).tolist() == [0.5]
    assert scores("metaworld", "reach", np.array([0.5])).tolist() == [0.5]
    assert scores(None, "my_robot", np.array([7.0])).tolist() == [7]


def test_labels_are_for_readers() -> None:
    assert [label(task) for task in ("ms_pacman", "lever-pull", "toy/catch")] == [
        "Ms Pacman",
        "Lever Pull",
        "toy/catch",
    ]


def test_published_figures_say_where_they_are_from() -> None:
    assert published(["dmc"]) == ()
    assert published(["atari100k"]) == PUBLISHED
    assert all(one.source and one.origin in ("reported", "recomputed") for one in PUBLISHED)
    names = " ".join(one.name for one in PUBLISHED)
    for name in ("BBF", "EfficientZero V2", "TWISTER", "DIAMOND", "Simulus", "EAWM", "HarmonyDr"):
        assert name in names
