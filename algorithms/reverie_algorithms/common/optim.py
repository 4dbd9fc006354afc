"""Adam with a global-norm clip for each group of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from reverie.group import Group


class Optimizer(Protocol):
    """What agents expect of an optimizer over named parameters."""

    params: dict[str, nn.Parameter]
    frozen: set[str]
    """Names of parameters that no step changes; neither do their moments and step counts."""

    def step(self, loss: Tensor, retain_graph: bool = False) -> Tensor:
        """Take one step down the gradient of `loss`; returns the gradient's norm."""
        ...

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Step count and moments by parameter name; not copies."""
        ...


@dataclass(frozen=True, slots=True)
class AdamGroup:
    """Parameters that share a learning rate and one global norm."""

    params: Mapping[str, nn.Parameter]
    lr: float
    eps: float
    clip: float | None
    """Largest gradient norm of the group; None leaves it alone."""
    weight_decay: float = 0.0
    """L2 penalty: this times the parameter is added to its gradient, after clipping."""


class Adam:
    """Adam over named parameters, fused into one kernel.

    Moments exist from the start, so that `state` always has the same names and shapes.
    Gradients are averaged over `learners`.
    """

    def __init__(self, groups: Sequence[AdamGroup], learners: Group) -> None:
        self.groups, self.learners = groups, learners
        self.params = {name: p for group in groups for name, p in group.params.items()}
        self.frozen: set[str] = set()
        """Parameters that no step changes; neither do their moments and step counts."""
        options = [
            {
                "params": [*group.params.values()],
                "lr": group.lr,
                "eps": group.eps,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ]
        self.optimizer = torch.optim.Adam(options, fused=True)
        for param in self.params.values():
            self.optimizer.state[param] = {
                "step": torch.zeros((), device=param.device),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }

    def step(self, loss: Tensor, retain_graph: bool = False) -> Tensor:
        """Take one step down the gradient of `loss` for these parameters and no others.

        Returns:
            The norm of the first group's gradient before clipping.
        """
        params = [param for name, param in self.params.items() if name not in self.frozen]
        if not params:
            return torch.zeros_like(loss, requires_grad=False)
        grads = torch.autograd.grad(loss, params, retain_graph=retain_graph)
        self.learners.mean_(grads)
        for param, grad in zip(params, grads, strict=True):
            param.grad = _laid_out_like(param, grad)
        norms = [_clip(group) for group in self.groups]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norms[0]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Step count and moments by parameter name; not copies."""
        return {name: dict(self.optimizer.state[p]) for name, p in self.params.items()}


def _laid_out_like(param: Tensor, grad: Tensor) -> Tensor:
    # The fused kernel walks raw memory and does not compare strides; convolutions fed
    # channel-last return channel-last gradients.
    if grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)


def _clip(group: AdamGroup) -> Tensor:
    grads = [p.grad for p in group.params.values() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    if group.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(group.params.values(), group.clip, norm)
    return norm
