"""What all Dreamers share: acting from a latent state, and looking at imagined futures.

A paper's agent adds its networks, its losses and the order of one update.

Shape legend: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from reverie.protocols import AgentContext, Carry, Metrics, Mode, StreamSpec, Videos
from reverie.types import Array, Counters, Rows, Spaces
from reverie_algorithms.common.dists import ActionDist
from reverie_algorithms.common.observations import ObsEncoder, ObsKeys
from reverie_algorithms.common.saved_agent import SavedAgent, check_mode
from reverie_algorithms.common.states import make_generator
from reverie_algorithms.dreamer.config import DreamerConfig
from reverie_algorithms.dreamer.harmony import Harmonizer
from reverie_algorithms.dreamer.imagination import Policy
from reverie_algorithms.dreamer.latent import RSSM
from reverie_algorithms.dreamer.open_loop import OpenLoopModel, look_ahead

STREAM = "replay"
ConfigT = TypeVar("ConfigT", bound=DreamerConfig)
ModelT = TypeVar("ModelT", bound=OpenLoopModel)


class Dreamer(SavedAgent, Generic[ConfigT, ModelT]):
    """An agent that learns a world model and acts from its latent state."""

    config: ConfigT
    keys: ObsKeys
    actions: ActionDist
    """What the actor's outputs mean."""
    encoder: ObsEncoder
    rssm: RSSM
    actor: Policy
    world_model: ModelT
    harmony: Harmonizer

    def __init__(self, config: ConfigT, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        self.batch_size = config.batch_size or context.batch_size
        self.batch_length = config.batch_length or context.batch_length

    def _harmony_params(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Trained parameters of the harmonizer: with the model's, and in a group of their own."""
        params = {f"harmony/{name}": param for name, param in self.harmony.trained.items()}
        return ({}, params) if self.config.harmony.mode == "own_group" else (params, {})

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.batch_size, self.batch_length)}

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn a batch [B, T, ...] into what the model reads.

        Every window starts an episode, and `prev_action` is the action that led to each row,
        zero on first rows: the one place where actions are shifted.
        """
        is_first = batch["is_first"].clone()
        is_first[:, 0] = True
        action = self.actions.encode(batch["action"])
        prev_action = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], 1)
        return {
            **{key: batch[key] for key in self.keys.names},
            "is_first": is_first,
            "prev_action": prev_action * ~is_first.unsqueeze(-1),
            "reward": batch["reward"].float(),
            "cont": (~batch["is_terminal"]).float(),
        }

    # Acting

    @torch.no_grad()
    def initial_carry(self, count: int) -> Carry:
        with self.autocast():
            state = self.rssm.initial(count)
        width, device = self.spaces.action.flat_size, self.context.device
        return {**state._asdict(), "prev_action": torch.zeros(count, width, device=device)}

    @torch.no_grad()
    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        check_mode(mode)
        generator, is_first = self.act_generator, obs["is_first"]
        tensors = {key: self._to_device(obs[key]) for key in self.keys.names}
        with self.autocast():
            state, prev_action = self.rssm.state(carry), carry["prev_action"]
            if is_first.any():
                state, prev_action = self.rssm.reset(state, prev_action, self._to_device(is_first))
            embed = self.encoder(self.keys.inputs(tensors))
            uniform = self.rssm.noise(is_first.shape, generator)
            state, _ = self.rssm.observe_step(state, prev_action, embed, uniform)
            params = self.actor(state.feat)
            if mode == "mode":
                flat = self.actions.mode(params)
            else:
                noise = self.actions.noise(is_first.shape, generator)
                flat = self.actions.sample(params, noise)
            action = self.actions.decode(flat)
        carry = {**state._asdict(), "prev_action": self.actions.encode(action)}
        return action.cpu().numpy(), carry

    # Reporting

    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        generator = make_generator(self.context.device, self.context.seed, "report")
        return look_ahead(self.world_model, self.prepare(batches[STREAM]), generator)
