"""A loader: draws its share of every batch of video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from reverie.data.video_dataset import VideoDataset
from reverie.data.video_sampler import VideoSampler
from reverie.paths import place
from reverie.protocols import StreamSpec
from reverie.settings import DataConfig
from reverie.types import Piece, Window

HELD_OUT = "held out: "
"""Before a stream's name: its windows of clips that are held out."""


class VideoLoader:
    """Brings some slots of every batch, for as long as it is asked; opens the data sets itself.

    Args:
        specs: what an agent samples, by stream name.
        seed: of the draws, the same of all loaders.
        index, count: which loader this is, of how many.

    Raises:
        ConfigError: as `open_data` and `make_samplers`.
    """

    def __init__(
        self, data: DataConfig, specs: Mapping[str, StreamSpec], seed: int, index: int, count: int
    ) -> None:
        self.index = index
        self._samplers = make_samplers(data, specs, open_data(data), seed)
        self._first: dict[str, int] = {}
        for name, spec in specs.items():
            self._first[name] = sum(shares(spec.batch_size, count)[:index])
            self._first[HELD_OUT + name] = self._first[name]
        self._windows = 0

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None = None,
    ) -> list[Window]:
        """Read windows of one batch, as a replay shard gives them (`reverie.links.Draws`).

        `count` of them are brought here, of which `slots` are read (all, where it is not given).
        Waits for the disk where frames are not in memory.

        Returns:
            Windows of one piece each: `image` uint8 [T, H, W, 3], `action` float32 [T, A], flags
            bool [T]. The number of a piece's stream is that of its clip in the mixture, and its
            first row the frame.
        """
        sampler, first = self._samplers[name], self._first[name]
        mine = slots or range(count)
        mine = range(first + mine.start, first + mine.stop)
        drawn = sampler.draw(batch_number, mine)
        flags = {key: np.zeros(sampler.length, bool) for key in ("is_last", "is_terminal")}
        windows: list[Window] = []
        for row, slot in enumerate(mine):
            which, clip, start = sampler.where(batch_number, slot)
            number = sum(len(one.clips) for one in sampler.datasets[:which]) + clip
            data = {key: array[row] for key, array in drawn.items()} | flags
            windows.append([Piece(number, start, data)])
        self._windows += len(windows)
        return windows

    def stats(self) -> dict[str, int]:
        """What it has brought so far."""
        return {"windows": self._windows}


def open_data(data: DataConfig) -> list[VideoDataset]:
    """The data sets of a run.

    Raises:
        ConfigError: a folder that is no data set, or an unfinished one.
    """
    return [VideoDataset(place(folder)) for folder in data.folders]


def make_samplers(
    data: DataConfig,
    specs: Mapping[str, StreamSpec],
    datasets: Sequence[VideoDataset],
    seed: int,
) -> dict[str, VideoSampler]:
    """Two samplers per stream: of the clips that are trained on, and of those that are held out.

    Where `data.holdout` is 0, what is looked at is drawn from all clips.

    Raises:
        ConfigError: as `VideoSampler`.
    """
    return {
        prefix + name: VideoSampler(
            datasets,
            length=spec.window_length,
            seed=seed,
            weights=data.weights,
            holdout=data.holdout,
            held_out=bool(prefix) and data.holdout > 0,
        )
        for name, spec in specs.items()
        for prefix in ("", HELD_OUT)
    }


def shares(batch_size: int, count: int) -> list[int]:
    """How many slots of a batch each of `count` loaders brings, the first loader the first ones."""
    edges = [batch_size * index // count for index in range(count + 1)]
    return [stop - start for start, stop in pairwise(edges)]
