"""How DMC Remastered's scenes differ from one another: what is drawn from a visual seed.

Ranges and order of the draws are those of the published code, so that with the same pictures in
the same order a seed shows the same scene (source: QData/dmc_remastered@cec0684, Apache-2.0).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

Range = tuple[float, float]
Triple = tuple[float, float, float]
Ranges = tuple[Range, Range, Range]

SKIES, FLOORS = 119, 383
"""Number of pictures of each kind in the published set."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a domain's camera and light may stand, in metres; `None`: they stay."""

    camera: Ranges
    light: Ranges | None = None
    euler: Ranges | None = None
    """Degrees by which the camera is turned about x, y and z."""
    tilt: Range | None = None
    """How far down the camera looks: its upward axis is (0, tilt, 1)."""
    lamp: bool = False
    """Whether the strength of the light itself varies as well."""
    standing_camera: Triple | None = None
    """Where the camera stands when it does not vary, if not where dm_control has it."""
    standing_tilt: float | None = None
    standing_light: Triple | None = None
    ground: Triple | None = None
    """Half the length and width of the floor and the width of its grid, if not dm_control's."""


STAGES: Mapping[str, Stage] = {
    "ball_in_cup": Stage(
        ((-0.05, 0.05), (-0.9, -1.1), (0.8, 1.0)),
        ((-0.5, 0.5), (-0.5, 0.5), (1.2, 2.7)),
        standing_camera=(0.0, -1.0, 0.9),
    ),
    "cartpole": Stage(
        ((-0.15, 0.15), (-5.0, -3.0), (0.8, 1.2)), ((-1.0, 1.0), (-1.0, 1.0), (4.5, 7.5))
    ),
    "cheetah": Stage(
        ((-0.25, 0.25), (-3.2, -2.8), (-0.25, 0.25)),
        ((-2.0, 2.0), (-2.0, 2.0), (1.0, 5.0)),
        ground=(100.0, 15.0, 0.5),
    ),
    "finger": Stage(
        ((-0.02, 0.02), (-1.01, -0.99), (0.7, 1.0)),
        ((-0.8, 0.8), (-0.8, 0.8), (1.0, 3.0)),
        lamp=True,
    ),
    "fish": Stage(
        ((-0.05, 0.05), (-0.05, 0.05), (0.8, 1.2)), ((-0.3, 0.3), (-0.3, 0.3), (0.0, 1.0))
    ),
    "hopper": Stage(
        ((-0.15, 0.15), (-3.0, -2.6), (0.6, 1.0)),
        euler=((85.0, 95.0), (-5.0, 5.0), (-5.0, 5.0)),
    ),
    "humanoid": Stage(
        ((-3.5, -2.5), (-0.5, 0.5), (0.5, 1.5)), ((-0.7, 0.7), (-0.7, 0.7), (1.2, 1.8))
    ),
    "pendulum": Stage(
        ((0.0, 0.2), (-1.1, -0.97), (1.3, 1.6)),
        ((-0.5, 0.5), (-0.2, 0.2), (1.2, 2.8)),
        tilt=(0.4, 0.6),
        standing_camera=(0.1, -1.0, 1.5),
        standing_tilt=0.5,
    ),
    "reacher": Stage(
        ((-0.05, 0.05), (-0.05, 0.05), (0.7, 0.8)),
        ((-0.2, 0.2), (-0.2, 0.2), (0.15, 0.75)),
        standing_light=(0.0, 0.0, 0.5),
    ),
    "walker": Stage(((-0.3, 0.3), (-2.05, -1.95), (0.6, 0.8))),
}


@dataclass(frozen=True, slots=True)
class Look:
    """One appearance of a scene; colours are red, green, blue and, where four, opacity."""

    sky: int
    """Number of the picture, from 0."""
    floor: int
    reflectance: float
    """Of the floor."""
    body: tuple[float, ...]
    effector: tuple[float, ...]
    target: tuple[float, ...]
    ambient: Triple
    """Of the head light, as the next two."""
    diffuse: Triple
    specular: Triple
    camera: Triple
    euler: Triple | None
    tilt: float | None
    light: Triple | None
    lamp_diffuse: Triple | None
    lamp_specular: Triple | None


def draw_look(stage: Stage, seed: int, skies: int = SKIES, floors: int = FLOORS) -> Look:
    """Draw what visual seed `seed`, from 1, shows where there are so many skies and floors.

    As in the published code the place of the camera and the colours are drawn from the same
    numbers: every seed starts two equal generators.
    """
    place, paint = random.Random(seed), random.Random(seed)
    return Look(  # the order of the arguments is the order of the draws
        tilt=stage.tilt and place.uniform(*stage.tilt),
        camera=_triple(place, stage.camera),
        euler=stage.euler and _triple(place, stage.euler),
        light=stage.light and _triple(place, stage.light),
        lamp_diffuse=_tinted(place, (0.5, 1.1), 0.02) if stage.lamp else None,
        lamp_specular=_tinted(place, (0.0, 1.2), 0.02) if stage.lamp else None,
        sky=paint.randrange(skies),
        floor=paint.randrange(floors),
        reflectance=paint.uniform(0.0, 0.5),
        body=_colour(paint),
        effector=_colour(paint),
        target=_colour(paint),
        ambient=_tinted(paint, (0.1, 0.8), 0.05),
        diffuse=_tinted(paint, (0.4, 0.9), 0.1),
        specular=_tinted(paint, (0.05, 0.3), 0.02),
    )


def _triple(rng: random.Random, ranges: Ranges) -> Triple:
    x, y, z = (rng.uniform(*limits) for limits in ranges)
    return x, y, z


def _tinted(rng: random.Random, level: Range, spread: float) -> Triple:
    """Draw a grey, and a small difference from it for each of red, green and blue."""
    grey = rng.uniform(*level)
    limits = grey - spread, grey + spread
    return _triple(rng, (limits, limits, limits))


def _colour(rng: random.Random) -> tuple[float, ...]:
    opacity = rng.uniform(0.75, 1.0)
    return rng.random(), rng.random(), rng.random(), opacity
