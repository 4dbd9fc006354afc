"""Recurrent state-space model of DreamerV2, as in thuml/HarmonyDream@0a22e33 (arXiv:2010.02193).

Unlike DreamerV3's it has no norm but the GRU's, no unimix, and starts from zeros.

Shape legend: B batch, T time, A flat action, E embed, D deter, S stoch variables, K classes,
X = S * K, U hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.dists import sample_one_hot, straight_through
from reverie_algorithms.dreamer_v3_2023.nets import LayerNorm, output_linear
from reverie_algorithms.dreamer_v3_2023.rssm import LatentState


@dataclass(frozen=True, kw_only=True, slots=True)
class RSSMV2Config:
    """Sizes of the latent state; the defaults are those of size `1024`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    deter: int = 1024
    """Width of the deterministic state (source: thuml/HarmonyDream@0a22e33)."""
    hidden: int = 1024
    """Width of the hidden layers before the GRU and before the logits
    (source: thuml/HarmonyDream@0a22e33)."""
    stoch: int = 32
    """Number of categorical variables (source: thuml/HarmonyDream@0a22e33)."""
    classes: int = 32
    """Classes of each variable (source: thuml/HarmonyDream@0a22e33)."""
    action_width: int = 0
    """Actions are padded with zeros to this width, so that one model fits several action spaces;
    0 leaves them as they are. ContextWM has 50 (source: thuml/ContextWM)."""


class ObservedV2(NamedTuple):
    """What `RSSMV2.observe` infers."""

    state: LatentState
    """Posterior states [B, T, ...]."""
    posterior_BTSK: Tensor
    """Logits given the observation."""
    prior_BTSK: Tensor
    """Logits before it."""


class GRUV2(nn.Module):
    """GRU cell with a norm over all gates and a bias of -1 towards keeping the state."""

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + deter, 3 * deter)
        self.norm = LayerNorm(3 * deter)

    def forward(self, inputs_BU: Tensor, deter_BD: Tensor) -> Tensor:
        gates = self.norm(self.gates(torch.cat([inputs_BU, deter_BD], -1)))
        reset_BD, candidate_BD, update_BD = gates.chunk(3, -1)
        candidate_BD = torch.tanh(torch.sigmoid(reset_BD) * candidate_BD)
        return torch.lerp(deter_BD, candidate_BD, torch.sigmoid(update_BD - 1))


class RSSMV2(nn.Module):
    """Sequence model with a deterministic path and categorical latents.

    Raises:
        ValueError: actions are wider than `config.action_width`.
    """

    def __init__(self, config: RSSMV2Config, embed_size: int, action_size: int) -> None:
        super().__init__()
        if config.action_width and action_size > config.action_width:
            raise ValueError(
                f"algorithm.rssm.action_width: wanted at least the {action_size} entries of an "
                f"action, got {config.action_width}"
            )
        self.config = config
        self.latent = config.stoch * config.classes
        self.feat_size = config.deter + self.latent
        width = config.action_width or action_size
        self.input = output_linear(self.latent + width, config.hidden)
        self.gru = GRUV2(config.hidden, config.deter)
        self.prior_hidden = output_linear(config.deter, config.hidden)
        self.prior_logits = output_linear(config.hidden, self.latent)
        self.posterior_hidden = output_linear(config.deter + embed_size, config.hidden)
        self.posterior_logits = output_linear(config.hidden, self.latent)

    def prior(self, deter: Tensor) -> Tensor:
        """Logits [..., S, K] of the next stoch from deter [..., D]."""
        return self._logits(self.prior_logits, F.elu(self.prior_hidden(deter)))

    def observe(
        self, embed_BTE: Tensor, prev_action_BTA: Tensor, is_first_BT: Tensor, uniform_BTS: Tensor
    ) -> ObservedV2:
        """Infer the posterior states of whole windows.

        The products with embed and action, and the prior, need no previous state and are computed
        outside the time loop. Rows with `is_first_BT` start from zeros; every window must start
        with one.
        """
        keep_BT1 = (~is_first_BT).float().unsqueeze(-1)
        keep, uniform = keep_BT1.unbind(1), uniform_BTS.unbind(1)
        action_BTU, embed_BTU = (
            self._action_part(prev_action_BTA * keep_BT1),
            self._embed_part(embed_BTE),
        )
        steps = zip(action_BTU.unbind(1), embed_BTU.unbind(1), keep, uniform, strict=True)
        deter_BD = embed_BTU.new_zeros(len(embed_BTU), self.config.deter)
        stoch_BX = embed_BTU.new_zeros(len(embed_BTU), self.latent)
        deters, stochs, posteriors = [], [], []
        for action_BU, embed_BU, keep_B1, uniform_BS in steps:
            deter_BD = self._advance(stoch_BX * keep_B1, action_BU, deter_BD * keep_B1)
            logits_BSK = self._posterior(deter_BD, embed_BU)
            stoch_BSK = sampled(logits_BSK, uniform_BS)
            stoch_BX = stoch_BSK.flatten(-2)
            deters.append(deter_BD)
            stochs.append(stoch_BSK)
            posteriors.append(logits_BSK)
        deter_BTD = torch.stack(deters, 1)
        state = LatentState(deter_BTD, torch.stack(stochs, 1))
        return ObservedV2(state, torch.stack(posteriors, 1), self.prior(deter_BTD))

    def observe_step(
        self, state: LatentState, prev_action_BA: Tensor, embed_BE: Tensor, uniform_BS: Tensor
    ) -> LatentState:
        """Advance the posterior by one observed step; `reset` the rows that start first."""
        deter_BD = self._step(state, prev_action_BA)
        hidden_BU = F.elu(self.posterior_hidden(torch.cat([deter_BD, embed_BE], -1)))
        logits_BSK = self._logits(self.posterior_logits, hidden_BU)
        return LatentState(deter_BD, sampled(logits_BSK, uniform_BS))

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor
    ) -> LatentState:
        """Advance the prior by one step without an observation."""
        deter_BD = self._step(state, action_BA)
        return LatentState(deter_BD, sampled(self.prior(deter_BD), uniform_BS))

    def _step(self, state: LatentState, action_BA: Tensor) -> Tensor:
        padding = self.input.in_features - self.latent - action_BA.shape[-1]
        inputs = torch.cat([state.stoch.flatten(-2), F.pad(action_BA, (0, padding))], -1)
        return self.gru(F.elu(self.input(inputs)), state.deter)

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put zeros, and a zero action, where `is_first_B` is set."""
        keep_B1 = (~is_first_B).float().unsqueeze(-1)
        kept = LatentState(state.deter * keep_B1, state.stoch * keep_B1.unsqueeze(-1))
        return kept, prev_action_BA * keep_B1

    def _advance(self, stoch_BX: Tensor, action_BU: Tensor, deter_BD: Tensor) -> Tensor:
        product_BU = F.linear(stoch_BX, self.input.weight[:, : self.latent])
        return self.gru(F.elu(product_BU + action_BU), deter_BD)

    def _posterior(self, deter_BD: Tensor, embed_BU: Tensor) -> Tensor:
        weight = self.posterior_hidden.weight[:, : self.config.deter]
        hidden_BU = F.elu(F.linear(deter_BD, weight) + embed_BU)
        return self._logits(self.posterior_logits, hidden_BU)

    def _action_part(self, action: Tensor) -> Tensor:
        # Padding with zeros and leaving weights out are the same.
        stop = self.latent + action.shape[-1]
        return F.linear(action, self.input.weight[:, self.latent : stop], self.input.bias)

    def _embed_part(self, embed: Tensor) -> Tensor:
        weight = self.posterior_hidden.weight[:, self.config.deter :]
        return F.linear(embed, weight, self.posterior_hidden.bias)

    def _logits(self, layer: nn.Linear, hidden: Tensor) -> Tensor:
        return layer(hidden).float().unflatten(-1, (self.config.stoch, self.config.classes))


def sampled(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one-hot samples [..., K] that carry the gradient of the probabilities."""
    probs = torch.softmax(logits, -1)
    return straight_through(sample_one_hot(probs.detach(), uniform), probs)
