"""Where the pictures of DMC Remastered's skies and floors come from: drawn here, or a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np

from reverie.extras import load_extra
from reverie.types import Array
from reverie_envs import looks, textures

PUBLISHED = "c1d9539e"
"""Fingerprint of the folder that the published code draws from."""
SKY_SIZE, FLOOR_SIZE = 800, 300
"""Width and height in pixels of the published pictures; the compiled models have room for them."""
SUFFIXES = (".png", ".jpg", ".jpeg")
FOLDERS = "expected a folder with the sub-folders skies and floors, full of pictures"
REMEDY = (
    "it is dmc_remastered/assets of github.com/QData/dmc_remastered;"
    " without env.assets pictures are generated"
)


class Pictures(Protocol):
    """Numbered pictures, uint8 [n, n, 3] in RGB."""

    skies: int
    """Number of skies; they are counted from 0."""
    floors: int
    id: str
    """Which pictures these are, in the protocol's id."""

    def sky(self, number: int) -> Array: ...

    def floor(self, number: int) -> Array: ...


class Generated:
    """As many pictures as were published, of noise and hills, bricks and tiles."""

    skies, floors = looks.SKIES, looks.FLOORS
    id = "generated"

    def sky(self, number: int) -> Array:
        return textures.sky(number)

    def floor(self, number: int) -> Array:
        return textures.floor(number)


class FromFolder:
    """Pictures of a folder, numbered by name."""

    def __init__(self, folder: str) -> None:
        """Raises: ValueError if there is no such folder, or none in it, with the remedy."""
        root = Path(folder).expanduser()
        self._skies, self._floors = _files(root, "skies"), _files(root, "floors")
        self.skies, self.floors = len(self._skies), len(self._floors)
        mark = _fingerprint(root, self._skies + self._floors)
        self.id = "published" if mark == PUBLISHED else f"pictures-{mark}"

    def sky(self, number: int) -> Array:
        """Raises: ValueError, as `floor`, naming a file that is no picture."""
        return _read(self._skies[number], SKY_SIZE)

    def floor(self, number: int) -> Array:
        return _read(self._floors[number], FLOOR_SIZE)


def open_pictures(folder: str) -> Pictures:
    """Return the pictures of a folder, or generated ones where its name is empty.

    Raises:
        ValueError: no such folder, or none in it, with the remedy.
    """
    return FromFolder(folder) if folder else Generated()


def _files(root: Path, kind: str) -> list[Path]:
    folder = root / kind
    if not folder.is_dir():
        what = f"{folder} is not there" if root.is_dir() else f"{root} is not there"
        raise ValueError(f"env.assets: {FOLDERS}, but {what}; {REMEDY}")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"env.assets: {FOLDERS}, but {folder} holds no png or jpg; {REMEDY}")
    return found


def _fingerprint(root: Path, files: list[Path]) -> str:
    listing = "".join(f"{path.relative_to(root)} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:8]


def _read(path: Path, size: int) -> Array:
    cv2 = load_extra("cv2", "env.assets", "dmc")
    coded = np.fromfile(path, np.uint8)
    picture = cv2.imdecode(coded, cv2.IMREAD_COLOR) if coded.size else None
    if picture is None:
        raise ValueError(f"env.assets: {path} is not a picture that can be read; replace it")
    if picture.shape[:2] != (size, size):
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[..., ::-1])
