"""Adam with a global-norm clip for each group of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from reverie.group import Group

BETAS = 0.9, 0.999


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
    shrink: float = 0.0
    """Share of the parameter that is taken off before each step, whatever the learning rate."""


class Adam:
    """Adam over named parameters, fused into one kernel for each group (arXiv:1412.6980).

    Moments exist from the start, so that `state` always has the same names and shapes.
    Gradients are averaged over `learners`.
    """

    def __init__(self, groups: Sequence[AdamGroup], learners: Group) -> None:
        self.groups, self.learners = groups, learners
        self.params = {name: p for group in groups for name, p in group.params.items()}
        self.frozen: set[str] = set()
        """Parameters that no step changes; neither do their moments and step counts."""
        self._state = {
            name: {
                "step": torch.zeros((), device=param.device),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
            for name, param in self.params.items()
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
        for group in self.groups:
            self._descend(group)
        for param in params:
            param.grad = None
        return norms[0]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Step count and moments by parameter name; not copies."""
        return {name: dict(state) for name, state in self._state.items()}

    @torch.no_grad()
    def _descend(self, group: AdamGroup) -> None:
        """Move the group's parameters, those without a gradient apart.

        Calls the kernel of `torch.optim.Adam(fused=True)` itself: the class imports
        torch._dynamo, 2.2 CPU-s (2026-11-28) in every process that learns.
        """
        moved = {name: p for name, p in group.params.items() if p.grad is not None}
        states = [self._state[name] for name in moved]
        if not moved:
            return
        if group.shrink:
            torch._foreach_mul_([*moved.values()], 1 - group.shrink)  # pyright: ignore[reportPrivateImportUsage]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            [*moved.values()],
            [p.grad for p in moved.values() if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=group.weight_decay,
            eps=group.eps,
            amsgrad=False,
            maximize=False,
        )


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
