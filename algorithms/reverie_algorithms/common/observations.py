"""Which observations an agent learns from, and the networks that read and rebuild them.

Every image key has its own convolutions; all vector keys share one MLP on symlog values.

Shape legend: B batch, T time, F feat, E embed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.names import identifier
from reverie.types import LOG_PREFIX, RESERVED_KEYS, ArraySpec
from reverie_algorithms.common.dists import symlog

VECTOR = ":vector"
"""Key of all vector observations together among the network inputs."""
SMALLEST_SIDE = 4
"""Image sides are halved until the shorter one has this many pixels."""


@dataclass(frozen=True, slots=True)
class ObsKeys:
    """The observation keys that are learned from, images apart from vectors."""

    images: dict[str, ArraySpec]
    vectors: dict[str, ArraySpec]

    @classmethod
    def select(cls, obs: Mapping[str, ArraySpec]) -> ObsKeys:
        """Sort the keys out, leaving `log/*` and reserved ones.

        Raises:
            ValueError: nothing is left, or an image is not uint8.
        """
        used = {k: obs[k] for k in sorted(obs) if not _ignored(k)}
        keys = cls(
            {k: spec for k, spec in used.items() if spec.is_image},
            {k: spec for k, spec in used.items() if not spec.is_image},
        )
        if not used:
            raise ValueError(
                f"observations: expected at least one to learn from, got {sorted(obs)}"
            )
        if VECTOR in keys.images:
            raise ValueError(f"observation {VECTOR!r}: the name is taken by Reverie; rename it")
        for name, spec in keys.images.items():
            if spec.dtype != "uint8":
                raise ValueError(
                    f"observation {name!r}: expected a uint8 image, got {spec.dtype} "
                    f"{list(spec.shape)}, as of depth; let the environment give "
                    "np.clip(depth / FAR, 0, 1) and declare a Box from 0 to 1, which is taken as "
                    "a picture"
                )
        return keys

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.images, *self.vectors)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the losses that rebuild them: `image`, `vector`, or both."""
        return ("image",) * bool(self.images) + ("vector",) * bool(self.vectors)

    def inputs(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn observations [..., *shape] into centred pixels by key and one symlog vector."""
        inputs = {key: centred(obs[key]) for key in self.images}
        if self.vectors:
            flat = [flat_symlog(obs[key], spec) for key, spec in self.vectors.items()]
            inputs[VECTOR] = torch.cat(flat, -1)
        return inputs


def _ignored(key: str) -> bool:
    return key.startswith(LOG_PREFIX) or key in RESERVED_KEYS


def centred(image: Tensor) -> Tensor:
    """Turn uint8 pixels into float32 in [-0.5, 0.5]."""
    return image.float().div_(255).sub_(0.5)


def by_key(parts: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules by observation key, in this order; a key that torch does not take as a name (one
    with a dot, or of an attribute of modules) stands there in another form.
    """
    names = {key: identifier(key, only=".") for key in parts}
    taken = nn.ModuleDict()
    free = {key: f"{name}%" if hasattr(taken, name) else name for key, name in names.items()}
    return nn.ModuleDict({free[key]: part for key, part in parts.items()})


def flat_symlog(vector: Tensor, spec: ArraySpec) -> Tensor:
    """Turn a vector observation [..., *shape] into symlog values [..., size]."""
    lead = vector.shape[: vector.ndim - len(spec.shape)]
    return symlog(vector.reshape(*lead, spec.size).float())


class ObsEncoder(nn.Module):
    """Observations [..., *shape] to one embedding [..., E]; subclasses choose the networks."""

    keys: ObsKeys
    images: nn.ModuleDict
    """Centred pixels [M, H, W, C] to vectors [M, size], in the order of `keys.images`."""
    vector: nn.Module
    """All vectors together, where there are any."""
    size: int
    """E"""

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embed what `ObsKeys.inputs` returns."""
        parts = []
        for key, encoder in zip(self.keys.images, self.images.values(), strict=True):
            pixels = inputs[key]
            parts.append(encoder(pixels.flatten(0, -4)).unflatten(0, pixels.shape[:-3]))
        if self.keys.vectors:
            parts.append(self.vector(inputs[VECTOR]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class ObsDecoder(nn.Module):
    """Means of all network inputs from feat [..., F]; subclasses choose the networks."""

    keys: ObsKeys
    images: nn.ModuleDict
    vector: nn.Module
    scale = 1.0
    """Weight of the squared errors; 0.5 for the likelihood of unit normals."""

    def image_means(self, feat: Tensor) -> dict[str, Tensor]:
        """Predict centred pixels [..., H, W, C]."""
        flat, lead = feat.flatten(0, -2), feat.shape[:-1]
        decoders = zip(self.keys.images, self.images.values(), strict=True)
        return {key: decoder(flat).unflatten(0, lead) for key, decoder in decoders}

    def losses(self, feat: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared errors [...] times `scale`, summed over pixels or entries and keys of a kind.

        Centring cancels out, so this is the error of pixels in [0, 1].
        """
        losses = {}
        if self.images:
            means = self.image_means(feat)
            errors = [squared_error(mean, inputs[key], 3) for key, mean in means.items()]
            losses["image"] = self.scale * sum(errors[1:], errors[0])
        if self.keys.vectors:
            error = squared_error(self.vector(feat).float(), inputs[VECTOR], 1)
            losses["vector"] = self.scale * error
        return losses


def squared_error(mean: Tensor, target: Tensor, axes: int) -> Tensor:
    """Squared error summed over the last `axes` axes."""
    return F.mse_loss(mean, target, reduction="none").flatten(-axes).sum(-1)


def num_stages(name: str, shape: Sequence[int]) -> int:
    """Count the halvings that bring the shorter side of an image [H, W, C] to 4 pixels, or to 5, 6
    or 7; `padded_sides` can be halved so often.

    Raises:
        ValueError: a side is below 8 pixels.
    """
    height, width = shape[:2]
    stages = max((min(height, width) // SMALLEST_SIDE).bit_length() - 1, 0)
    if not stages:
        raise ValueError(
            f"observation {name!r}: expected an image of at least {2 * SMALLEST_SIDE} pixels a "
            f"side, got {height} x {width}; env.size=64 resizes it"
        )
    return stages


def padded_sides(shape: Sequence[int], stages: int) -> tuple[int, int]:
    """The sides of an image [H, W, C], up to the next that can be halved `stages` times."""
    step = 2**stages
    return -(-shape[0] // step) * step, -(-shape[1] // step) * step


def padded(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    """Pad centred pixels [M, H, W, C] with grey below and on the right; none where they fit.

    Differs from the source, which takes no other sizes: 84 x 96 are read as 96 x 96.
    """
    height, width = pixels.shape[1:3]
    if (height, width) == sides:
        return pixels
    return F.pad(pixels, (0, 0, 0, sides[1] - width, 0, sides[0] - height))
