"""Recurrent state-space model of DreamerV3-2025, whose GRU works in blocks.

As in danijar/dreamerv3@e3f0224.

Shape legend: B batch, T time, A flat action, E embed, D deter, G blocks, d = D / G, S stoch
variables, K classes, X = S * K, U units.
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
from reverie_algorithms.common.dists import unimix
from reverie_algorithms.dreamer.latent import LatentState, Observed, observe_by_steps, sample
from reverie_algorithms.dreamer_v3_2025.nets import (
    BlockLinear,
    RMSLinear,
    check_blocks,
    fan_in_linear,
    from_blocks,
    rms_silu,
    to_blocks,
)
from reverie_algorithms.fast import block_observe


@dataclass(frozen=True, kw_only=True, slots=True)
class RSSMConfig:
    """Sizes of the latent state; the defaults are those of size `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "danijar/dreamerv3@e3f0224"

    deter: Width = 2048
    """Width of the deterministic state, a multiple of `blocks`."""
    units: Width = 256
    """Width of the hidden layers."""
    stoch: Latents = 32
    """Number of categorical variables."""
    classes: Latents = 16
    """Classes of each variable."""
    blocks: Latents = 8
    """Blocks of the GRU, and of the decoder's first layer."""
    unimix: Share = 0.01
    """Share of a uniform distribution in prior and posterior."""


class BlockGRU(nn.Module):
    """GRU whose recurrent weights join only entries of one block.

    The blocks meet through three hidden layers that read all of deter, stoch and action.
    """

    def __init__(self, deter: int, latent: int, action: int, units: int, blocks: int) -> None:
        super().__init__()
        check_blocks("rssm.deter", deter, blocks)
        self.blocks, self.width, self.units = blocks, deter // blocks, units
        self.deter_in = RMSLinear(deter, units)
        self.stoch_in = RMSLinear(latent, units)
        self.action_in = RMSLinear(action, units)
        self.hidden = BlockLinear(blocks, self.width + 3 * units, self.width)
        self.scale = nn.Parameter(torch.ones(blocks, 1, self.width))
        self.gates = BlockLinear(blocks, self.width, 3 * self.width)

    def forward(self, deter_BD: Tensor, stoch_BX: Tensor, action_BA: Tensor) -> Tensor:
        """Return the next deter [B, D]."""
        parts = self.deter_in(deter_BD), self.stoch_in(stoch_BX), self.action_in(action_BA)
        inputs_GBI = torch.cat(parts, -1).expand(self.blocks, -1, -1)
        deter_GBd = to_blocks(deter_BD, self.blocks)
        hidden_GBd = self.hidden(torch.cat([deter_GBd, inputs_GBI], -1))
        return self.finish(self.gates(self.normed(hidden_GBd)), deter_GBd)

    def normed(self, hidden_GBd: Tensor) -> Tensor:
        """RMSNorm over all blocks, and SiLU."""
        return rms_silu(hidden_GBd, self.scale, (0, 2))

    @staticmethod
    def finish(gates: Tensor, deter_GBd: Tensor) -> Tensor:
        """Apply the gates [G, B, 3 d] to deter; the update gate leans towards keeping it."""
        reset_GBd, candidate_GBd, update_GBd = gates.to(deter_GBd.dtype).chunk(3, -1)
        candidate_GBd = torch.tanh(torch.sigmoid(reset_GBd) * candidate_GBd)
        return from_blocks(torch.lerp(deter_GBd, candidate_GBd, torch.sigmoid(update_GBd - 1)))


class BlockRSSM(nn.Module):
    """Sequence model with a deterministic path in blocks and categorical latents."""

    def __init__(self, config: RSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        latent, units = config.stoch * config.classes, config.units
        self.feat_size = config.deter + latent
        self.gru = BlockGRU(config.deter, latent, action_size, units, config.blocks)
        self.prior_hidden = nn.Sequential(RMSLinear(config.deter, units), RMSLinear(units, units))
        self.prior_logits = fan_in_linear(units, latent)
        self.posterior_hidden = RMSLinear(config.deter + embed_size, units)
        self.posterior_logits = fan_in_linear(units, latent)

    # State

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers [*shape, S]: one for each variable of each step."""
        return torch.rand((*shape, self.config.stoch), generator=generator, device=generator.device)

    def initial(self, count: int) -> LatentState:
        """Return zeros for `count` rows."""
        config, device = self.config, self.prior_logits.weight.device
        stoch = torch.zeros(count, config.stoch, config.classes, device=device)
        return LatentState(torch.zeros(count, config.deter, device=device), stoch)

    def state(self, carry: Mapping[str, Tensor]) -> LatentState:
        return LatentState.of(carry)

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put zeros where `is_first_B` is set."""
        keep_B1 = ~is_first_B.unsqueeze(-1)
        reset = LatentState(state.deter * keep_B1, state.stoch * keep_B1.unsqueeze(-1))
        return reset, prev_action_BA * keep_B1

    # Steps

    def advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        """The next deter [B, D]."""
        return self.gru(state.deter, state.stoch.flatten(-2), self.bounded(action_BA))

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
        """Advance the prior by one step without an observation, in the type of `state`."""
        deter_BD = self.advance(state, action_BA)
        stoch_BSK = sample(self.prior(deter_BD), uniform_BS)
        return LatentState(deter_BD, stoch_BSK.to(deter_BD.dtype))

    def observe(
        self,
        embed_BTE: Tensor,
        prev_action_BTA: Tensor,
        is_first_BT: Tensor,
        uniform_BTS: Tensor,
        start: LatentState | None = None,
    ) -> Observed:
        """Infer the posterior states of whole windows, from `start` or zeros.

        Rows with `is_first_BT` forget state and action. The fast twin gives the same, up to the
        order of sums.
        """
        ahead = fast.enabled("products_ahead", embed_BTE)
        observe = block_observe.observe if ahead else observe_by_steps
        state = self.initial(len(is_first_BT)) if start is None else start
        return observe(self, embed_BTE, prev_action_BTA, is_first_BT, uniform_BTS, state)
