"""Recurrent state-space model of DreamerV3-2023 (arXiv:2301.04104v1, eq. 3).

Shape legend: B batch, T time, A flat action, E embed, D deter, S stoch variables, K classes,
X = S * K, U units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.types import STRICT
from reverie_algorithms.common.dists import one_hot, sample_one_hot, straight_through, unimix
from reverie_algorithms.dreamer_v3_2023.nets import NormLinear, output_linear
from reverie_algorithms.fast.late_gradients import StepProduct
from reverie_algorithms.fast.one_hot_linear import OneHots, column_major, one_hot_linear


@dataclass(frozen=True, kw_only=True, slots=True)
class RSSMConfig:
    """Sizes of the latent state; the defaults are those of size `small`."""

    __pydantic_config__: ClassVar[Any] = STRICT

    deter: int = 512
    """Width of the deterministic state (source: danijar/dreamerv3@8fa35f8)."""
    units: int = 512
    """Width of the hidden layers before the GRU and before the logits
    (source: danijar/dreamerv3@8fa35f8)."""
    stoch: int = 32
    """Number of categorical variables (source: danijar/dreamerv3@8fa35f8)."""
    classes: int = 32
    """Classes of each variable (source: danijar/dreamerv3@8fa35f8)."""
    unimix: float = 0.01
    """Share of a uniform distribution in prior and posterior
    (source: danijar/dreamerv3@8fa35f8)."""


class LatentState(NamedTuple):
    """State of the model; further leading axes may stand in front."""

    deter: Tensor
    """[..., D]"""
    stoch: Tensor
    """[..., S, K], one-hot."""

    @property
    def feat(self) -> Tensor:
        """The state as one vector [..., D + X]."""
        return torch.cat([self.deter, self.stoch.flatten(-2)], -1)

    def detach(self) -> LatentState:
        return LatentState(self.deter.detach(), self.stoch.detach())

    def flatten(self) -> LatentState:
        """Join the first two axes."""
        return LatentState(self.deter.flatten(0, 1), self.stoch.flatten(0, 1))


class Observed(NamedTuple):
    """What `RSSM.observe` infers."""

    state: LatentState
    """Posterior states [B, T, ...]."""
    posterior_BTSK: Tensor
    """Probabilities given the observation, unimix included."""
    prior_BTSK: Tensor
    """Probabilities before it."""


class GRU(nn.Module):
    """GRU cell with a norm over all gates and a bias of -1 towards keeping the state."""

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.gates = NormLinear(deter + inputs, 3 * deter, act=False)

    def forward(self, inputs_BU: Tensor, deter_BD: Tensor) -> Tensor:
        product = F.linear(torch.cat([deter_BD, inputs_BU], -1), self.gates.weight)
        return self.finish(product, deter_BD)

    def finish(self, product: Tensor, deter_BD: Tensor) -> Tensor:
        """Apply the gates, given the product of state and inputs with their weight."""
        reset_BD, candidate_BD, update_BD = self.gates.finish(product).chunk(3, -1)
        candidate_BD = torch.tanh(torch.sigmoid(reset_BD) * candidate_BD)
        return torch.lerp(deter_BD, candidate_BD, torch.sigmoid(update_BD - 1))


class UnimixRSSM(nn.Module):
    """What RSSMs of DreamerV3 share: categorical latents with a uniform share, and acting."""

    config: Any
    prior_hidden: Any
    prior_logits: Any
    posterior_hidden: Any
    posterior_logits: Any
    """Layers from deter [..., D], and for the posterior also embed [..., E], to logits [..., X]."""

    def prior(self, deter: Tensor) -> Tensor:
        """Probabilities [..., S, K] of the next stoch from deter [..., D]."""
        return self._probs(self.prior_logits(self.prior_hidden(deter)))

    def observe_step(
        self, state: LatentState, prev_action_BA: Tensor, embed_BE: Tensor, uniform_BS: Tensor
    ) -> LatentState:
        """Advance the posterior by one observed step; `reset` the rows that start first."""
        deter_BD = self._advance(state, prev_action_BA)
        hidden_BU = self.posterior_hidden(torch.cat([deter_BD, embed_BE], -1))
        stoch_BSK, _ = self._sample(self.posterior_logits(hidden_BU), uniform_BS)
        return LatentState(deter_BD, stoch_BSK)

    def _advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        """The next deter [B, D]."""
        raise NotImplementedError

    def _probs(self, logits: Tensor) -> Tensor:
        shape = (self.config.stoch, self.config.classes)
        return unimix(logits.unflatten(-1, shape), self.config.unimix)

    def _sample(self, logits_BX: Tensor, uniform_BS: Tensor) -> tuple[Tensor, Tensor]:
        probs_BSK = self._probs(logits_BX)
        sample_BSK = sample_one_hot(probs_BSK.detach(), uniform_BS)
        return straight_through(sample_BSK, probs_BSK), probs_BSK


class RSSM(UnimixRSSM):
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

    def initial(self, count: int) -> LatentState:
        """Return the learned initial state of `count` rows; its stoch is the prior's mode."""
        deter_D = torch.tanh(self.initial_deter)
        mode_SK = one_hot(self.prior(deter_D).argmax(-1), self.config.classes)
        return LatentState(deter_D.expand(count, -1), mode_SK.expand(count, -1, -1))

    def observe(
        self, embed_BTE: Tensor, prev_action_BTA: Tensor, is_first_BT: Tensor, uniform_BTS: Tensor
    ) -> Observed:
        """Infer the posterior states of whole windows.

        What does not depend on the previous state (the products with embed and action, the
        prior, the gradients of weights) is computed outside the time loop.
        Rows with `is_first_BT` start from the initial state; every window must start with one.
        """
        is_first_BT1 = is_first_BT.unsqueeze(-1)
        initial = self.initial(1)
        products = self._products(embed_BTE, prev_action_BTA * ~is_first_BT1)
        start_deter = (initial.deter * is_first_BT1).unbind(1)
        start_stoch = (initial.stoch.flatten(-2) * is_first_BT1).unbind(1)
        keep = (~is_first_BT1).float().unbind(1)
        uniform = uniform_BTS.unbind(1)

        deter_BD, stoch_BX = start_deter[0], start_stoch[0]
        deters, stochs, posteriors = [], [], []
        for t in range(len(uniform)):
            if t:
                deter_BD = torch.addcmul(start_deter[t], deter_BD, keep[t])
                stoch_BX = torch.addcmul(start_stoch[t], stoch_BX, keep[t])
            inputs_BU = self.input.finish(products["input"](t, stoch_BX))
            gates = products["gates"](t, torch.cat([deter_BD, inputs_BU], -1))
            deter_BD = self.gru.finish(gates, deter_BD)
            hidden_BU = self.posterior_hidden.finish(products["hidden"](t, deter_BD))
            stoch_BSK, probs_BSK = self._sample(products["logits"](t, hidden_BU), uniform[t])
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
        """Advance the prior by one step without an observation."""
        deter_BD = self._advance(state, action_BA)
        logits_BX = self.prior_logits(self.prior_hidden(deter_BD))
        return LatentState(deter_BD, self._sample(logits_BX, uniform_BS)[0])

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put the initial state and a zero action where `is_first_B` is set."""
        initial = self.initial(len(is_first_B))
        is_first_B1 = is_first_B.unsqueeze(-1)
        deter_BD = torch.where(is_first_B1, initial.deter, state.deter)
        stoch_BSK = torch.where(is_first_B1.unsqueeze(-1), initial.stoch, state.stoch)
        return LatentState(deter_BD, stoch_BSK), prev_action_BA * ~is_first_B1

    def _advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        from_action_BU, stoch_weight = self._input_parts(action_BA)
        product_BU = one_hot_linear(state.stoch.flatten(-2), stoch_weight, self.one_hots)
        return self.gru(self.input.finish(product_BU + from_action_BU), state.deter)

    def _input_parts(self, action: Tensor) -> tuple[Tensor, Tensor]:
        stoch_weight, action_weight = self.input.weight.tensor_split([self.one_hots.width], 1)
        return F.linear(bounded(action), action_weight), stoch_weight

    def _products(self, embed_BTE: Tensor, action_BTA: Tensor) -> dict[str, StepProduct]:
        """The products of the time loop, with all that embed and action add to them."""
        late = embed_BTE.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        shape = (embed_BTE.shape[1], len(embed_BTE), -1)
        action_TBU, stoch_weight = self._input_parts(action_BTA.transpose(0, 1))
        sizes = [self.config.deter, embed_BTE.shape[-1]]
        deter_weight, embed_weight = self.posterior_hidden.weight.split(sizes, 1)
        embed_TBU = F.linear(embed_BTE.transpose(0, 1), embed_weight)
        gates, logits = self.gru.gates.weight, self.posterior_logits
        terms = {
            "input": (stoch_weight, action_TBU),
            "gates": (gates, gates.new_zeros(len(gates)).expand(shape)),
            "hidden": (deter_weight, embed_TBU),
            "logits": (logits.weight, logits.bias.expand(shape)),
        }
        return {name: StepProduct(weight, term, late) for name, (weight, term) in terms.items()}


def bounded(action: Tensor) -> Tensor:
    """Divide each component by max(1, |component|), a constant to the gradient."""
    return action / action.detach().abs().clamp(min=1)
