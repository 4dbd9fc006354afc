from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reverie.config import ConfigError, load_config, parse_value, resolve_config
from tests.conftest import ROOT
from tests.fakes import tree


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_resolved_configuration_is_enough_to_start_again() -> None:
    config = resolve_config(tree(seed=7, env__length=9))
    assert resolve_config(yaml.safe_load(config.to_yaml())) == config


def test_a_factory_replaces_suite_and_task_and_survives_the_round_trip() -> None:
    config = resolve_config(tree() | {"env": {"factory": "tests.fakes:CountingEnv"}})
    assert config.env.suite == "factory"
    assert config.env.task == "tests.fakes:CountingEnv"
    assert resolve_config(yaml.safe_load(config.to_yaml())) == config


def test_files_lie_over_their_base_and_overrides_over_files(tmp_path: Path) -> None:
    write(tmp_path / "low.yaml", yaml.safe_dump(tree(seed=1, run__prefill=50)))
    path = write(tmp_path / "high.yaml", "base: low.yaml\nseed: 2\nlearner: {batch_size: 6}\n")
    config = load_config(path, ["learner.batch_length=7"])
    learner = config.learner
    assert (config.seed, config.run.prefill) == (2, 50)
    assert (learner.batch_size, learner.batch_length) == (6, 7)


def test_env_shorthand_keeps_the_options_of_the_same_suite() -> None:
    low = resolve_config(tree(env__length=3, env__step_timeout_s=9.0)).to_dict()
    same = load_overridden(low, {"env": "tests.fakes:Counting/count"})
    assert (same.env.options.length, same.env.step_timeout_s) == (3, 9.0)


@pytest.mark.parametrize(
    "env", ["gym/CartPole-v1", {"factory": "tests.fakes:CountingEnv"}, "toy/catch"]
)
def test_another_environment_drops_the_options_of_the_former_one(env: object) -> None:
    low = resolve_config(tree(env__length=3, env__step_timeout_s=9.0)).to_dict()
    other = load_overridden(low, {"env": env})
    assert other.env.suite != "tests.fakes:Counting"
    assert other.env.step_timeout_s == 9.0


def load_overridden(low: dict, high: dict):
    from reverie.config import apply_overrides

    return resolve_config(apply_overrides(low, high))


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1e6", 1e6), ("1_000", 1000), ("[1, 2]", [1, 2])]
)
def test_numbers_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_an_exponent_may_give_a_whole_number() -> None:
    assert load_overridden(tree(), {"run.env_steps": 1e3}).run.env_steps == 1000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("algorithm.nan_ta", 1, "algorithm.nan_ta: unknown key; did you mean nan_at?"),
        ("learner.batchsize", 1, "learner.batchsize: unknown key; did you mean batch_size"),
        ("lerner.batch_size", 1, "lerner: unknown key; did you mean learner?"),
        ("env.lenght", 1, "env.lenght: unknown key; did you mean length?"),  # codespell:ignore
        ("env.task", "cuont", "env.task: unknown task 'cuont' of tests.fakes:Counting; did you"),
        ("env.suite", "atari", "unknown environment suite 'atari'; did you mean atari100k?"),
        ("algorithm.name", "dreamer", "unknown algorithm 'dreamer'; did you mean dreamerv"),
        ("seed", 0.5, "seed: Input should be a valid integer, got 0.5"),
        ("seed", "x", "seed: Input should be a valid integer"),
        ("learner.batch_size", "8", "learner.batch_size: Input should be a valid integer"),
        ("learner.batch_size", 0, "learner.batch_size: wanted at least 1, got 0"),
        ("learner", 3, "learner: wanted a mapping of keys, got 3"),
        ("resources.num_learners", 2, "resources.num_learners: wanted 1, got 2"),
    ],
)
def test_mistakes_are_named_with_their_full_path(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_overridden(tree(), {key: value})
    assert message in str(error.value)


def test_a_missing_file_lists_those_near(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "seed: 1")
    with pytest.raises(ConfigError, match=r"b\.yaml: no such file; there are: .*a\.yaml"):
        load_config(tmp_path / "b.yaml")


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'seed' stands twice"):
        load_config(write(tmp_path / "a.yaml", "seed: 1\nseed: 2\n"))


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="wanted key=value"):
        load_config("tune_configs/dreamerv3/atari100k.yaml", ["seed"])


def test_sizes_and_dialects_are_names_even_where_they_look_like_numbers() -> None:
    path = ROOT / "tune_configs/dreamerv3/catch_2025.yaml"
    assert load_config(path, ["algorithm.dialect=2025"]).algorithm.dialect == "2025"
    with pytest.raises(ConfigError, match="algorithm: unknown dialect '2024' of dreamerv3"):
        load_config(path, ["algorithm.dialect=2024"])
    with pytest.raises(ConfigError, match=r"^algorithm\.size: wanted one of"):
        load_config(path, ["algorithm.size=200"])
