"""Returns against a naive loop, by hand, and their moving range."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms.returns import ReturnNormalizer, lambda_return, percentiles


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
    normalizer.update(ret, lambda tensor: tensor)
    torch.testing.assert_close(normalizer.range, torch.tensor([-9.0, 9.0]))
    assert normalizer.scale().item() == pytest.approx(18)


def test_return_range_is_reduced_over_learners():
    normalizer = ReturnNormalizer(0.05, 0.95, 1.0, 1.0)
    normalizer.update(torch.linspace(-10, 10, 101), lambda tensor: tensor * 2)
    torch.testing.assert_close(normalizer.range, torch.tensor([-18.0, 18.0]))
