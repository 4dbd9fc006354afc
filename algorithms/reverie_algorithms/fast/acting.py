"""Weights as acting wants them, in agents that never train."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

BFLOAT16_PRODUCTS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Names that torch gives to instructions of x86 and ARM CPUs which multiply bfloat16."""


class ActingLayer(nn.Module, ABC):
    """A layer that acting computes from something derived from its weights."""

    @abstractmethod
    def prepare_acting(self) -> None:
        """Derive it from the weights of now; forward passes carry no gradients then."""


def prepare_acting(parts: nn.Module) -> None:
    """Prepare all layers; to be called again whenever weights have changed."""
    for part in parts.modules():
        if isinstance(part, ActingLayer):
            part.prepare_acting()


def gains_by_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 are faster than in float32; many CPUs only emulate them."""
    if torch.device(device).type != "cpu":
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in BFLOAT16_PRODUCTS)


def keep_weights_in(dtype: torch.dtype, parts: nn.Module) -> None:
    """Keep the weights of products in the type that products are taken in.

    Autocast would turn them into it at every call. Biases, norms and other vectors enter what is
    computed in float32 and stay as they are. Weights that are loaded later are cast on the way.
    """
    for name, param in parts.named_parameters():
        if name.endswith("weight") and param.ndim > 1:
            param.data = param.data.to(dtype)
