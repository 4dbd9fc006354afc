from __future__ import annotations

from datetime import date

import pytest
import yaml

from reverie.config import load_config, resolve_config
from reverie.config_check import shown
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
        ("eval.env.length", "x", "eval.env.length: expected a whole number, got 'x'"),
        ("eval.env", "toy/catch", "eval.env: expected a mapping, got 'toy/catch'"),
        ("env.task", "cuont", "env.task: unknown task 'cuont' of tests.fakes:Counting; did you"),
        ("env.suite", "atari", "unknown environment suite 'atari'; did you mean atari100k?"),
        ("algorithm.name", "dreamer", "unknown algorithm 'dreamer'; did you mean dreamerv"),
        ("seed", 0.5, "seed: expected a whole number from 0 to 9_223_372_036_854_775_807, got 0.5"),
        ("seed", "x", "seed: expected a whole number"),
        ("learner.batch_size", "8", "learner.batch_size: expected a whole number from 1 to"),
        (
            "learner.batch_size",
            0,
            "expected a whole number from 1 to 65_536, got 0",
        ),
        ("learner", 3, "learner: expected a mapping of keys, got 3"),
        ("learner.training_ratio", float("inf"), "expected a finite number of 0 or more, got inf"),
        ("run.checkpoint_every_s", float("nan"), "expected a number from 0 to 1e9, got nan"),
        ("run.prefill", 401, "run.prefill: expected at most the 400 of run.env_steps, got 401"),
        ("env.delay_s", float("nan"), "env.delay_s: expected a finite number, got nan"),
        ("replay.capacity", 1e300, "expected a whole number from 1 to 1_000_000_000_000, got 1e+3"),
        ("run.env_steps", 10**400, "run.env_steps: expected a number below 1e308, got one of 13"),
        ("run.dir", date(2020, 1, 1), "run.dir: expected text, a number, a list or a mapping, got"),
        ("run.dir", "a\0b", "run.dir: expected printable text, got 'a\\x00b'"),
        ("init.modules", ["a", 1], "init.modules.1: expected text, got 1"),
        ("algorithm.name", "os:system", "algorithm.name: os:system: expected the class of an alg"),
        ("algorithm.name", "tests.fakes:Counting", "Counting is no algorithm: it lacks config_d"),
        ("env.suite", "os:path", "env.suite: os:path: expected the class of an environment suite"),
        ("env.suite", ":path", "env.suite: :path: expected <module>:<name>, got ':path'"),
        ("env.suite", "..a:path", "env.suite: ..a:path: expected <module>:<name>"),
        ("resources.num_learners", 2, "resources.num_learners: expected 1, got 2"),
    ],
)
def test_mistakes_are_named_with_their_full_path(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config(apply_overrides(tree(), {key: value}))
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["env", "env.task", "algorithm.name", "algorithm.size", "seed"])
def test_a_number_that_python_does_not_write_out_is_refused_wherever_it_stands(key: str) -> None:
    message = f"^{key}: expected a number below 1e308, got one of 16610 bits$"
    with pytest.raises(ConfigError, match=message):
        load_config("dreamerv3/catch", {key: 10**5000})
    with pytest.raises(ConfigError, match=message.replace(":", r"\.0\.a:")):
        resolve_config(apply_overrides({}, {}) | {key: [{"a": 10**5000}]})
    assert shown([10**5000]) == "[<one of 16610 bits>]"


def test_sizes_and_dialects_are_names_even_where_they_look_like_numbers() -> None:
    path = ROOT / "tune_configs/dreamerv3/catch_2025.yaml"
    assert load_config(path, ["algorithm.dialect=2025"]).algorithm.dialect == "2025"
    with pytest.raises(ConfigError, match="unknown dialect '2024' of dreamerv3"):
        load_config(path, ["algorithm.dialect=2024"])
    with pytest.raises(ConfigError, match=r"^algorithm\.size: expected one of"):
        load_config(path, ["algorithm.size=200"])


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"name": "dreamerv3", "rssm": {"stoch": -1}}, "rssm.stoch: expected a whole number from"),
        ({"name": "dreamerv3", "rssm": {"unimix": 2}}, "rssm.unimix: expected a number from 0 to"),
        ({"name": "dreamerv3", "rssm": 3}, "rssm: expected a mapping of keys, got 3"),
        ({"name": "dreamerv3", "gamma": float("nan")}, "gamma: expected a number from 0 to 1, go"),
        ({"name": "dreamerv3", "return_low": 0.95}, "return_low: expected less than return_high,"),
        ({"name": "dreamerv3", "actor_min_std": 2}, "actor_min_std: expected at most actor_max_s"),
        ({"name": "dreamerv3", "dialect": "2025", "rssm": 3}, "rssm: expected a mapping of keys"),
        ({"name": "dreamerv2", "horizon": 1}, "horizon: expected a whole number from 2 to 1_000,"),
        ({"name": "dreamerv2", "harmony": {"sigma": {"kl": 0}}}, "harmony.sigma.kl: expected a n"),
        ({"name": "drqv2", "stack": 0}, "stack: expected a whole number from 1 to 64, got 0"),
    ],
)
def test_values_that_no_algorithm_could_use_are_refused(algorithm, message) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.{message}"):
        resolve_config(tree() | {"algorithm": algorithm})


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
    with pytest.raises(ConfigError, match=r"algorithm.batch_size: expected a whole number"):
        resolve_config(tree() | {"algorithm": algorithm | {"batch_size": 0}})
    with pytest.raises(ConfigError, match=r"replay.capacity: expected at least 9 rows, got 8"):
        resolve_config(tree(replay__capacity=8) | {"algorithm": algorithm})
