"""The latent state of a Dreamer: a deterministic vector and categorical variables.

Shape legend: B batch, T time, A flat action, E embed, D deter, S stoch variables, K classes,
X = S * K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from reverie_algorithms.common.dists import categorical_kl, sample_one_hot, straight_through


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

    @classmethod
    def of(cls, carry: Mapping[str, Tensor]) -> LatentState:
        """The state that a carry of acting holds beside other entries."""
        return cls(**{name: carry[name] for name in cls._fields})


class Observed(NamedTuple):
    """What an RSSM infers from whole windows."""

    state: LatentState
    """Posterior states [B, T, ...]."""
    posterior_BTSK: Tensor
    """The next stoch given the observation: probabilities, unimix included (DreamerV2: logits)."""
    prior_BTSK: Tensor
    """The same before it."""


class RSSM(Protocol):
    """A recurrent state-space model, as acting and pictures need it.

    It owns its state: whoever keeps one keeps its fields (`state._asdict()`) and asks for it back.
    """

    feat_size: int
    """F, width of `state.feat`."""

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers [*shape, S] for as many steps."""
        ...

    def initial(self, count: int) -> LatentState:
        """Where `count` episodes start."""
        ...

    def state(self, carry: Mapping[str, Tensor]) -> LatentState:
        """The state whose fields a carry holds."""
        ...

    def reset(
        self, state: LatentState, prev_action_BA: Tensor, is_first_B: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Put the initial state and a zero action where `is_first_B` is set."""
        ...

    def prior(self, deter: Tensor) -> Tensor:
        """What is known [..., S, K] of the next stoch from deter [..., D] alone."""
        ...

    def observe_step(
        self, state: LatentState, prev_action_BA: Tensor, embed_BE: Tensor, uniform_BS: Tensor
    ) -> tuple[LatentState, Tensor]:
        """Advance by one observed step; the posterior [B, S, K] beside the state."""
        ...

    def observe(
        self, embed_BTE: Tensor, prev_action_BTA: Tensor, is_first_BT: Tensor, uniform_BTS: Tensor
    ) -> Observed:
        """Infer the posterior states of windows that start from the initial state."""
        ...

    def imagine_step(
        self, state: LatentState, action_BA: Tensor, uniform_BS: Tensor, /
    ) -> LatentState:
        """Advance by one step without an observation."""
        ...


def observe_by_steps(
    rssm: RSSM,
    embed_BTE: Tensor,
    prev_action_BTA: Tensor,
    is_first_BT: Tensor,
    uniform_BTS: Tensor,
    start: LatentState,
) -> Observed:
    """Infer the posterior states of whole windows: the definition of every `observe`.

    Rows with `is_first_BT` start anew; others go on from the row before, the first from `start`.
    """
    state, states, posteriors = start, [], []
    for t in range(is_first_BT.shape[1]):
        state, action_BA = rssm.reset(state, prev_action_BTA[:, t], is_first_BT[:, t])
        state, posterior = rssm.observe_step(state, action_BA, embed_BTE[:, t], uniform_BTS[:, t])
        states.append(state)
        posteriors.append(posterior)
    return observed(rssm, states, posteriors)


def observed(rssm: RSSM, states: list[LatentState], posteriors: list[Tensor]) -> Observed:
    """Join the steps of a time loop, and add the prior of all of them at once."""
    state = LatentState(*[torch.stack(parts, 1) for parts in zip(*states, strict=True)])
    return Observed(state, torch.stack(posteriors, 1), rssm.prior(state.deter))


def sample(probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one-hot samples [..., K] that carry the gradient of the probabilities."""
    return straight_through(sample_one_hot(probs.detach(), uniform), probs)


def sample_logits(logits: Tensor, uniform: Tensor) -> Tensor:
    """The same from logits."""
    return sample(torch.softmax(logits, -1), uniform)


def balanced_kl(
    observed: Observed, free_nats: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """DreamerV3's losses `dyn` and `rep` [B, T], free nats clipped per element, and metrics
    (arXiv:2301.04104v1, eq. 5).
    """
    posterior, prior = observed.posterior_BTSK, observed.prior_BTSK
    log_posterior, log_prior = posterior.log(), prior.log()
    dyn = categorical_kl(posterior.detach(), log_posterior.detach(), log_prior)
    rep = categorical_kl(posterior, log_posterior, log_prior.detach())
    metrics = {
        "kl": dyn.detach().mean(),
        "entropy/posterior": -(posterior * log_posterior).detach().sum((-2, -1)).mean(),
        "entropy/prior": -(prior * log_prior).detach().sum((-2, -1)).mean(),
    }
    return {
        "dyn": dyn.clamp(min=free_nats),
        "rep": rep.clamp(min=free_nats),
    }, metrics
