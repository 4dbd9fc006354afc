"""The sum of all losses: with fixed weights, or balanced as in HarmonyDream (arXiv:2310.00344).

In mode `off` the total is the weighted sum of the losses. In the others losses are put into
groups i, and each group gets a trained scalar sigma_i = exp(s_i):

    L = sum_i [ L_i / sigma_i + log(1 + sigma_i) ] + (other losses with their fixed weights)

s moves by at most about the learning rate per update, so the balance anneals slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.ranges import Deviation, LearningRate
from reverie.types import STRICT

HARMONY_VARIANT = {"HarmonyDream": "algorithm.harmony.mode=paper (arXiv:2310.00344)"}
HarmonyMode = Literal["off", "paper", "own_group", "unrectified", "fixed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HarmonyConfig:
    """How the world-model losses are weighed."""

    __pydantic_config__: ClassVar[Any] = STRICT

    mode: HarmonyMode = "off"
    """`off`: fixed `loss_scales`; `paper`: a trained sigma per group, in the model's optimizer and
    clip; `own_group`: the same loss, the sigmas in a group of their own and outside the clip;
    `unrectified`: log sigma in place of log(1 + sigma); `fixed`: constant `sigma`."""
    lr: LearningRate = 1e-3
    """Learning rate of `own_group`; lr x updates of 10 to 15 lets sigma settle."""
    sigma: dict[str, Deviation] = field(default_factory=dict)
    """Constants of `fixed` by group: `image`, `reward`, `kl`."""


class LossGroup(NamedTuple):
    """Losses that share one sigma."""

    shares: Mapping[str, float]
    """Weight of each loss within the group."""
    regulariser: float = 1.0
    """Weight of log(1 + sigma)."""


GROUPS = {
    "image": LossGroup({"image": 1.0}),
    "reward": LossGroup({"reward": 1.0}),
    "kl": LossGroup({"dyn": 5 / 6, "rep": 1 / 6}, regulariser=5 / 6),
}
"""Groups of DreamerV3-2023. Differs from the paper: 5/6, as in thuml/HarmonyDream, dreamerv3-jax,
where the regulariser is added to the `dyn` term before its share is applied."""

V2_GROUPS = {name: LossGroup({name: 1.0}) for name in ("image", "reward", "kl")}
"""Groups of DreamerV2, as in thuml/HarmonyDream, wmlib-torch: `kl` is the balanced, clipped KL."""


class Harmonizer(nn.Module):
    """Adds up named losses, harmonised or with fixed weights.

    A group stands only if `scales` names all its losses; a loss in no group keeps its weight
    from `scales`. In mode `off` all do.
    """

    def __init__(
        self,
        config: HarmonyConfig,
        scales: Mapping[str, float],
        groups: Mapping[str, LossGroup] = GROUPS,
    ) -> None:
        super().__init__()
        self.mode, self.scales = config.mode, dict(scales)
        present = {k: g for k, g in groups.items() if all(n in scales for n in g.shares)}
        self.groups = {} if config.mode == "off" else present
        self.grouped = {name for group in self.groups.values() for name in group.shares}
        self.log_sigma = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(start)) for name, start in self._starts(config)}
        ).requires_grad_(config.mode != "fixed")

    def _starts(self, config: HarmonyConfig) -> list[tuple[str, float]]:
        if self.mode != "fixed":
            return [(name, 0.0) for name in self.groups]
        wrong = set(config.sigma) ^ set(self.groups)
        if wrong or min(config.sigma.values(), default=1.0) <= 0:
            raise ValueError(
                f"algorithm.harmony.sigma: expected one number above 0 for each of "
                f"{sorted(self.groups)}, got {config.sigma}"
            )
        return [(name, math.log(config.sigma[name])) for name in self.groups]

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        return {k: p for k, p in self.named_parameters() if p.requires_grad}

    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total of scalar losses, and weight, sigma and scaled loss by group."""
        fixed = [self.scales[k] * loss for k, loss in losses.items() if k not in self.grouped]
        zero = next(iter(losses.values())).new_zeros(())
        total = torch.stack(fixed).sum() if fixed else zero
        metrics = {}
        for name, group in self.groups.items():
            log_sigma = self.log_sigma[name]
            value = sum(share * losses[key] for key, share in group.shares.items())
            scaled = value * torch.exp(-log_sigma)
            total = total + scaled + group.regulariser * self._regulariser(log_sigma)
            metrics[f"harmony/weight/{name}"] = torch.exp(-log_sigma).detach()
            metrics[f"harmony/sigma/{name}"] = torch.exp(log_sigma).detach()
            metrics[f"harmony/scaled/{name}"] = scaled.detach()
        return total, metrics

    def _regulariser(self, log_sigma: Tensor) -> Tensor:
        if self.mode == "fixed":
            return torch.zeros_like(log_sigma)
        return log_sigma if self.mode == "unrectified" else F.softplus(log_sigma)
