"""Recurrent state-space model of DreamerV2, as in thuml/HarmonyDream@0a22e33 (arXiv:2010.02193).

Unlike DreamerV3's it has no norm but the GRU's, no unimix, and starts from zeros.

Shape legend: B batch, T time, A flat action, E embed, D deter, S stoch variables, K classes,
X = S * K, U hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from reverie.ranges import Latents, Share, Weight, Width
from reverie.types import STRICT
from reverie_algorithms import fast
from reverie_algorithms.common.dists import categorical_entropy, categorical_kl
from reverie_algorithms.common.layers import LayerNorm, output_linear
from reverie_algorithms.dreamer.latent import (
    LatentState,
    Observed,
    observe_by_steps,
    sample_logits,
)
from reverie_algorithms.fast import elu_observe


@dataclass(frozen=True, kw_only=True, slots=True)
class EluRSSMConfig:
    """Sizes of the latent state; the defaults are those of size `1024`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    deter: Width = 1024
    """Width of the deterministic state."""
    hidden: Width = 1024
    """Width of the hidden layers before the GRU and before the logits."""
    stoch: Latents = 32
    """Number of categorical variables."""
    classes: Latents = 32
    """Classes of each variable."""
    action_width: Annotated[int, Interval(ge=0, le=65_536)] = 0
    """Actions are padded with zeros to this width, so that one model fits several action spaces;
    0 leaves them as they are. ContextWM has 50 (source: thuml/ContextWM)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KLConfig:
    """How prior and posterior are drawn towards each other."""

    __pydantic_config__: ClassVar[Any] = STRICT
    SOURCE: ClassVar[str] = "thuml/HarmonyDream@0a22e33"

    balance: Share = 0.8
    """Share of the gradient that goes to the prior."""
    free_nats: Weight = 0.0
    """Mean KL of a batch below which it is not trained on."""


class EluGRU(nn.Module):
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


class EluRSSM(nn.Module):
    """Sequence model with a deterministic path and categorical latents.

    Raises:
        ValueError: actions are wider than `config.action_width`.
    """

    def __init__(self, config: EluRSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        if config.action_width and action_size > config.action_width:
            raise ValueError(
                f"algorithm.rssm.action_width: expected at least the {action_size} entries of an "
                f"action, got {config.action_width}"
            )
        self.config = config
        self.latent = config.stoch * config.classes
        self.feat_size = config.deter + self.latent
        self.padding = max(config.action_width - action_size, 0)
        self.input = output_linear(self.latent + action_size + self.padding, config.hidden)
        self.gru = EluGRU(config.hidden, config.deter)
        self.prior_hidden = output_linear(config.deter, config.hidden)
        self.prior_logits = output_linear(config.hidden, self.latent)
        self.posterior_hidden = output_linear(config.deter + embed_size, config.hidden)
        self.posterior_logits = output_linear(config.hidden, self.latent)

    # State

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers [*shape, S]: one for each variable of each step."""
        return torch.rand((*shape, self.config.stoch), generator=generator, device=generator.device)

    def initial(self, count: int) -> LatentState:
        """Return zeros for `count` rows."""
        config, device = self.config, self.input.weight.device
        stoch = torch.zeros(count, config.stoch, config.classes, device=device)
        return LatentState(torch.zeros(count, config.deter, device=device), stoch)

    def state(self, carry: Mapping[str, Tensor]) -> LatentState:
        return LatentState.of(carry)

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put zeros, and a zero action, where `is_first_B` is set."""
        keep_B1 = (~is_first_B).float().unsqueeze(-1)
        kept = LatentState(state.deter * keep_B1, state.stoch * keep_B1.unsqueeze(-1))
        return kept, prev_action_BA * keep_B1

    # Steps

    def advance(self, state: LatentState, action_BA: Tensor) -> Tensor:
        """The next deter [B, D]."""
        action_BA = F.pad(action_BA, (0, self.padding))
        inputs = torch.cat([state.stoch.flatten(-2), action_BA], -1)
        return self.gru(F.elu(self.input(inputs)), state.deter)

    def prior(self, deter: Tensor) -> Tensor:
        """Logits [..., S, K] of the next stoch from deter [..., D]."""
        return self.logits(self.prior_logits, F.elu(self.prior_hidden(deter)))

    def posterior(self, deter_BD: Tensor, embed_BE: Tensor) -> Tensor:
        """Logits [B, S, K] of the stoch that comes with an observation."""
        hidden_BU = F.elu(self.posterior_hidden(torch.cat([deter_BD, embed_BE], -1)))
        return self.logits(self.posterior_logits, hidden_BU)

    def logits(self, layer: nn.Linear, hidden: Tensor) -> Tensor:
        return layer(hidden).float().unflatten(-1, (self.config.stoch, self.config.classes))

    def observe_step(
        self, state: LatentState, prev_action_BA: Tensor, embed_BE: Tensor, uniform_BS: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Advance the posterior by one observed step; `reset` the rows that start first."""
        deter_BD = self.advance(state, prev_action_BA)
        logits_BSK = self.posterior(deter_BD, embed_BE)
        return LatentState(deter_BD, sample_logits(logits_BSK, uniform_BS)), logits_BSK

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor, /
    ) -> LatentState:
        """Advance the prior by one step without an observation."""
        deter_BD = self.advance(state, action_BA)
        return LatentState(deter_BD, sample_logits(self.prior(deter_BD), uniform_BS))

    def observe(
        self, embed_BTE: Tensor, prev_action_BTA: Tensor, is_first_BT: Tensor, uniform_BTS: Tensor
    ) -> Observed:
        """Infer the posterior states of whole windows.

        Rows with `is_first_BT` start from zeros; every window must start with one. The observed
        `posterior` and `prior` are logits.
        """
        window = embed_BTE, prev_action_BTA, is_first_BT, uniform_BTS
        if fast.enabled("products_ahead", embed_BTE):
            return elu_observe.observe(self, *window)
        return observe_by_steps(self, *window, self.initial(len(is_first_BT)))


def mean_kl(observed: Observed, config: KLConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """KL with different gradients to prior and posterior (arXiv:2010.02193, algorithm 2).

    Free nats are clipped on the batch's mean, each side apart.
    """
    log_posterior = torch.log_softmax(observed.posterior_BTSK, -1)
    log_prior = torch.log_softmax(observed.prior_BTSK, -1)
    fixed = log_posterior.detach()
    to_prior = categorical_kl(fixed.exp(), fixed, log_prior).mean()
    to_posterior = categorical_kl(log_posterior.exp(), log_posterior, log_prior.detach()).mean()
    loss = config.balance * to_prior.clamp(min=config.free_nats)
    loss = loss + (1 - config.balance) * to_posterior.clamp(min=config.free_nats)
    return loss, {
        "kl": to_prior.detach(),
        "entropy/posterior": categorical_entropy(fixed).mean(),
        "entropy/prior": categorical_entropy(log_prior.detach()).mean(),
    }
