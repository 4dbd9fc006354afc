from __future__ import annotations

import pytest
import yaml

from reverie.config import load_config, resolve_config
from reverie.config_tree import apply_overrides
from reverie.errors import ConfigError
from reverie.policy import make_agent
from reverie.types import ActionSpec, ArraySpec, Spaces
from tests.conftest import ROOT
from tests.fakes import tree


def test_a_resolved_configuration_is_enough_to_start_again() -> None:
    config = resolve_config(tree(seed=7, env__length=9))
    assert resolve_config(yaml.safe_load(config.to_yaml())) == config


def test_evaluations_may_differ_in_options_of_the_suite() -> None:
    config = resolve_config(tree(env__length=9, env__at=5, eval__env__length=4))
    assert (config.env.options.length, config.eval_env.options.length) == (9, 4)
    assert config.eval_env.options.at == 5
    assert config.to_dict()["eval"]["env"] == {"length": 4}
    assert resolve_config(yaml.safe_load(config.to_yaml())) == config


def test_without_options_of_their_own_evaluations_use_the_same_environment() -> None:
    config = resolve_config(tree(env__length=9))
    assert config.eval_env is config.env


def test_a_factory_replaces_suite_and_task_and_survives_the_round_trip() -> None:
    config = resolve_config(tree() | {"env": {"factory": "tests.fakes:CountingEnv"}})
    assert config.env.suite == "factory"
    assert config.env.task == "tests.fakes:CountingEnv"
    assert resolve_config(yaml.safe_load(config.to_yaml())) == config


def test_an_exponent_may_give_a_whole_number() -> None:
    assert resolve_config(apply_overrides(tree(), {"run.env_steps": 1e3})).run.env_steps == 1000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("algorithm.nan_ta", 1, "algorithm.nan_ta: unknown key; did you mean nan_at?"),
        ("learner.batchsize", 1, "learner.batchsize: unknown key; did you mean batch_size"),
        ("lerner.batch_size", 1, "lerner: unknown key; did you mean learner?"),
        ("env.lenght", 1, "env.lenght: unknown key; did you mean length?"),  # codespell:ignore
        ("eval.env.lengths", 1, "eval.env.lengths: unknown key; did you mean length?"),
        ("eval.env.length", "x", "eval.env.length: Input should be a valid integer, got 'x'"),
        ("eval.env", "toy/catch", "eval.env: Input should be an object, got 'toy/catch'"),
        ("env.task", "cuont", "env.task: unknown task 'cuont' of tests.fakes:Counting; did you"),
        ("env.suite", "atari", "unknown environment suite 'atari'; did you mean atari100k?"),
        ("algorithm.name", "dreamer", "unknown algorithm 'dreamer'; did you mean dreamerv"),
        ("seed", 0.5, "seed: Input should be a valid integer, got 0.5"),
        ("seed", "x", "seed: Input should be a valid integer"),
        ("learner.batch_size", "8", "learner.batch_size: Input should be a valid integer"),
        ("learner.batch_size", 0, "learner.batch_size: expected at least 1, got 0"),
        ("learner", 3, "learner: expected a mapping of keys, got 3"),
        ("resources.num_learners", 2, "resources.num_learners: expected 1, got 2"),
    ],
)
def test_mistakes_are_named_with_their_full_path(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config(apply_overrides(tree(), {key: value}))
    assert message in str(error.value)


def test_sizes_and_dialects_are_names_even_where_they_look_like_numbers() -> None:
    path = ROOT / "tune_configs/dreamerv3/catch_2025.yaml"
    assert load_config(path, ["algorithm.dialect=2025"]).algorithm.dialect == "2025"
    with pytest.raises(ConfigError, match="algorithm: unknown dialect '2024' of dreamerv3"):
        load_config(path, ["algorithm.dialect=2024"])
    with pytest.raises(ConfigError, match=r"^algorithm\.size: expected one of"):
        load_config(path, ["algorithm.size=200"])


@pytest.mark.parametrize(
    ("algorithm", "owner"),
    [
        ({"name": "dreamerv3", "dialect": "2025", "size": "small"}, "dreamerv3/2023"),
        ({"name": "dreamerv2", "size": "12m"}, "dreamerv3/2025"),
        ({"name": "dreamerv3", "size": 200}, "dreamerv2"),
    ],
)
def test_a_size_of_another_algorithm_says_whose_it_is(algorithm, owner) -> None:
    with pytest.raises(ConfigError, match=rf"algorithm.size: .*; '\w+' is a size of {owner}"):
        resolve_config(tree() | {"algorithm": algorithm})


def test_an_algorithm_may_set_its_own_batches() -> None:
    batches = {"batch_size": 2, "batch_length": 9}
    algorithm = {"name": "dreamerv3", "size": "tiny", **batches}
    config = resolve_config(tree() | {"algorithm": algorithm})
    spaces = Spaces({"proprio": ArraySpec((2,), "float32")}, ActionSpec("discrete", (2,)))
    for training in (True, False):
        agent = make_agent(config, spaces, seed=0, training=training, device="meta")
        (spec,) = agent.streams().values()
        assert (spec.batch_size, spec.batch_length) == (2, 9)
    with pytest.raises(ConfigError, match=r"algorithm.batch_size: expected at least 1, got 0"):
        resolve_config(tree() | {"algorithm": algorithm | {"batch_size": 0}})
    with pytest.raises(ConfigError, match=r"replay.capacity: expected at least 9 rows, got 8"):
        resolve_config(tree(replay__capacity=8) | {"algorithm": algorithm})
