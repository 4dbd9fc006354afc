"""The switch of the speed twins."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms import fast
from tests.algorithms import small_2023, small_2025

CPU, META = torch.zeros(1), torch.zeros(1, device="meta")


def test_each_trick_holds_where_it_says(monkeypatch):
    on_cpu = {name for name in fast.TRICKS if fast.enabled(name, CPU)}
    everywhere = {"products_ahead", "narrow_weights"}
    assert on_cpu == everywhere | {"late_gradients", "phases", "look_ups"}
    with torch.no_grad():
        acting = {name for name in fast.TRICKS if fast.enabled(name, CPU)}
    assert acting == everywhere | {"phases", "look_ups", "winograd"}
    assert {name for name in fast.TRICKS if fast.enabled(name, META)} == everywhere
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not fast.enabled("late_gradients", CPU)


def test_plain_switches_all_off_and_back_on():
    with fast.plain():
        with fast.plain():
            pass
        assert not any(fast.enabled(name, CPU) for name in fast.TRICKS)
    assert fast.enabled("products_ahead", CPU)


def test_an_error_inside_leaves_the_tricks_on():
    with pytest.raises(ZeroDivisionError), fast.plain():
        raise ZeroDivisionError
    assert fast.enabled("products_ahead", CPU)


@pytest.mark.parametrize("small", [small_2023, small_2025])
def test_an_update_of_plain_code_gives_the_same_losses(small):
    with fast.plain():
        plain = small.update(small.nano_agent())
    torch.testing.assert_close(small.update(small.nano_agent()), plain, atol=1e-3, rtol=1e-3)
