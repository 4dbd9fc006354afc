"""Recurrent state-space model of DreamerV3-2025, whose GRU works in blocks.

As in danijar/dreamerv3@e3f0224. Steps keep the deterministic state [B, D] apart from its view in
blocks [G, B, d], in which the recurrent products and gates are computed without a copy.

Shape legend: B batch, T time, A flat action, E embed, D deter, G blocks, d = D / G, S stoch
variables, K classes, X = S * K, U units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState, Observed, UnimixRSSM, bounded
from reverie_algorithms.dreamer_v3_2025.nets import (
    BlockLinear,
    RMSLinear,
    check_blocks,
    fan_in_linear,
    from_blocks,
    to_blocks,
)
from reverie_algorithms.dreamer_v3_2025.rms_norm import rms_silu
from reverie_algorithms.fast.late_gradients import StepProduct


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRSSMConfig:
    """Sizes of the latent state; the defaults are those of size `12m`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    deter: int = 2048
    """Width of the deterministic state, a multiple of `blocks`
    (source: danijar/dreamerv3@e3f0224)."""
    units: int = 256
    """Width of the hidden layers (source: danijar/dreamerv3@e3f0224)."""
    stoch: int = 32
    """Number of categorical variables (source: danijar/dreamerv3@e3f0224)."""
    classes: int = 16
    """Classes of each variable (source: danijar/dreamerv3@e3f0224)."""
    blocks: int = 8
    """Blocks of the GRU, and of the decoder's first layer (source: danijar/dreamerv3@e3f0224)."""
    unimix: float = 0.01
    """Share of a uniform distribution in prior and posterior
    (source: danijar/dreamerv3@e3f0224)."""


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

    def normed(self, product_GBd: Tensor) -> Tensor:
        return rms_silu(product_GBd, self.scale, (0, 2))

    @staticmethod
    def finish(gates: Tensor, deter_GBd: Tensor) -> Tensor:
        """Apply the gates [G, B, 3 d] to deter; the update gate leans towards keeping it."""
        reset_GBd, candidate_GBd, update_GBd = gates.to(deter_GBd.dtype).chunk(3, -1)
        candidate_GBd = torch.tanh(torch.sigmoid(reset_GBd) * candidate_GBd)
        return from_blocks(torch.lerp(deter_GBd, candidate_GBd, torch.sigmoid(update_GBd - 1)))


class BlockRSSM(UnimixRSSM):
    """Sequence model with a deterministic path in blocks and categorical latents."""

    def __init__(self, config: BlockRSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        latent, units = config.stoch * config.classes, config.units
        self.feat_size = config.deter + latent
        self.gru = BlockGRU(config.deter, latent, action_size, units, config.blocks)
        self.prior_hidden = nn.Sequential(RMSLinear(config.deter, units), RMSLinear(units, units))
        self.prior_logits = fan_in_linear(units, latent)
        self.posterior_hidden = RMSLinear(config.deter + embed_size, units)
        self.posterior_logits = fan_in_linear(units, latent)

    def initial(self, count: int) -> LatentState:
        """Return zeros for `count` rows."""
        config, like = self.config, self.prior_logits.weight
        stoch = like.new_zeros(count, config.stoch, config.classes)
        return LatentState(like.new_zeros(count, config.deter), stoch)

    def observe(
        self,
        embed_BTE: Tensor,
        prev_action_BTA: Tensor,
        is_first_BT: Tensor,
        uniform_BTS: Tensor,
        start: LatentState | None = None,
    ) -> Observed:
        """Infer the posterior states of whole windows, from `start` or zeros.

        What does not depend on the previous state is computed outside the time loop, and the
        loop keeps time first. Rows with `is_first_BT` forget state and action.
        """
        keep_TB1 = (~is_first_BT).float().t().unsqueeze(-1)
        action_TBA = prev_action_BTA.transpose(0, 1) * keep_TB1
        products = self._products(embed_BTE.transpose(0, 1), action_TBA)
        state = self.initial(len(is_first_BT)) if start is None else start
        deter_BD, stoch_BX = state.deter, state.stoch.flatten(-2)
        keep, uniform = keep_TB1.unbind(0), uniform_BTS.unbind(1)

        deters, stochs, posteriors = [], [], []
        for t in range(is_first_BT.shape[1]):
            deter_BD, stoch_BX = deter_BD * keep[t], stoch_BX * keep[t]
            deter_BD, logits_BX = self._observe_products(products, t, deter_BD, stoch_BX)
            stoch_BSK, probs_BSK = self._sample(logits_BX, uniform[t])
            stoch_BX = stoch_BSK.flatten(-2)
            deters.append(deter_BD)
            stochs.append(stoch_BSK)
            posteriors.append(probs_BSK)

        deter_BTD = torch.stack(deters, 1)
        state = LatentState(deter_BTD, torch.stack(stochs, 1))
        return Observed(state, torch.stack(posteriors, 1), self.prior(deter_BTD))

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor
    ) -> LatentState:
        """Advance the prior by one step without an observation, in the type of `state`."""
        deter_BD = self._advance(state, action_BA)
        logits_BX = self.prior_logits(self.prior_hidden(deter_BD))
        stoch_BSK, _ = self._sample(logits_BX, uniform_BS)
        return LatentState(deter_BD, stoch_BSK.to(deter_BD.dtype))

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put zeros where `is_first_B` is set."""
        keep_B1 = ~is_first_B.unsqueeze(-1)
        reset = LatentState(state.deter * keep_B1, state.stoch * keep_B1.unsqueeze(-1))
        return reset, prev_action_BA * keep_B1

    def _advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        return self.gru(state.deter, state.stoch.flatten(-2), bounded(action_BA))

    def _products(self, embed_TBE: Tensor, action_TBA: Tensor) -> dict[str, StepProduct]:
        """The products of the time loop, with all that embed and action add to them."""
        gru, (steps, rows) = self.gru, action_TBA.shape[:2]
        late = embed_TBE.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        inner = gru.width + 2 * gru.units
        action_TBU = gru.action_in(bounded(action_TBA))
        action_GNU = action_TBU.flatten(0, 1).expand(gru.blocks, -1, -1)
        from_action = torch.baddbmm(gru.hidden.bias, action_GNU, gru.hidden.weight[:, inner:])
        from_embed = F.linear(
            embed_TBE,
            self.posterior_hidden.weight[:, self.config.deter :],
            self.posterior_hidden.bias,
        )
        terms = {
            "deter_in": (gru.deter_in.weight, gru.deter_in.bias),
            "stoch_in": (gru.stoch_in.weight, gru.stoch_in.bias),
            "hidden": (
                gru.hidden.weight[:, :inner],
                from_action.unflatten(1, (steps, rows)).transpose(0, 1),
            ),
            "gates": (gru.gates.weight, gru.gates.bias.expand(steps, -1, rows, -1)),
            "posterior": (self.posterior_hidden.weight[:, : self.config.deter], from_embed),
            "logits": (self.posterior_logits.weight, self.posterior_logits.bias),
        }
        return {
            name: StepProduct(weight, term if term.ndim > 1 else term.expand(steps, rows, -1), late)
            for name, (weight, term) in terms.items()
        }

    def _observe_products(
        self, products: dict[str, StepProduct], t: int, deter_BD: Tensor, stoch_BX: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step of the time loop: the next deter and the posterior's logits [B, X]."""
        gru = self.gru
        deter_BU = gru.deter_in.finish(products["deter_in"](t, deter_BD))
        stoch_BU = gru.stoch_in.finish(products["stoch_in"](t, stoch_BX))
        deter_GBd = to_blocks(deter_BD, gru.blocks)
        inputs = torch.cat([deter_BU, stoch_BU], -1).expand(gru.blocks, -1, -1)
        hidden = gru.normed(products["hidden"](t, torch.cat([deter_GBd, inputs], -1)))
        deter_BD = gru.finish(products["gates"](t, hidden), deter_GBd)
        hidden_BU = self.posterior_hidden.finish(products["posterior"](t, deter_BD))
        return deter_BD, products["logits"](t, hidden_BU)
