"""What an import is asked for, and the presets of known data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from reverie.data.codecs import check_codec
from reverie.errors import ConfigError
from reverie.types import JsonTree

Kind = Literal["video", "frames", "npz", "lerobot"]
Crop = Literal["stretch", "centre"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """What decides about the frames of a data set; two imports into one folder have the same.

    Raises:
        ConfigError: a value out of its range.
    """

    kind: Kind | None = None
    """Format of the source; None finds out."""
    size: int | None = None
    """Side of the square frames in pixels; None keeps the size that the source has."""
    crop: Crop = "stretch"
    """What becomes of frames that are not square: squeezed, or the middle square is taken."""
    skip: int = 0
    """Frames left out at the start of each recording."""
    stride: int = 1
    """Of the others every `stride`-th is kept."""
    aligned: bool = False
    """Keep those whose number is a multiple of `stride`, wherever a recording begins."""
    fps: float | None = None
    """Frames per second to keep, by timestamps; None keeps all."""
    min_frames: int = 1
    """Clips with fewer are left out."""
    labels: tuple[str, ...] | None = None
    """Clips with other labels are left out."""
    codec: str = "raw"
    first: int = 1
    """Number of the first frame of a clip that a list names."""
    step: int = 1
    """From the number of one frame of it to the next."""
    flat: bool = False
    """Frames lie as `{name}_{number}.jpg` in one folder, not as `{name}/{number}.jpg`."""
    number_runs: bool = False
    """Every run of contiguous frames is called `{name}_{k}`, even where there is but one."""
    camera: str | None = None
    """Which of several cameras."""
    image_key: str = "image"
    action_key: str = "action"
    reward_key: str | None = None
    """Where there is a reward; None means `reward` of npz episodes, and none of LeRobot."""
    stacked: bool = False
    """Images are stacks of frames, the newest last, channel first: uint8 [T, 3 * n, H, W]."""
    action_leads_here: bool = False
    """A row's action led to its image; it is moved to the row in which it was chosen."""

    def __post_init__(self) -> None:
        check_codec(self.codec)
        if self.crop not in get_args(Crop):
            raise ConfigError(f"crop: expected one of {list(get_args(Crop))}, got {self.crop!r}")
        least = {"size": 8, "skip": 0, "stride": 1, "min_frames": 1, "step": 1, "first": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name}: expected at least {low}, got {value}")
        if self.fps is not None and not 0 < self.fps < 1e6:
            raise ConfigError(f"fps: expected a positive number, got {self.fps}")

    def tree(self) -> JsonTree:
        """As JSON has it."""
        labels = None if self.labels is None else list(self.labels)
        return {**asdict(self), "labels": labels}

    def keeps(self, position: int, number: int) -> bool:
        """Whether the frame at `position` of its recording, which has `number`, is kept."""
        if position < self.skip:
            return False
        return (number if self.aligned else position - self.skip) % self.stride == 0


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ssv2": {"size": 64, "crop": "stretch", "min_frames": 25},
    "human36m": {
        "size": 64,
        "crop": "stretch",
        "min_frames": 25,
        "flat": True,
        "step": 5,
    },
    "youtube_driving": {
        "size": 64,
        "crop": "centre",
        "min_frames": 25,
        "skip": 99,
        "stride": 5,
        "aligned": True,
        "first": 0,
        "number_runs": True,
    },
    "ivideogpt_demos": {
        "kind": "npz",
        "image_key": "observation",
        "stacked": True,
        "action_leads_here": True,
    },
}
"""As thuml/ContextWM@3a8bca8 prepares its three data sets, and thuml/iVideoGPT its demonstrations.

Differs from ContextWM: frames are scaled by area, not by cv2's and PIL's defaults, and Human3.6M is
not cropped around the joints, for which its poses are needed."""


def make_options(preset: str | None = None, **given: Any) -> ImportOptions:
    """The options of a preset with what is given (and not None) laid over them.

    Raises:
        ConfigError: no such preset, or a value out of its range.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset: expected one of {sorted(PRESETS)}, got {preset!r}")
    base: Mapping[str, Any] = PRESETS[preset] if preset else {}
    return ImportOptions(**{**base, **{k: v for k, v in given.items() if v is not None}})


def of_prepared_frames(options: ImportOptions) -> ImportOptions:
    """The options for frames that a list names: what a preset skips was left out as they were
    prepared.
    """
    if not options.number_runs:
        return options
    return replace(options, skip=0, stride=1, aligned=False)
