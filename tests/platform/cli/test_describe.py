"""`reverie describe`: the numbers a configuration stands for."""

from __future__ import annotations

import json
import re

import pytest

from reverie import registry
from reverie.cli.describe import describe, describe_text, list_algorithms
from reverie.config import load_config, resolve_config
from tests.conftest import ROOT
from tests.fakes import tree


def test_counts_ratio_and_budget_of_a_small_agent() -> None:
    found = describe(resolve_config(tree(learner__pretrain=10)))
    assert json.loads(json.dumps(found)) == found
    assert found["modules"] == {"policy": 2 * 3 + 3}
    assert found["total"] == 9
    assert found["observations"] == {"image": "uint8 [8, 8, 3]", "count": "float32 [2]"}
    assert found["action"] == "discrete [3]"
    assert found["ratio"] == {"trained_steps_per_env_step": 4.0, "updates_per_env_step": 0.2}
    # 360 steps after the prefill at 4 trained steps each, 20 per update, and 10 updates before.
    assert found["budget"]["updates"] == 360 * 4 // 20 + 10
    assert found["budget"]["env_frames"] == found["budget"]["env_steps"] == 400


def test_the_announced_updates_are_those_that_the_run_makes(tmp_path) -> None:
    from reverie.env_factory import spaces_of
    from reverie.local_run import LocalRun

    config = resolve_config(tree(run__env_steps=133, learner__pretrain=2))
    run = LocalRun(config, spaces_of(config.env), tmp_path)
    while not run.step().finished:
        pass
    assert run.learner.version.grad_updates == describe(config)["budget"]["updates"]


def test_rates_follow_the_first_stream() -> None:
    found = describe(resolve_config(tree("TwoStreams")))
    assert found["ratio"]["updates_per_env_step"] == 1.0
    assert found["streams"]["segments"] == {
        "batch_size": 2,
        "batch_length": 12,
        "context": 0,
        "sampler": "uniform",
        "every": 3,
    }


def test_atari_100k_is_a_hundred_thousand_steps_and_four_hundred_thousand_frames() -> None:
    pytest.importorskip("ale_py")
    path = ROOT / "tune_configs/dreamerv3/atari100k.yaml"
    found = describe(load_config(path, ["algorithm.size=tiny"]))
    assert found["budget"]["env_steps"] == 100_000
    assert found["budget"]["env_frames"] == 400_000
    assert found["evaluation"]["episodes"] == 100
    assert found["total"] == sum(found["modules"].values())
    assert "(slow copy)" in describe_text(found)


def test_the_text_shows_what_the_numbers_are() -> None:
    text = describe_text(describe(resolve_config(tree())))
    for words in ("tests.fakes:Plain on tests.fakes:Counting/count", "trainable", "total", "400"):
        assert words in text


def test_no_word_stands_beside_itself_and_no_whole_number_has_decimals() -> None:
    text = describe_text(describe(resolve_config(tree(learner__training_ratio=1024))))
    assert re.search(r"trained_steps_per_env_step +1,024$", text, re.M)
    assert re.search(r"updates_per_env_step +51\.2$", text, re.M)
    assert re.search(r"actions +a sample of the policy$", text, re.M)
    assert not re.search(r"(\b\w+) +\1$", text, re.M)


def test_the_list_of_algorithms_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "dreamer_of_a_plug_in"
    monkeypatch.setattr(registry, "algorithm_names", lambda: {**registry.ALGORITHMS, name: ""})
    found = registry.algorithm
    monkeypatch.setattr(registry, "algorithm", lambda n: found("drqv2" if n == name else n))
    lines = list_algorithms().splitlines()
    assert max(map(len, lines)) <= 80
    column = next(line for line in lines if line.startswith("dreamerv2")).index("DreamerV2:")
    assert column > len(name)
    assert {line[column - 1] for line in lines} == {" "}
    assert all(line[column] != " " for line in lines)


@pytest.mark.parametrize("name", registry.ALGORITHMS)
def test_algorithms_are_listed_with_paper_sizes_and_variants(name: str) -> None:
    found, agent = list_algorithms(), registry.algorithm(name)
    own = re.split(rf"^{name} ", found, flags=re.M)[1]
    own = re.split(r"^\S", own, flags=re.M)[0]
    assert agent.PAPER in own
    assert f"sizes: {', '.join(agent.SIZES)}" in own
    assert ("HarmonyDream: algorithm.harmony.mode=paper" in own) == ("dreamer" in name)


@pytest.mark.parametrize(
    ("preset", "updates"),
    [
        ("dreamerv3/atari100k", 1.0),
        ("dreamerv3/atari100k_2025", 0.25),
        ("dreamerv2/metaworld", 0.2),
        ("dreamerv2/dmc_vision", 0.2),
        ("drqv2/dmc_medium", 0.5),
    ],
)
def test_presets_make_the_published_number_of_updates_per_env_step(preset, updates) -> None:
    config = load_config(ROOT / f"tune_configs/{preset}.yaml")
    assert describe(config)["ratio"]["updates_per_env_step"] == updates
