"""How frames lie in a shard: as they are, or each compressed by itself, so that any can be read
alone.

    raw   12,288 bytes for 64 x 64; read by copying
    lz4   LZ4 blocks; lossless, pays on drawn pictures and hardly on filmed ones
    jpeg  baseline JPEG (4:2:0); lossy, the smallest
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]

from reverie.errors import ConfigError
from reverie.extras import load_extra
from reverie.types import Array

pa: ModuleType = pyarrow

CODECS = ("raw", "lz4", "jpeg")
JPEG_QUALITY = 90
"""Of 100. A JPEG of 64 x 64 at 90 takes about 3 kB."""
EXTRA = "video"

Encode = Callable[[Array], bytes]
Decode = Callable[[Array, Array], None]


class Codec(NamedTuple):
    """How to get a frame [H, W, 3] into bytes, and bytes (as uint8 [n]) into such a frame."""

    encode: Encode
    decode: Decode


def check_codec(name: str) -> str:
    """Return `name` if it is a codec.

    Raises:
        ConfigError: it is none, with the known names.
    """
    if name not in CODECS:
        raise ConfigError(f"codec: expected one of {list(CODECS)}, got {name!r}")
    return name


def open_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        ImportError: `jpeg` without OpenCV.
    """
    return {"raw": _raw, "lz4": _lz4, "jpeg": _jpeg}[check_codec(name)]()


def _raw() -> Codec:
    def encode(frame: Array) -> bytes:
        return frame.tobytes()

    def decode(data: Array, out: Array) -> None:
        out[:] = data.reshape(out.shape)

    return Codec(encode, decode)


@cache
def _lz4() -> Codec:
    codec: Any = pa.Codec("lz4_raw")

    def encode(frame: Array) -> bytes:
        return codec.compress(np.ascontiguousarray(frame).data, asbytes=True)

    def decode(data: Array, out: Array) -> None:
        plain = codec.decompress(data.data, decompressed_size=math.prod(out.shape))
        out[:] = np.frombuffer(plain, np.uint8).reshape(out.shape)

    return Codec(encode, decode)


@cache
def _jpeg() -> Codec:
    cv2: Any = load_extra("cv2", "the codec jpeg", EXTRA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]

    def encode(frame: Array) -> bytes:
        fine, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
        if not fine:
            raise ValueError(f"JPEG: could not encode a frame of shape {frame.shape}")
        return data.tobytes()

    def decode(data: Array, out: Array) -> None:
        frame = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if frame is None or frame.shape != out.shape:
            got = "none" if frame is None else frame.shape
            raise ValueError(f"JPEG: expected a frame of shape {out.shape}, got {got}")
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=out)

    return Codec(encode, decode)
