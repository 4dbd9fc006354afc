"""Windows of one or more video data sets, drawn at random and yet the same for whoever asks.

Slot `s` of batch `n` reads four 64-bit numbers of Philox4x64-10 (Salmon et al., SC11) at counter
(s, n): data set, clip, start, and one that is not used. So a draw depends on (seed, n, s) alone: no
state is kept, and a resumed run, one process and any number of loaders see the same frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from reverie.data.index import IMAGE
from reverie.data.video_dataset import ACTION, VideoDataset
from reverie.errors import ConfigError
from reverie.types import Array, Rows

PER_SLOT = 4
"""Numbers of one counter."""
TRAINED, HELD_OUT = 0, 1
"""Part of the key: keeps the draws of the two apart."""


class _Pool(NamedTuple):
    """The clips of one data set that may be drawn."""

    clips: Array
    """int64: their numbers."""
    starts: Array
    """int64: how many starts each has."""


class VideoSampler:
    """Draws windows of `length` frames: the data set by weights, then the clip uniformly, then the
    start uniformly. A window lies within one clip.

    A clip is held out by a hash of its name, so which ones are does not change as a data set grows;
    clips shorter than `length` are left out. One clip of the mixture is held out at the least, and
    one of each data set is trained on.

    Args:
        datasets: with frames of one shape.
        weights: one per data set, of any sum; None draws all data sets equally often.
        holdout: share of clips that is held out; 0 for none.
        held_out: draw the clips that are held out, and not the others.
        labels: leave out clips with other labels.

    Raises:
        ConfigError: shapes differ, weights do not fit, or nothing is left to draw.
    """

    def __init__(
        self,
        datasets: Sequence[VideoDataset],
        *,
        length: int,
        seed: int,
        weights: Sequence[float] | None = None,
        holdout: float = 0.02,
        held_out: bool = False,
        labels: Iterable[str | int] | None = None,
    ) -> None:
        self.datasets, self.length = list(datasets), length
        if not 0 <= holdout < 1:
            raise ConfigError(f"data.holdout: expected a share from 0 to below 1, got {holdout}")
        self.shape = _one_shape(self.datasets)
        widths = {dataset.action_width for dataset in self.datasets}
        self.action_width = widths.pop() if len(widths) == 1 else 0
        """Of all data sets; 0 where they differ, for then their actions mean different things."""
        wanted = None if labels is None else {str(label) for label in labels}
        usable = [_usable(dataset, length, wanted) for dataset in self.datasets]
        split = _split(self.datasets, usable, holdout)
        self._pools = [
            _pool(dataset, [clip for clip in clips if (clip in out) == held_out], length)
            for dataset, clips, out in zip(self.datasets, usable, split, strict=True)
        ]
        shares = _shares(weights, len(self.datasets))
        shares = shares * [len(pool.clips) > 0 for pool in self._pools]
        if not shares.sum():
            raise ConfigError(f"data: no clip is {'held out' if held_out else 'left to train on'}")
        self._edges = np.cumsum(shares / shares.sum())
        self._edges[np.flatnonzero(shares)[-1] :] = 1.0
        entropy = (seed, HELD_OUT if held_out else TRAINED)
        self._key = np.random.SeedSequence(entropy).generate_state(2, np.uint64)

    def draw(self, number: int, slots: range) -> Rows:
        """Read the windows of these slots of batch `number`.

        Waits for the disk where frames are not in memory.

        Returns:
            `image` uint8 [n, T, H, W, 3], `is_first` bool [n, T] (true at 0 only), `action` float32
            [n, T, A], where A is `action_width`.
        """
        image = np.empty((len(slots), self.length, *self.shape), np.uint8)
        action = np.zeros((len(slots), self.length, self.action_width), np.float32)
        is_first = np.zeros((len(slots), self.length), bool)
        is_first[:, :1] = True
        for row, (which, clip, start) in enumerate(self._places(number, slots)):
            dataset = self.datasets[which]
            dataset.read_images(clip, start, image[row])
            if self.action_width:
                action[row] = dataset.read_columns(clip, start, self.length)[ACTION]
        return {IMAGE: image, "is_first": is_first, ACTION: action}

    def where(self, number: int, slot: int) -> tuple[int, int, int]:
        """Data set, clip and start that `draw` reads for a slot of batch `number`."""
        return self._places(number, range(slot, slot + 1))[0]

    def count(self, dataset: int) -> int:
        """How many clips of that data set may be drawn."""
        return len(self._pools[dataset].clips)

    def clips(self, dataset: int) -> list[int]:
        """Numbers of the clips of that data set that may be drawn."""
        return self._pools[dataset].clips.tolist()

    def _places(self, number: int, slots: range) -> list[tuple[int, int, int]]:
        counter = np.array([slots.start, number, 0, 0], np.uint64)
        bits = np.random.Philox(key=self._key, counter=counter)
        raw = bits.random_raw(PER_SLOT * len(slots)).reshape(-1, PER_SLOT)
        # 53 bits, as numpy makes its own floats; no pool is large enough for the rest to matter.
        shares = (raw >> np.uint64(11)) * 2.0**-53
        which = np.searchsorted(self._edges, shares[:, 0], side="right")
        return [
            self._place(index, clip, start)
            for index, (clip, start) in zip(which.tolist(), shares[:, 1:3].tolist(), strict=True)
        ]

    def _place(self, which: int, clip_share: float, start_share: float) -> tuple[int, int, int]:
        pool = self._pools[which]
        position = int(clip_share * len(pool.clips))
        start = int(start_share * int(pool.starts[position]))
        return which, int(pool.clips[position]), start


def _one_shape(datasets: Sequence[VideoDataset]) -> tuple[int, int, int]:
    if not datasets:
        raise ConfigError("data: expected at least one data set, got none")
    first = datasets[0]
    for other in datasets:
        if other.shape != first.shape:
            raise ConfigError(
                f"data: all data sets of a mixture have frames of one shape, got {first.shape} in"
                f" {first.folder} and {other.shape} in {other.folder}; import one with another"
                " --size"
            )
    return first.shape


def _shares(weights: Sequence[float] | None, count: int) -> Array:
    if weights is None:
        return np.ones(count)
    if len(weights) != count:
        raise ConfigError(
            f"data.weights: expected one per data set ({count}), got {len(weights)}:"
            f" {list(weights)}"
        )
    shares = np.asarray(weights, float)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
        raise ConfigError(
            f"data.weights: expected numbers of at least 0, one of them more, got {list(weights)}"
        )
    return shares


def _usable(dataset: VideoDataset, length: int, labels: set[str] | None) -> list[int]:
    """Numbers of the clips that are long enough and have one of the labels."""
    clips = dataset.clips
    labelled = [i for i, clip in enumerate(clips) if labels is None or clip.label in labels]
    if not labelled:
        raise ConfigError(
            f"data.labels: no clip of {dataset.folder} has one of {sorted(labels or ())}"
        )
    usable = [i for i in labelled if clips[i].frames >= length]
    if not usable:
        longest = max(clips[i].frames for i in labelled)
        raise ConfigError(
            f"data: windows of {length} frames do not fit into any clip of {dataset.folder}; the"
            f" longest has {longest} frames"
        )
    return usable


def _split(
    datasets: Sequence[VideoDataset], usable: Sequence[list[int]], holdout: float
) -> list[set[int]]:
    """Numbers of the clips that are held out, per data set."""
    if not holdout:
        return [set() for _ in datasets]
    hashes = [
        {clip: name_share(dataset.clips[clip].name) for clip in clips}
        for dataset, clips in zip(datasets, usable, strict=True)
    ]
    # What hashes highest is trained on: of each data set one clip.
    spare = [sorted(one, key=one.__getitem__)[:-1] for one in hashes]
    out = [{c for c in clips if one[c] < holdout} for clips, one in zip(spare, hashes, strict=True)]
    if any(out):
        return out
    least = min(((one[c], i, c) for i, one in enumerate(hashes) for c in spare[i]), default=None)
    if least is None:
        raise ConfigError(
            f"data.holdout: expected two clips of a data set at the least, of which one is held"
            f" out, got {sum(map(len, usable))} that are long enough; data.holdout=0 trains on all"
        )
    _, which, clip = least
    out[which].add(clip)
    return out


def name_share(name: str) -> float:
    """A clip's place between 0 and 1 by its name: those below `holdout` are held out."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def _pool(dataset: VideoDataset, clips: list[int], length: int) -> _Pool:
    starts = [dataset.clips[clip].frames - length + 1 for clip in clips]
    return _Pool(np.array(clips, np.int64), np.array(starts, np.int64))
