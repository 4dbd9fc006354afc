"""Recurrent state-space model of DreamerV3-2023 (arXiv:2301.04104v1, eq. 3).

Shape legend: B batch, T time, A flat action, E embed, D deter, S stoch variables, K classes,
X = S * K, U units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reverie.ranges import Latents, Share, Width
from reverie.types import STRICT
from reverie_algorithms import fast
from reverie_algorithms.common.dists import one_hot, unimix
from reverie_algorithms.common.layers import output_linear
from reverie_algorithms.dreamer.latent import LatentState, Observed, observe_by_steps, sample
from reverie_algorithms.dreamer_v3_2023.nets import NormLinear
from reverie_algorithms.fast import gru_observe
from reverie_algorithms.fast.one_hot_linear import OneHots, column_major, one_hots_first


@dataclass(frozen=True, kw_only=True, slots=True)
class RSSMConfig:
    """Sizes of the latent state; the defaults are those of size `small`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@8fa35f8"

    deter: Width = 512
    """Width of the deterministic state."""
    units: Width = 512
    """Width of the hidden layers before the GRU and before the logits."""
    stoch: Latents = 32
    """Number of categorical variables."""
    classes: Latents = 32
    """Classes of each variable."""
    unimix: Share = 0.01
    """Share of a uniform distribution in prior and posterior."""


class GRU(nn.Module):
    """GRU cell with a norm over all gates and a bias of -1 towards keeping the state."""

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.gates = NormLinear(deter + inputs, 3 * deter, act=False)

    def forward(self, inputs_BU: Tensor, deter_BD: Tensor) -> Tensor:
        return self.finish(self.gates(torch.cat([deter_BD, inputs_BU], -1)), deter_BD)

    @staticmethod
    def finish(gates: Tensor, deter_BD: Tensor) -> Tensor:
        """Apply the normed gates [B, 3 D]."""
        reset_BD, candidate_BD, update_BD = gates.chunk(3, -1)
        candidate_BD = torch.tanh(torch.sigmoid(reset_BD) * candidate_BD)
        return torch.lerp(deter_BD, candidate_BD, torch.sigmoid(update_BD - 1))


class GRURSSM(nn.Module):
    """Sequence model with a deterministic path and categorical latents."""

    def __init__(self, config: RSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        latent = config.stoch * config.classes
        self.feat_size = config.deter + latent
        self.one_hots = OneHots(config.stoch, config.classes)
        """What feat ends in."""
        self.input = NormLinear(latent + action_size, config.units)
        self.input.weight = column_major(self.input.weight)
        self.gru = GRU(config.units, config.deter)
        self.prior_hidden = NormLinear(config.deter, config.units)
        self.prior_logits = output_linear(config.units, latent)
        self.posterior_hidden = NormLinear(config.deter + embed_size, config.units)
        self.posterior_logits = output_linear(config.units, latent)
        self.initial_deter = nn.Parameter(torch.zeros(config.deter))

    # State

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers [*shape, S]: one for each variable of each step."""
        return torch.rand((*shape, self.config.stoch), generator=generator, device=generator.device)

    def initial(self, count: int) -> LatentState:
        """Return the learned initial state of `count` rows; its stoch is the prior's mode."""
        deter_D = torch.tanh(self.initial_deter)
        mode_SK = one_hot(self.prior(deter_D).argmax(-1), self.config.classes)
        return LatentState(deter_D.expand(count, -1), mode_SK.expand(count, -1, -1))

    def state(self, carry: Mapping[str, Tensor]) -> LatentState:
        return LatentState.of(carry)

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put the initial state and a zero action where `is_first_B` is set."""
        initial = self.initial(len(is_first_B))
        is_first_B1 = is_first_B.unsqueeze(-1)
        deter_BD = torch.where(is_first_B1, initial.deter, state.deter)
        stoch_BSK = torch.where(is_first_B1.unsqueeze(-1), initial.stoch, state.stoch)
        return LatentState(deter_BD, stoch_BSK), prev_action_BA * ~is_first_B1

    # Steps

    def advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        """The next deter [B, D]."""
        stoch_BX, action_BA = state.stoch.flatten(-2), self.bounded(action_BA)
        if fast.enabled("look_ups", stoch_BX):
            product_BU = one_hots_first(stoch_BX, action_BA, self.input.weight, self.one_hots)
            return self.gru(self.input.finish(product_BU), state.deter)
        return self.gru(self.input(torch.cat([stoch_BX, action_BA], -1)), state.deter)

    @staticmethod
    def bounded(action: Tensor) -> Tensor:
        """Divide each component by max(1, |component|), a constant to the gradient."""
        return action / action.detach().abs().clamp(min=1)

    def prior(self, deter: Tensor) -> Tensor:
        """Probabilities [..., S, K] of the next stoch from deter [..., D]."""
        return self.probs(self.prior_logits(self.prior_hidden(deter)))

    def posterior(self, deter_BD: Tensor, embed_BE: Tensor) -> Tensor:
        """Probabilities [B, S, K] of the stoch that comes with an observation."""
        hidden_BU = self.posterior_hidden(torch.cat([deter_BD, embed_BE], -1))
        return self.probs(self.posterior_logits(hidden_BU))

    def probs(self, logits: Tensor) -> Tensor:
        shape = (self.config.stoch, self.config.classes)
        return unimix(logits.unflatten(-1, shape), self.config.unimix)

    def observe_step(
        self, state: LatentState, prev_action_BA: Tensor, embed_BE: Tensor, uniform_BS: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Advance the posterior by one observed step; `reset` the rows that start first."""
        deter_BD = self.advance(state, prev_action_BA)
        probs_BSK = self.posterior(deter_BD, embed_BE)
        return LatentState(deter_BD, sample(probs_BSK, uniform_BS)), probs_BSK

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor, /
    ) -> LatentState:
        """Advance the prior by one step without an observation."""
        deter_BD = self.advance(state, action_BA)
        return LatentState(deter_BD, sample(self.prior(deter_BD), uniform_BS))

    def observe(
        self, embed_BTE: Tensor, prev_action_BTA: Tensor, is_first_BT: Tensor, uniform_BTS: Tensor
    ) -> Observed:
        """Infer the posterior states of whole windows.

        Rows with `is_first_BT` start from the initial state; every window must start with one.
        """
        window = embed_BTE, prev_action_BTA, is_first_BT, uniform_BTS
        if fast.enabled("products_ahead", embed_BTE):
            return gru_observe.observe(self, *window)
        return observe_by_steps(self, *window, self.initial(len(is_first_BT)))
