"""5x5 convolution and 2x2 max-pooling with a sixth of the multiplications, for acting on a CPU.

Winograd's minimal filtering F(4x4, 5x5) (arXiv:1509.09308, section 4): a tile of 8x8 inputs and the
kernel are evaluated at 8x8 points, multiplied there, and 4x4 outputs are read off. That takes 64
products per pair of channels instead of 400. In float32 the outputs are five times as far from the
exact ones as those of the direct convolution, which is some 1e-6 of their size.

Shape legend: N images, H and W their sides, C and O channels, P points, R tiles.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5
OUT = 4
"""Outputs of a tile per side."""
TILE = OUT + KERNEL - 1
POINTS = (0, 1, -1, 1 / 2, -1 / 2, 2, -2)
"""Where polynomials are evaluated, besides at infinity; small powers of two lose few digits."""
LEAST_CHANNELS = 24
"""With fewer inputs the transforms cost more than the products they save (measured)."""
TILES_AT_ONCE = 128
"""What lies between inputs and outputs of so many tiles stays in a core's cache."""


def _powers(count: int) -> np.ndarray:
    """The first `count` powers of every point [P, count]; at infinity only the last one counts."""
    return np.vstack([np.vander(POINTS, count, increasing=True), np.eye(count)[-1]])


FROM_KERNEL = torch.from_numpy(_powers(KERNEL))
FROM_INPUTS = torch.from_numpy(np.linalg.inv(_powers(TILE)).T).float().contiguous()
TO_OUTPUTS = torch.from_numpy(_powers(OUT).T).float().contiguous()


def suits(conv: nn.Conv2d) -> bool:
    """Whether a `PooledConv` is faster than this layer and pooling."""
    weight = conv.weight
    return weight.is_cpu and weight.dtype == torch.float32 and weight.shape[1] >= LEAST_CHANNELS


class PooledConv:
    """`max_pool2d(conv(x), 2)` of images [N, C, H, W], with the weights that `conv` has now."""

    def __init__(self, conv: nn.Conv2d) -> None:
        assert conv.bias is not None
        kernel, points = conv.weight.detach().double(), FROM_KERNEL
        weight = torch.einsum("qj,pi,ocij->qpco", points, points, kernel)
        self.weight = weight.flatten(0, 1).float().contiguous()
        self.bias = conv.bias.detach()

    @staticmethod
    def tiles(x: Tensor) -> bool:
        """Whether the sides of these images fall into whole tiles."""
        return x.shape[2] % OUT == 0 and x.shape[3] % OUT == 0

    def __call__(self, x: Tensor) -> Tensor:
        x_NHWC = x.permute(0, 2, 3, 1)
        tiles_per_image = x_NHWC.shape[1] * x_NHWC.shape[2] // OUT**2
        parts = x_NHWC.split(max(TILES_AT_ONCE // tiles_per_image, 1))
        pooled = torch.cat([self._pooled(part) for part in parts])
        return pooled.add_(self.bias).permute(0, 3, 1, 2)

    def _pooled(self, x_NHWC: Tensor) -> Tensor:
        """Outputs [N, H / 2, W / 2, O] without the bias, which pooling leaves alone."""
        images, height, width, channels = x_NHWC.shape
        grid, outputs = (images, height // OUT, width // OUT), self.weight.shape[-1]
        margin = KERNEL // 2

        # Points of rows, then of columns: each brings its tile to the front, one flat product each
        padded = F.pad(x_NHWC, (0, 0, margin, margin, margin, margin))
        rows = padded.unfold(1, TILE, OUT).movedim(-1, 0)
        rows = torch.mm(FROM_INPUTS, rows.reshape(TILE, -1)).view(rows.shape)
        both = rows.unfold(3, TILE, OUT).movedim(-1, 0)
        both = torch.mm(FROM_INPUTS, both.reshape(TILE, -1))

        product_PRO = torch.bmm(both.view(TILE**2, -1, channels), self.weight)

        # Outputs of columns, then of rows; the largest of two columns, then of two rows
        columns = torch.mm(TO_OUTPUTS, product_PRO.view(TILE, -1)).view(OUT, TILE, -1)
        tile = torch.bmm(TO_OUTPUTS.expand(OUT, OUT, TILE), columns)
        tile = torch.maximum(tile[0::2], tile[1::2])
        tile = torch.maximum(tile[:, 0::2], tile[:, 1::2]).view(2, 2, *grid, outputs)
        return tile.permute(2, 3, 1, 4, 0, 5).reshape(images, height // 2, width // 2, outputs)
