"""Episodes as npz files: `image` uint8 [T, H, W, 3], perhaps `action` [T, A] and `reward` [T].

Row t holds what was seen, the reward that came with it, and the action chosen then.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reverie.data.index import Column
from reverie.data.options import ImportOptions
from reverie.data.sources.source import (
    BrokenSource,
    Facts,
    FileSource,
    Recording,
    fit,
    unique_names,
)
from reverie.types import Array, Rows

SUFFIX = ".npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class NpzSource(FileSource):
    """One episode."""

    options: ImportOptions

    def frame_size(self) -> tuple[int, int]:
        height, width = self._images(self._load()).shape[1:3]
        return height, width

    def columns(self, options: ImportOptions) -> Sequence[Column]:
        values = self._values(self._load())
        return [
            Column(name=name, width=value.shape[1] if value.ndim == 2 else 0)
            for name, value in values.items()
        ]

    def read(self, options: ImportOptions) -> Recording:
        if options.fps is not None:
            raise BrokenSource("npz episodes have no timestamps for --fps; use --stride")
        data = self._load()
        images = self._images(data)
        kept = [i for i in range(len(images)) if options.keeps(i, i)]
        columns = {name: value[kept] for name, value in self._values(data).items()}
        return Recording(_frames(images, kept, options), columns, Facts())

    def _load(self) -> Rows:
        wanted = {*self._keys(), self.options.image_key}
        try:
            # numpy leaves a file open that it cannot read, unless it is ours.
            with Path(self.path).open("rb") as data, np.load(data, allow_pickle=False) as file:
                return {key: file[key] for key in file.files if key in wanted}
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise BrokenSource(f"no npz file: {error}") from None

    def _keys(self) -> dict[str, str]:
        """Names of the columns by key in the file."""
        return {self.options.action_key: "action", self.options.reward_key or "reward": "reward"}

    def _images(self, data: Rows) -> Array:
        key = self.options.image_key
        if key not in data:
            raise BrokenSource(f"no {key!r} in it; name the key of its images with --image-key")
        images = data[key]
        if self.options.stacked and images.ndim == 4:
            images = images[:, -3:].transpose(0, 2, 3, 1)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype.kind not in "ui":
            raise BrokenSource(
                f"{key}: expected whole numbers [T, H, W, 3], got {images.dtype} {images.shape}"
            )
        if images.dtype != np.uint8 and images.size and not 0 <= images.min() <= images.max() < 256:
            raise BrokenSource(f"{key}: expected 0 to 255, got {images.min()} to {images.max()}")
        if not len(images):
            raise BrokenSource("no frame in it")
        return images.astype(np.uint8, copy=False)

    def _values(self, data: Rows) -> Rows:
        """Action and reward as float32, in the rows in which they belong."""
        rows = len(self._images(data))
        found: Rows = {}
        for key, name in self._keys().items():
            if key not in data:
                continue
            value = np.asarray(data[key], np.float32)
            if len(value) != rows:
                raise BrokenSource(f"{key}: expected {rows} rows as of images, got {len(value)}")
            found[name] = value.reshape(rows) if name == "reward" else value.reshape(rows, -1)
        if self.options.action_leads_here and "action" in found:
            found["action"] = np.roll(found["action"], -1, axis=0)
            found["action"][-1:] = 0
        return found


def _frames(images: Array, kept: Sequence[int], options: ImportOptions) -> Iterator[Array]:
    for index in kept:
        yield fit(images[index], options)


def find(paths: Sequence[Path], root: Path, options: ImportOptions) -> list[NpzSource]:
    """The episodes below `root`, in the order of their names."""
    names = unique_names(paths, root)
    return [
        NpzSource(name=name, path=str(path), options=options)
        for name, path in zip(names, paths, strict=True)
    ]
