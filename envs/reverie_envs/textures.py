"""Pictures made of noise: skies, floors and moving clips, each decided by its number alone.

They stand in for photographs and videos that cannot be shipped. All are seamless at their edges
where that shows: floors are laid side by side, clips scroll.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

from reverie.extras import load_extra
from reverie.types import Array

SKY, FLOOR, CLIP = range(3)
"""First part of a picture's seed, so that the kinds do not share numbers."""


def sky(number: int, size: int = 256) -> Array:
    """Draw landscape `number`: clouds over ranges of hills, uint8 [size, size, 3] in RGB."""
    rng = np.random.default_rng((SKY, number))
    height = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    above, horizon, cloud = (_colour(rng, 0.6, lightness=(0.35, 0.95)) for _ in range(3))
    picture = above + (horizon - above) * height
    cover = np.clip((noise(rng, size, 1.8) - rng.uniform(0.35, 0.6)) * 4, 0, 1)[..., None]
    picture = picture + (cloud - picture) * cover * (1 - height)
    ground = _colour(rng, 0.7, lightness=(0.1, 0.5))
    ridges, grain = noise(rng, size, 2.2), 0.7 + 0.6 * noise(rng, size, 1.0)[..., None]
    for row, near in enumerate(np.linspace(0.2, 1, rng.integers(2, 5))):
        ridge = 0.45 + 0.35 * near + 0.25 * (ridges[row * size // 4, :, None] - 0.5)
        hill = (horizon + (ground - horizon) * near) * grain
        picture = np.where(height > ridge, hill, picture)
    return _pixels(picture)


def floor(number: int, size: int = 300) -> Array:
    """Draw floor `number`: bricks, planks, tiles, marble or gravel, uint8 [size, size, 3]."""
    rng = np.random.default_rng((FLOOR, number))
    shade = FLOORS[number % len(FLOORS)](rng, size)[..., None]
    dark = _colour(rng, 0.6, lightness=(0.05, 0.4))
    light = _colour(rng, 0.6, lightness=(0.4, 0.95))
    grain = 0.85 + 0.3 * noise(rng, size, 0.6)[..., None]
    return _pixels((dark + (light - dark) * shade) * grain)


def clip(number: int, frames: int, size: int) -> Array:
    """Draw a moving grey scene as if from a car: uint8 [frames, size, size].

    Ranges of hills glide sideways, the nearer ones faster, and the light changes slowly.
    """
    cv2 = load_extra("cv2", "drawing a scene", "dmc")
    rng = np.random.default_rng((CLIP, number))
    layers = [noise(rng, 2 * size, slope) for slope in (2.2, 1.6, 1.2)]
    tops = (-size, *np.sort(rng.uniform(0.2, 0.9, 2) * size))
    speed = rng.choice((-1, 1)) * rng.uniform(0.1, 0.4) * size / 64
    levels, phase = rng.uniform(0.2, 0.9, 3), rng.uniform(0, 2 * np.pi)
    rows = np.arange(size)[:, None]
    shown = np.empty((frames, size, size), np.uint8)
    for frame in range(frames):
        scene = np.empty((size, size), np.float32)
        for depth, (layer, top) in enumerate(zip(layers, tops, strict=True)):
            moved = np.array([[1, 0, -(speed * frame * 2**depth) % (2 * size)], [0, 1, 0]])
            view = cv2.warpAffine(layer, moved, (size, size), borderMode=cv2.BORDER_WRAP)
            inside = rows >= top + 0.4 * size * (view[0] - 0.5)
            scene = np.where(inside, levels[depth] * (0.35 + 1.1 * view), scene)
        light = 0.85 + 0.15 * np.sin(phase + frame / 20)
        shown[frame] = np.clip(scene * light * 255, 0, 255)
    return shown


def noise(rng: np.random.Generator, size: int, slope: float) -> Array:
    """Draw periodic noise, float32 [size, size] from 0 to 1.

    Args:
        rng: Where the phases come from.
        size: Height and width in pixels.
        slope: Amplitudes fall with the frequency to this power; photographs have about 1, and
            the higher, the smoother.
    """
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / size)
    spectrum = np.exp(2j * np.pi * rng.random(frequency.shape)) / frequency**slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (size, size))
    return np.clip(0.5 + field / (5 * field.std()), 0, 1).astype(np.float32)


# Floors: how light each pixel is, float32 [size, size] from 0 to 1


def _bricks(rng: np.random.Generator, size: int) -> Array:
    rows, columns = rng.integers((4, 2), (9, 5))
    return _laid(rng, size, int(rows), int(columns), offset=0.5)


def _planks(rng: np.random.Generator, size: int) -> Array:
    cv2 = load_extra("cv2", "drawing a texture", "dmc")
    grain = cv2.blur(noise(rng, size, 0.5), (1, size // 5), borderType=cv2.BORDER_REFLECT)
    boards = _laid(rng, size, 1, int(rng.integers(4, 9)), offset=0.0)
    return boards * (0.6 + 0.8 * (grain - 0.25))


def _tiles(rng: np.random.Generator, size: int) -> Array:
    count = int(rng.integers(2, 6))
    return _laid(rng, size, count, count, offset=0.0)


def _marble(rng: np.random.Generator, size: int) -> Array:
    return 0.5 + 0.5 * np.sin(noise(rng, size, 1.9) * rng.uniform(10, 30))


def _gravel(rng: np.random.Generator, size: int) -> Array:
    return np.clip(3 * (noise(rng, size, rng.uniform(0.4, 1.2)) - 0.5) + 0.5, 0, 1)


FLOORS: tuple[Callable[[np.random.Generator, int], Array], ...] = (
    _bricks,
    _planks,
    _tiles,
    _marble,
    _gravel,
)


def _laid(rng: np.random.Generator, size: int, rows: int, columns: int, offset: float) -> Array:
    """Lay stones in rows, every second one shifted by `offset` of a stone; joints are dark."""
    rows += rows % 2 if offset else 0
    place = np.arange(size) / size
    row = (place * rows).astype(int)[:, None]
    column = place[None] * columns + offset * (row % 2)
    shade = rng.uniform(0.4, 1, (rows, columns))[row, column.astype(int) % columns]
    down, across = (place[:, None] * rows) % 1, column % 1
    between_rows = (np.minimum(down, 1 - down) / rows < 0.008) & (rows > 1)
    between_stones = np.minimum(across, 1 - across) / columns < 0.008
    return np.where(between_rows | between_stones, 0, shade).astype(np.float32)


def _colour(rng: np.random.Generator, saturation: float, lightness: tuple[float, float]) -> Array:
    hls = rng.random(), rng.uniform(*lightness), rng.uniform(0, saturation)
    return np.array(colorsys.hls_to_rgb(*hls), np.float32)


def _pixels(picture: Array) -> Array:
    return np.clip(picture * 255, 0, 255).astype(np.uint8)
