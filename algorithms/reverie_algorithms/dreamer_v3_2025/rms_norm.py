"""RMSNorm followed by SiLU, in few passes over memory (arXiv:1910.07467, eq. 4)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RMS_EPS = 1e-4
"""Added to the mean of squares (source: danijar/dreamerv3@e3f0224)."""
LAST = (-1,)


def rms_silu(x: Tensor, scale: Tensor, axes: tuple[int, ...] = LAST) -> Tensor:
    """Return silu(x / rms(x) * scale), with the mean of squares taken over `axes`.

    Compilers fuse the plain form; without one, on a CPU, a handwritten gradient halves the
    passes over memory.
    """
    if x.is_cpu and not torch.compiler.is_compiling():
        scale = scale.to(x.dtype)
        if torch.is_grad_enabled():
            return _RMSSiLU.apply(x, scale, axes)  # pyright: ignore[reportReturnType]
        return F.silu((x * inverse_rms(x, axes)).mul_(scale), inplace=True)
    return plain_rms_silu(x, scale, axes)


def plain_rms_silu(x: Tensor, scale: Tensor, axes: tuple[int, ...] = LAST) -> Tensor:
    """The definition, computed in float32."""
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + RMS_EPS)
    return F.silu(wide * inverse * scale).to(x.dtype)


def inverse_rms(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return 1 / sqrt(mean of squares + eps), summed up in float32."""
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=torch.float32)
    return norm.square_().div_(_size(x, axes)).add_(RMS_EPS).rsqrt_().to(x.dtype)


class _RMSSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, axes: tuple[int, ...]) -> Tensor:
        inverse = inverse_rms(x, axes)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, scale)
        ctx.axes = axes
        return F.silu(normed * scale, inplace=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, scale = ctx.saved_tensors
        scaled = normed * scale
        grad = torch.ops.aten.silu_backward(grads[0], scaled)
        product = torch.mul(grad, normed, out=scaled)
        scale_grad = product.sum_to_size(scale.shape)
        share = (product * scale).sum(ctx.axes, keepdim=True).div_(-_size(normed, ctx.axes))
        return grad.mul_(scale).addcmul_(normed, share).mul_(inverse), scale_grad, None


def _size(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)
