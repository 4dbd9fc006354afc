"""RMSNorm followed by SiLU (arXiv:1910.07467, eq. 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RMS_EPS = 1e-4
"""Added to the mean of squares (source: danijar/dreamerv3@e3f0224)."""
LAST = (-1,)


def rms_silu(x: Tensor, scale: Tensor, axes: tuple[int, ...] = LAST) -> Tensor:
    """Return silu(x / rms(x) * scale), with the mean of squares taken over `axes`, in float32."""
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + RMS_EPS)
    return F.silu(wide * inverse * scale).to(x.dtype)
