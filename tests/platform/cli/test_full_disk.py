"""A disk without a free byte: what is said, what stands, and how the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.commands import Answer, Cli, assert_refused, checkpoints, write_config

BLOCK = 4096
"""Bytes in which a tmpfs gives room away."""


class Disk:
    """A file system of 2 MB with a file that takes what room there is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, free: int = 0) -> None:
        """Leave `free` bytes, in whole blocks."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(BLOCK))
            except OSError:
                file.truncate(max(0, self._filler.stat().st_size - free) // BLOCK * BLOCK)

    def clear(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the command mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def config(disk: Disk) -> Path:
    return write_config(disk.folder, eval__episodes=1, logging__tensorboard=False)


def assert_full(answer: Answer, folder: Path) -> None:
    assert_refused(answer, "No space left on device", str(folder), "ree ")
    assert [line[:2] for line in answer.err.splitlines() if line[1:2] != " "] == ["re"]


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_start_without_room_is_refused(blocks: int, cli: Cli, config: Path, disk: Disk) -> None:
    disk.fill(blocks * BLOCK)
    answer = cli("train", config, "--local")
    assert_full(answer, disk.folder / "run")
    assert list(disk.folder.glob("run/*")) == []
    disk.clear()
    assert cli("train", config, "--local").code == 0


@pytest.mark.parametrize("blocks", [0, 2, 6, 10, 12, 14])
def test_a_run_that_fills_the_disk_keeps_its_checkpoint(
    blocks: int, cli: Cli, config: Path, disk: Disk
) -> None:
    run_until_full(cli, config, disk, blocks, "--local")


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_on_ray_as_well(cli: Cli, config: Path, disk: Disk, ray_local: None) -> None:
    run_until_full(cli, config, disk, 12)


def run_until_full(cli: Cli, config: Path, disk: Disk, blocks: int, *where: str) -> None:
    assert cli("train", config, "--local").code == 0
    before = checkpoints(disk.folder).latest().number
    disk.fill(blocks * BLOCK)
    answer = cli("resume", disk.folder / "run", "run.env_steps=200", *where)
    assert_full(answer, disk.folder / "run")
    assert checkpoints(disk.folder).latest().number == before
    disk.clear()
    again = cli("resume", disk.folder / "run", "run.env_steps=200", "--local")
    assert again.code == 0, again.err
