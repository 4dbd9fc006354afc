"""Returns against a naive loop, by hand, and their moving range."""

from __future__ import annotations

import pytest
import torch

from reverie.group import Alone
from reverie_algorithms.dreamer.imagination import ReturnNormalizer, lambda_return, percentiles
from reverie_algorithms.dreamer_v3_2025.behavior import replay_return


def naive(reward, cont, value, lam):
    rets, ret = [], value[-1].clone()
    for t in range(len(reward) - 1, -1, -1):
        ret = reward[t] + cont[t] * ((1 - lam) * value[t + 1] + lam * ret)
        rets.insert(0, ret)
    return torch.stack(rets)


def test_lambda_return_equals_a_naive_loop():
    reward, cont, value = torch.randn(15, 7), torch.rand(15, 7), torch.randn(16, 7)
    torch.testing.assert_close(
        lambda_return(reward, cont, value, 0.95), naive(reward, cont, value, 0.95)
    )


def test_lambda_return_by_hand():
    reward, cont = torch.tensor([[1.0], [2.0]]), torch.full((2, 1), 0.99)
    value = torch.tensor([[7.0], [3.0], [4.0]])
    last = 2 + 0.99 * 4
    first = 1 + 0.99 * (0.05 * 3 + 0.95 * last)
    got = lambda_return(reward, cont, value, 0.95).flatten().tolist()
    assert got == pytest.approx([first, last])


def test_nothing_counts_after_the_end():
    reward, value = torch.tensor([[1.0], [50.0]]), torch.full((3, 1), 99.0)
    cont = torch.tensor([[0.0], [1.0]])
    assert lambda_return(reward, cont, value, 0.95)[0].item() == 1


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_percentiles_agree_with_torch(count):
    values = torch.randn(count)
    wanted = torch.quantile(values, torch.tensor([0.05, 0.95]))
    torch.testing.assert_close(percentiles(values, 0.05, 0.95), wanted)


def test_return_range_moves_by_a_hundredth_from_zero_and_never_amplifies():
    normalizer = ReturnNormalizer(0.05, 0.95, 0.01, 1.0)
    ret = torch.linspace(-1000, 1000, 1001)
    assert normalizer.scale() == 1
    normalizer.update(ret, Alone())
    torch.testing.assert_close(normalizer.range, torch.tensor([-9.0, 9.0]))
    assert normalizer.scale().item() == pytest.approx(18)


def test_return_range_is_that_of_all_learners_returns():
    class Pair(Alone):
        def gather(self, tensor):
            return torch.stack([tensor, tensor + 100])

    normalizer, ret = ReturnNormalizer(0.05, 0.95, 1.0, 1.0), torch.linspace(-10, 10, 101)
    normalizer.update(ret, Pair())
    wanted = torch.quantile(torch.cat([ret, ret + 100]), torch.tensor([0.05, 0.95]))
    torch.testing.assert_close(normalizer.range, wanted)


def test_replay_returns_by_hand():
    reward, boot = torch.tensor([[9.0, 1.0, 2.0, 3.0]]), torch.tensor([[7.0, 10.0, 20.0, 30.0]])
    none = torch.zeros(1, 4, dtype=torch.bool)
    last, half = 3 + 0.5 * 30, 0.5
    middle = 2 + half * (0.2 * 20 + 0.8 * last)
    first = 1 + half * (0.2 * 10 + 0.8 * middle)
    wanted = torch.tensor([[first, middle, last]])
    torch.testing.assert_close(replay_return(reward, none, none, boot, 0.5, 0.8), wanted)


def test_replay_returns_bootstrap_at_a_time_out_and_stop_at_an_end():
    reward, boot = torch.ones(2, 4), torch.full((2, 4), 10.0)
    is_last = torch.tensor([[False, False, True, False]] * 2)
    is_terminal = is_last & torch.tensor([[False], [True]])
    ret = replay_return(reward, is_last, is_terminal, boot, 0.5, 0.8)
    assert ret[:, 1].tolist() == [1 + 0.5 * 10, 1.0]
    assert ret[:, 2].tolist() == [1 + 0.5 * 10, 1 + 0.5 * 10]
