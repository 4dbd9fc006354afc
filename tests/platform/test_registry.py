from __future__ import annotations

import pytest

from reverie import registry
from reverie.config import resolve_env
from reverie.errors import ConfigError
from reverie.protocols import Suite


def test_every_registered_name_resolves() -> None:
    for name in registry.ENVS:
        assert registry.suite(name).Config
    for name in registry.ALGORITHMS:
        assert registry.algorithm(name).Config
    for target in (registry.VECTOR_ENV, registry.CHECK_ENV):
        assert callable(registry.load(target))


def test_a_name_may_spell_its_class() -> None:
    assert registry.suite("tests.fakes:Counting").tasks() == ("count",)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"unknown algorithm 'dremerv3'; did you mean dreamerv3"):
        registry.algorithm("dremerv3")


def test_a_dialect_chooses_the_class_and_the_first_is_the_default() -> None:
    chosen = registry.algorithm("dreamerv3", "2023")
    assert registry.algorithm("dreamerv3") is chosen
    assert registry.algorithm("dreamerv3/2023") is chosen
    with pytest.raises(KeyError, match="unknown dialect '1999' of dreamerv3; known: 2023, 2025"):
        registry.algorithm("dreamerv3", "1999")


class Bare:
    """A suite of a user's, which inherits nothing."""

    Config, extra, deterministic = object, None, True

    def tasks(self) -> tuple[str, ...]:
        return ("a",)

    def action_repeat(self, config: object) -> int:
        return 1

    def protocol(self, task: str, config: object) -> None: ...

    def make(self, task: str, config: object) -> None: ...

    def rendering(self) -> str:
        return "by hand"


class NoSuite:
    def tasks(self) -> tuple[str, ...]:
        return ()


def test_a_suite_that_inherits_nothing_gets_the_defaults_of_one() -> None:
    suite = registry.suite(f"{__name__}:Bare")
    assert isinstance(suite, Suite)
    assert (suite.tasks(), suite.deterministic, suite.rendering()) == (("a",), True, "by hand")
    assert suite.knows("a")
    assert not suite.knows("b")
    assert suite.missing() is suite.examples() is suite.checks() is None
    assert suite.make_vector("a", None, 2, lambda env, episode: 0) is None
    assert (suite.assets("a"), suite.scores({"x": 1.0})) == ({}, {})
    assert type(suite).__module__ == __name__


def test_what_is_no_suite_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(AttributeError, match="NoSuite is no environment suite: it lacks Config, a"):
        registry.suite(f"{__name__}:NoSuite")
    with pytest.raises(ConfigError, match=r"env\.suite: .*it lacks Config, action_repeat, prot"):
        resolve_env({"suite": f"{__name__}:NoSuite", "task": "x"})
