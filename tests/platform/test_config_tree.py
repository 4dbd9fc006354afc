from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reverie.config import load_config, resolve_config
from reverie.config_tree import apply_overrides, parse_value
from reverie.errors import ConfigError
from tests.fakes import tree


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def load_overridden(low: dict, high: dict):
    return resolve_config(apply_overrides(low, high))


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
    own = {"env__length": 3, "eval__env__length": 4}
    low = resolve_config(tree(env__step_timeout_s=9.0, eval__episodes=7, **own)).to_dict()
    other = load_overridden(low, {"env": env})
    assert other.env.suite != "tests.fakes:Counting"
    assert (other.env.step_timeout_s, other.eval.episodes) == (9.0, 7)
    assert other.eval.env == {}
    assert load_overridden(low, {"env": "tests.fakes:Counting/count"}).eval.env == {"length": 4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-4", 1e-4), ("1e6", 1e6), ("1_000", 1000), ("[1, 2]", [1, 2]), ("0xff", 255)],
        *[
            ("-.inf", float("-inf")),
            ("1e400", float("inf")),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("017", 17),
        ],
        *[("!!str 12", "12"), ("~", None), ("", None), ("True", True), ("\ufeff8", 8)],
    ],
)
def test_values_read_as_in_yaml_1_2(text: str, value: object) -> None:
    read = parse_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["2020-13-45", "2020-01-01", "1:30", "190:20:30.15", "off", "yes", "0b11", "0o17", "<<"]
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert parse_value(text) == text
    with pytest.raises(ConfigError, match=f"^learner.batch_size: expected .*, got '{text}'"):
        load_config("dreamerv3/catch", [f"learner.batch_size={text}"])


@pytest.mark.parametrize(
    "text", [*["1e5", "08", "+.5", "1e400", "1_0", "0x_"], *["off", "1:30", "2020-01-01", "~", "="]]
)
def test_text_that_looks_like_something_else_is_written_so_that_it_stays_text(text: str) -> None:
    config = load_config("dreamerv3/catch", {"run.dir": text})
    assert parse_value(config.to_yaml())["run"]["dir"] == text
    assert yaml.safe_load(config.to_yaml())["run"]["dir"] == text


UNREADABLE = {
    "[1, 2": "expected ',' or ']'",
    "{a: 1, a: 2}": "key 'a' is given twice, line 1",
    "{1: a, '1': b}": "key '1' is given twice",
    "{[1]: 2}": "expected text as a key",
    "\t8": r"found character '\\t'",
    "*a": "undefined alias",
    "a\0b": "#x0000",
    "\udcff": "#xdcff",
    '"\\UFFFFFFFF"': "out of range",
    '"\\U00110000"': "out of range",
    f"%YAML 1.{'9' * 5000}\n--- 8": "out of range",
    "9" * 5000: "one of 5000 digits",
    "0x" + "f" * 5000: "one of 5002 digits",
    "0x_": "expected a whole number",
    "!!int abc": "expected a whole number, got 'abc'",
    "!!float x": "expected a number, got 'x'",
    "!!bool maybe": "expected true or false, got 'maybe'",
    "!!map [x]": "expected a mapping",
    "!!timestamp x": "tag '!!timestamp'",
    "!!binary \u00e9": "tag '!!binary'",
    "!!python/name:os.system": "tag '!!python/name:os.system'",
    "1\n---\n2": "single document",
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_what_yaml_cannot_read_is_refused_in_one_line_with_its_key_or_file(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"^learner.batch_size: .*not valid YAML: .*{message}"
    ) as e:
        load_config("dreamerv3/catch", [f"learner.batch_size={text}"])
    assert "\n" not in str(e.value)
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"a\.yaml: ") as e:
        load_config(path)
    assert "\n" not in str(e.value)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffbase: dreamerv3/catch\nseed: 5\n".encode())
    assert load_config(path).seed == 5


def test_a_base_may_be_a_preset(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "a.yaml", "base: harmonydream/catch\nseed: 5\n"))
    assert (config.seed, config.algorithm.harmony.mode) == (5, "paper")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("low.yml", r"a\.yaml: base: no preset or file 'low\.yml'"),
        ("harmonydream/cach", r"a\.yaml: base: no preset .*: harmonydream/catch"),
        ("[low.yaml]", r"a\.yaml: base: expected a file or the name of a preset, got \['low"),
        ("b.yaml", r"b\.yaml: base: 'a\.yaml' is built on this file itself"),
    ],
)
def test_a_base_that_is_missing_names_the_file_that_asks_for_it(
    tmp_path: Path, base: str, message: str
) -> None:
    write(tmp_path / "b.yaml", "base: a.yaml\n")
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "a.yaml", f"base: {base}\n"))


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'seed' is given twice"):
        load_config(write(tmp_path / "a.yaml", "seed: 1\nseed: 2\n"))


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        load_config("tune_configs/dreamerv3/atari100k.yaml", ["seed"])


# What a file may make us do


def laughs(levels: int) -> str:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for level in range(1, levels + 1):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]")
    return "\n".join(lines)


def merged_laughs(levels: int) -> str:
    lines = ["l0: &l0 {a: 1, b: 2}"]
    for level in range(1, levels + 1):
        lines.append(f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 10)}]}}")
    return "\n".join(lines)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (laughs(9), "at most 10000 values with aliases written out"),
        (merged_laughs(9), "at most 10000 values with aliases written out"),
        ("a: &a [1, *a]", "an alias of what it stands in"),
        ("a: " + "[" * 40 + "]" * 40, "at most 32 levels"),
        ("a: " + "[" * 300_000, "at most 32 levels"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "at most 32 levels"),
        ("a: [" + "1, " * 20_000 + "]", "at most 10000 values"),
        ("a: " + "1" * 1_000_000, r"at most 1000000 bytes, got 1000003; is it one\?"),
        ("a: " + "1" * 5000, "a number below 1e308, got one of 5000 digits"),
        ("a: !!bool maybe", "expected true or false, got 'maybe'"),
    ],
    ids=lambda value: "" if isinstance(value, str) and len(value) > 60 else None,
)
def test_a_file_that_asks_for_too_much_is_refused_at_once(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/a\.yaml: .*{words}"):
        load_config(write(tmp_path / "a.yaml", text))


def test_aliases_of_an_ordinary_size_are_taken() -> None:
    found = parse_value("{a: &a {b: [1, 2]}, c: *a, d: [*a, *a]}")
    inner = {"b": [1, 2]}
    assert found == {"a": inner, "c": inner, "d": [inner, inner]}


def test_a_chain_of_bases_is_told_and_bounded(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path / f"{name}.yaml", f"base: {base}.yaml\n")
    chain = " -> ".join(str(tmp_path / f"{name}.yaml") for name in "abca")
    with pytest.raises(ConfigError, match=rf"built on this file itself: {chain}$"):
        load_config(tmp_path / "a.yaml")
    for number in range(20):
        write(tmp_path / f"{number}.yaml", f"base: {number + 1}.yaml\n")
    with pytest.raises(ConfigError, match=r"16\.yaml: base: expected at most 16 bases"):
        load_config(tmp_path / "0.yaml")
