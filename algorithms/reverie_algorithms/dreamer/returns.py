"""Returns of imagined rollouts, and the scale they are divided by.

Shape legend: H horizon, N rollouts, B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def lambda_return(reward_HN: Tensor, cont_HN: Tensor, value: Tensor, lam: float) -> Tensor:
    """Mix bootstrapped returns of all lengths (arXiv:2301.04104v1, eq. 7).

    R_t = reward_t + cont_t [(1 - lam) value_{t+1} + lam R_{t+1}], with R_H = value_H.
    DreamerV3 passes reward and continuation of the state arrived at, DreamerV2 those of the
    state left.

    `cont_HN` includes the discount; `value` is [H + 1, N], and its first entry is not used.
    """
    interim_HN = reward_HN + cont_HN * value[1:] * (1 - lam)
    decay_HN = cont_HN * lam
    ret_N = value[-1]
    rets = []
    for t in reversed(range(len(reward_HN))):
        ret_N = torch.addcmul(interim_HN[t], decay_HN[t], ret_N)
        rets.append(ret_N)
    return torch.stack(rets[::-1])


def replay_return(
    reward_BT: Tensor,
    is_last_BT: Tensor,
    is_terminal_BT: Tensor,
    boot_BT: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """Lambda-returns [B, T - 1] of real rewards, which start again after a last row.

    With live = gamma (1 - is_terminal) and keep = lam (1 - is_last),
    R_t = r_{t+1} + live_{t+1} [(1 - keep_{t+1}) boot_{t+1} + keep_{t+1} R_{t+1}], R_T = boot_T,
    as in danijar/dreamerv3@e3f0224.
    """
    live_BT = (~is_terminal_BT[:, 1:]).float() * gamma
    keep_BT = (~is_last_BT[:, 1:]).float() * lam
    interim_BT = reward_BT[:, 1:] + (1 - keep_BT) * live_BT * boot_BT[:, 1:]
    decay_BT, ret_B = live_BT * keep_BT, boot_BT[:, -1]
    rets = []
    for t in reversed(range(interim_BT.shape[1])):
        ret_B = torch.addcmul(interim_BT[:, t], decay_BT[:, t], ret_B)
        rets.append(ret_B)
    return torch.stack(rets[::-1], 1)


def percentiles(values: Tensor, low: float, high: float) -> Tensor:
    """Two percentiles (fractions of 1) with linear interpolation, as a tensor [2].

    `torch.quantile` would read its argument back to the host.
    """
    ranked = values.flatten().sort().values
    return torch.stack([_interpolate(ranked, low), _interpolate(ranked, high)])


def _interpolate(ranked: Tensor, fraction: float) -> Tensor:
    position = fraction * (len(ranked) - 1)
    lower = min(int(position), len(ranked) - 2) if len(ranked) > 1 else 0
    upper = min(lower + 1, len(ranked) - 1)
    return torch.lerp(ranked[lower], ranked[upper], position - lower)


class ReturnNormalizer(nn.Module):
    """Moving range of returns (arXiv:2301.04104v1, eq. 12).

    The averages start at 0 and are not debiased, as in danijar/dreamerv3@8fa35f8.
    With several learners, percentiles are averaged, which differs from those of all returns.
    """

    range: Tensor

    def __init__(self, low: float, high: float, rate: float, min_scale: float) -> None:
        super().__init__()
        self.low, self.high, self.rate, self.min_scale = low, high, rate, min_scale
        self.register_buffer("range", torch.zeros(2))

    @torch.no_grad()
    def update(self, ret: Tensor, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Move towards the percentiles of `ret`."""
        self.range.lerp_(all_reduce(percentiles(ret.detach(), self.low, self.high)), self.rate)

    def scale(self) -> Tensor:
        """What to divide returns by; at least `min_scale`, so that small ones stay small."""
        return (self.range[1] - self.range[0]).clamp(min=self.min_scale)
