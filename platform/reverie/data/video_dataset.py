"""A finished video data set, opened: windows of contiguous frames of one clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from reverie.data.index import IMAGE, SHARDS, Clip, read_index
from reverie.data.shard import ShardReader
from reverie.errors import ConfigError
from reverie.paths import place
from reverie.types import Array, Rows

ACTION = "action"
MAX_SIDE = 1 << 14
"""Pixels, on which an index is believed."""


class VideoDataset:
    """The folder of a data set; its shards are mapped into memory, each once it is needed.

    Raises:
        ConfigError: it is no data set, an unfinished one, or lacks a shard.
        DocumentError: its index does not hold what belongs there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = place(folder)
        self.index, self.digest = read_index(self.folder)
        self._widths = {column.name: column.width for column in self.index.columns}
        self._shards: dict[str, ShardReader] = {}
        self._check_shards()

    @property
    def clips(self) -> Sequence[Clip]:
        """In the order of the index."""
        return self.index.clips

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame: height, width, 3."""
        return self.index.shape

    @property
    def action_width(self) -> int:
        """0 without actions."""
        return self.index.action_width

    def window(self, clip: int, start: int, length: int) -> Rows:
        """Read frames `start`..`start + length` of clip number `clip`.

        Waits for the disk where they are not in memory.

        Returns:
            `image` uint8 [T, H, W, 3], and per further column, such as `action` and `reward`,
            float32 [T, width] or [T]; all of them copies.

        Raises:
            IndexError: the clip does not have them.
        """
        image = np.empty((length, *self.shape), np.uint8)
        self.read_images(clip, start, image)
        return {IMAGE: image, **self.read_columns(clip, start, length)}

    def read_images(self, clip: int, start: int, out: Array) -> None:
        """Read frames from `start` on into `out`, uint8 [T, H, W, 3]; otherwise as `window`."""
        found = self.index.clips[clip]
        _check_range(found, start, len(out))
        self._shard(found.shard).images(found.row + start, out)

    def read_columns(self, clip: int, start: int, length: int) -> Rows:
        """Read what comes with the frames; otherwise as `window`."""
        if not self._widths:
            return {}
        found = self.index.clips[clip]
        _check_range(found, start, length)
        return self._shard(found.shard).columns(found.row + start, length)

    def check(self) -> int:
        """Read all of it and compare checksums; returns the number of clips.

        Raises:
            ConfigError: naming the first shard and clip that are not as they were written, and
                how many clips are not.
        """
        broken = list(self._broken())
        if broken:
            clip, reason = broken[0]
            raise ConfigError(
                f"{self.folder}: shard {clip.shard}, clip {clip.name}: {reason} ({len(broken)} of"
                f" {len(self.clips)} clips are broken); restore the shard from a copy, or delete"
                " it and import again"
            )
        return len(self.clips)

    def _broken(self) -> Iterator[tuple[Clip, str]]:
        for clip in self.clips:
            try:
                got = self._shard(clip.shard).crc32(clip.row, clip.frames)
            except (OSError, IndexError, ValueError) as error:
                yield clip, str(error)
                continue
            if got != clip.crc32:
                yield clip, f"expected CRC-32 {clip.crc32:#010x}, got {got:#010x}"

    def _shard(self, name: str) -> ShardReader:
        shard = self._shards.get(name)
        if shard is None:
            path = self.folder / SHARDS / name
            shard = ShardReader(path, self.shape, self.index.codec, self._widths)
            self._shards[name] = shard
        return shard

    def _check_shards(self) -> None:
        wanted = {clip.shard for clip in self.clips}
        if outside := next((name for name in wanted if Path(name).name != name), None):
            raise ConfigError(f"{self.folder}: expected shards in {SHARDS}/, got {outside!r}")
        if not all(1 <= side <= MAX_SIDE for side in self.shape[:2]) or self.shape[2] != 3:
            raise ConfigError(
                f"{self.folder}: expected frames [H, W, 3] of at most {MAX_SIDE} pixels a side, got"
                f" {self.shape}"
            )
        missing = sorted(name for name in wanted if not (self.folder / SHARDS / name).is_file())
        if missing:
            raise ConfigError(
                f"{self.folder}: {len(missing)} of {len(wanted)} shards are missing, the first is"
                f" {SHARDS}/{missing[0]}; restore them, or import again"
            )


def _check_range(clip: Clip, start: int, length: int) -> None:
    if not 0 <= start < start + length <= clip.frames:
        raise IndexError(
            f"{clip.name}: expected frames within 0..{clip.frames}, got {start}..{start + length}"
        )
