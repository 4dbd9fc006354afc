"""LaProp with adaptive gradient clipping and a linear warm-up (arXiv:2002.04839; 2102.06171).

For each tensor w with gradient g, as in danijar/dreamerv3@e3f0224:

    g <- g / max(1, |g| / (clip max(|w|, 1e-3)))
    v <- b2 v + (1 - b2) g^2                 u = g / (sqrt(v / (1 - b2^t)) + eps)
    m <- b1 m + (1 - b1) u                   w <- w - lr_t m / (1 - b1^t)

Shape legend: P tensors.
"""

# The _foreach functions, which torch's own optimizers are made of, are not exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reverie.group import Group

LEAST_NORM = 1e-3
"""A smaller weight may be moved as if its norm were this."""
BETA1, BETA2, EPS = 0.9, 0.999, 1e-20


@dataclass(frozen=True, slots=True)
class LaPropGroup:
    """Parameters that share a learning rate."""

    params: Mapping[str, nn.Parameter]
    lr: float
    clip: float | None
    """Largest ratio of a tensor's gradient norm to its own norm; None leaves it alone."""
    warmup: int
    """Updates over which the learning rate rises from 0 to `lr`."""


class LaProp:
    """LaProp over named parameters, with the interface of `optim.Adam`."""

    def __init__(self, groups: Sequence[LaPropGroup], learners: Group) -> None:
        self.groups, self.learners = groups, learners
        self.params = {name: p for group in groups for name, p in group.params.items()}
        self.frozen: set[str] = set()
        """Parameters that no step changes; neither do their moments and step counts."""
        self.moments = {
            name: {
                "step": torch.zeros((), device=p.device),
                "momentum": torch.zeros_like(p),
                "square": torch.zeros_like(p),
            }
            for name, p in self.params.items()
        }

    @torch.no_grad()
    def step(self, loss: Tensor, retain_graph: bool = False) -> Tensor:
        """Take one step down the gradient of `loss` for these parameters and no others.

        Returns:
            The norm of the whole gradient before clipping.
        """
        names = [name for name in self.params if name not in self.frozen]
        if not names:
            return torch.zeros_like(loss)
        with torch.enable_grad():
            params = [self.params[name] for name in names]
            grads = torch.autograd.grad(loss, params, retain_graph=retain_graph)
        self.learners.mean_(grads)
        norm = torch.nn.utils.get_total_norm(grads)
        named = dict(zip(names, grads, strict=True))
        for group in self.groups:
            own = {name: named[name] for name in group.params if name in named}
            if own:
                self._move(group, own)
        return norm

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Step count and moments by parameter name; not copies."""
        return {name: dict(moments) for name, moments in self.moments.items()}

    def _move(self, group: LaPropGroup, named: Mapping[str, Tensor]) -> None:
        params: list[Tensor] = [group.params[name] for name in named]
        grads = [*named.values()]
        momentum, square = self._stored("momentum", named), self._stored("square", named)
        counts = self._stored("step", named)
        torch._foreach_add_(counts, 1)
        count_P = torch.stack(counts)
        if group.clip is not None:
            _clip(params, grads, group.clip)
        torch._foreach_mul_(square, BETA2)
        torch._foreach_addcmul_(square, grads, grads, 1 - BETA2)
        root = torch._foreach_sqrt(square)
        torch._foreach_mul_(root, [*torch.rsqrt(1 - BETA2**count_P).unbind()])
        torch._foreach_add_(root, EPS)
        torch._foreach_div_(grads, root)
        torch._foreach_lerp_(momentum, grads, 1 - BETA1)
        rate_P = group.lr * (count_P / max(group.warmup, 1)).clamp(max=1)
        rates = [*(rate_P / (1 - BETA1**count_P)).unbind()]
        torch._foreach_addcmul_(params, momentum, rates, -1)

    def _stored(self, moment: str, names: Mapping[str, Tensor]) -> list[Tensor]:
        return [self.moments[name][moment] for name in names]


def _clip(params: list[Tensor], grads: list[Tensor], clip: float) -> None:
    """Shrink each gradient to `clip` times its tensor's norm (arXiv:2102.06171, eq. 3)."""
    limits = torch.stack(torch._foreach_norm(params)).clamp(min=LEAST_NORM) * clip
    ratios = torch.stack(torch._foreach_norm(grads)) / limits
    torch._foreach_mul_(grads, [*(1 / ratios.clamp(min=1)).unbind()])
