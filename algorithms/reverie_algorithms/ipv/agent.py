"""IPV: a latent video model pre-trained on in-the-wild video, without actions or rewards.

arXiv:2305.18499, with the context of its ContextWM or without. On the plain networks it is the
pre-training of APV: arXiv:2203.13880.

Shape legend: B batch, T time, S stoch variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from reverie.errors import ConfigError
from reverie.protocols import (
    AgentContext,
    Carry,
    Feedback,
    LearnsFrom,
    Metrics,
    Mode,
    StreamSpec,
    Videos,
)
from reverie.types import Array, Counters, Rows, Spaces
from reverie_algorithms.common.optim import Adam, AdamGroup
from reverie_algorithms.common.saved_agent import SavedAgent, named_size
from reverie_algorithms.common.states import make_generator
from reverie_algorithms.dreamer.open_loop import look_ahead
from reverie_algorithms.dreamer.resnet import follow_batch
from reverie_algorithms.dreamer.video.video_rssm import VideoNoise, VideoRSSM
from reverie_algorithms.ipv.config import SIZES, IPVConfig

STREAM = "video"


class IPV(SavedAgent):
    """A latent video model, pre-trained without actions: a start for APV and ContextWM."""

    Config = IPVConfig
    PAPER = "arXiv:2305.18499"
    SIZES = SIZES
    VARIANTS: ClassVar[Mapping[str, str]] = {
        "ContextWM": "context.kind=frame (arXiv:2305.18499)",
        "APV": "encoder.kind=plain decoder.kind=plain loss_scales.kl=0.1 (arXiv:2203.13880)",
    }
    LEARNS_FROM: ClassVar[LearnsFrom] = "video"
    COMPILABLE = ("video_loss",)

    def __init__(self, config: IPVConfig, spaces: Spaces, context: AgentContext) -> None:
        super().__init__(config, spaces, context)
        self.config = config
        self.batch_size = config.batch_size or context.batch_size
        self.batch_length = config.batch_length or context.batch_length
        _check_spaces(spaces)
        self._acts_with()
        if not context.training:
            return

        with self._seeded("video"):
            networks = config.rssm, config.encoder, config.decoder
            self.model = VideoRSSM(spaces.obs, *networks, config.kl, config.context)
            self.model.to(context.device).eval()
        group = AdamGroup(
            dict(self.model.named_parameters()),
            lr=config.lr,
            eps=config.adam_eps,
            clip=config.clip,
            weight_decay=config.weight_decay,
            shrink=config.shrink,
        )
        self._learns(
            modules={
                "encoder": self.model.encoder,
                **self._context_encoder(),
                "af_rssm": self.model.rssm,
                "decoder": self.model.decoder,
            },
            targets={},
            roots={"model": self.model},
            optimizers={"model": Adam([group], context.group)},
        )

    @classmethod
    def config_defaults(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return named_size(raw, SIZES, "1024").defaults()

    def _context_encoder(self) -> dict[str, nn.Module]:
        found = self.model.context_encoder
        return {} if found is None else {"context_encoder": found}

    # Learning

    def streams(self) -> dict[str, StreamSpec]:
        return {STREAM: StreamSpec(self.batch_size, self.batch_length)}

    def update(
        self, batches: Mapping[str, Mapping[str, Tensor]], counters: Counters
    ) -> tuple[Metrics, Feedback]:
        data = self.model.prepare(batches[STREAM])

        # Batch norms use their batch here and nowhere else
        self.model.train()
        batch_size, length = data["is_first"].shape
        noise = self.model.noise(batch_size, length, self.learn_generator)
        loss, metrics = self.video_loss(data, noise)
        self.model.eval()
        metrics["grad_norm/model"] = self.optimizers["model"].step(loss)
        follow_batch(self.model, self.context.group)
        return metrics, {}

    def video_loss(self, data: Mapping[str, Tensor], noise: VideoNoise) -> tuple[Tensor, Metrics]:
        """Return the weighted loss and metrics."""
        with self.autocast():
            losses, metrics = self.model.losses(data, noise)
        scales = self.config.loss_scales
        total = scales.image * losses["image"] + scales.kl * losses["kl"]
        metrics |= {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        metrics["loss/model"] = total.detach()
        return total, metrics

    # Reporting

    @torch.no_grad()
    def report(self, batches: Mapping[str, Mapping[str, Tensor]]) -> tuple[Videos, Metrics]:
        data = self.model.prepare(batches[STREAM])
        generator = make_generator(self.context.device, self.context.seed, "report")
        batch_size, length = data["is_first"].shape
        noise = self.model.noise(batch_size, length, generator)
        _, losses = self.video_loss(data, noise)
        videos, errors = look_ahead(self.model, data, generator)
        return videos, losses | errors

    # Acting

    def act(self, obs: Rows, carry: Carry, mode: Mode, counters: Counters) -> tuple[Array, Carry]:
        self._refuse()

    def initial_carry(self, count: int) -> Carry:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"algorithm.name: {self.config.name} learns from video and chooses no actions; train an"
            " agent that starts from its run: reverie train CONFIG init.from=RUN"
        )


def _check_spaces(spaces: Spaces) -> None:
    """Raises: ValueError, where there is anything to see besides pictures."""
    others = [name for name, spec in spaces.obs.items() if not spec.is_image]
    if others:
        raise ValueError(f"observations: ipv wants images alone, got {others} besides")
