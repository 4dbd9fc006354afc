from __future__ import annotations

import pytest

from reverie import registry


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
