"""`reverie data` as it is called; bad input in one line with exit code 2, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.data import dry_run
from reverie.data.index import SHARDS
from reverie.data.video_dataset import VideoDataset
from tests.platform.cli.test_full_disk import BLOCK, Disk, disk
from tests.platform.commands import Answer, Cli, assert_refused
from tests.platform.data.films import (
    FRONT,
    TOP,
    bring_in,
    names_of,
    shown,
    write_episode,
    write_film,
    write_lerobot,
    write_pictures,
)

__all__ = ["disk"]


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        write_film(tmp_path / f"v/{index}.mp4", range(10 * index, 10 * index + 8))
    return tmp_path


def refused(answer: Answer, *words: str) -> None:
    assert_refused(answer, *words)
    assert answer.err.startswith("reverie: ")
    assert answer.err.count("\n") == 1, answer.err


def test_import_info_check_sheet_export(films: Path, cli: Cli) -> None:
    answer = cli("data", "import", "v", "data", "--local", "--size", 16, "--licence", "CC0")
    assert answer.code == 0, answer
    assert "data: 3 clips, 24 frames, 3 of the clips new" in answer.out
    facts = json.loads(cli("data", "info", "data", "--json").out)
    wanted = {"clips": 3, "frames": 24, "width": 16, "codec": "raw", "licence": "CC0"}
    assert {key: facts[key] for key in wanted} == wanted
    assert facts["bytes_per_frame"] < 16 * 16 * 3 * 2
    assert "clips            3" in cli("data", "info", "data").out
    assert "data: 3 clips are as they were written" in cli("data", "check", "data").out
    assert "written: sheet.png" in cli("data", "sheet", "data").out
    assert (films / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert "3 clips are in out" in cli("data", "export", "data", "out").out
    assert len(list((films / "out").glob("*.npz"))) == 3


def test_columns_are_shown_with_bounds(tmp_path: Path, cli: Cli) -> None:
    robot = write_lerobot(tmp_path / "robot", "v3.0")
    target = tmp_path / "data"
    assert cli("data", "import", robot, target, "--local", "--camera", TOP).code == 0
    said = cli("data", "info", target).out
    assert "column           action (x, gripper): 0..27, -27..0 m" in said
    assert "successes        1" in said
    assert "tasks            2" in said


def test_a_preset_a_list_and_labels(tmp_path: Path, cli: Cli) -> None:
    for clip in ("1", "2", "3"):
        write_pictures(tmp_path / "v" / clip, [f"{n:06d}.jpg" for n in range(1, 31)], range(30))
    (tmp_path / "list.txt").write_text("1 30 93\n2 30 7\n3 24 94\n")
    words = ["--preset", "ssv2", "--list", tmp_path / "list.txt", "--labels", "93,94"]
    answer = cli("data", "import", tmp_path / "v", tmp_path / "data", "--local", *words)
    assert answer.code == 0, answer
    dataset = VideoDataset(tmp_path / "data")
    assert (names_of(dataset), dataset.shape) == (["1"], (64, 64, 3))


def test_a_dry_run_reckons_and_writes_nothing(
    films: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "v/broken.mp4").write_bytes(b"")
    answer = cli("data", "import", "v", "data", "--dry-run", "--size", 64)
    assert answer.code == 0, answer
    assert "4 sources, of which 4 were decoded" in answer.out
    assert "broken: broken: cannot be decoded" in answer.out
    assert "about 24 frames" in answer.out
    assert "raw      12288 bytes per frame" in answer.out
    assert "jpeg" in answer.out
    assert not (films / "data").exists()
    monkeypatch.setattr(dry_run, "SAMPLE", 2)
    assert "of which 2 were decoded" in cli("data", "import", "v", "d", "--dry-run").out


def test_a_dry_run_refuses_a_disk_that_is_too_small(films: Path, cli: Cli, disk: Disk) -> None:
    disk.fill(2 * BLOCK)
    answer = cli("data", "import", "v", disk.folder / "data", "--dry-run", "--size", 64)
    assert answer.code == 2
    assert "expected room for about" in answer.err
    assert "with --codec raw" in answer.err


@pytest.mark.parametrize("free", [0, 1, 5, 9])
def test_a_full_disk_leaves_what_is_finished(free: int, films: Path, cli: Cli, disk: Disk) -> None:
    size = ["--local", "--size", 24]
    disk.fill(free * BLOCK)
    answer = cli("data", "import", "v", disk.folder / "data", *size)
    refused(answer, "No space left on device", str(disk.folder))
    done = {path.name for path in disk.folder.glob(f"data/{SHARDS}/*")}
    assert not any(name.startswith(".") for name in done)
    disk.clear()
    answer = cli("data", "import", "v", disk.folder / "data", *size)
    assert answer.code == 0, answer
    dataset = VideoDataset(disk.folder / "data")
    assert dataset.check() == 3
    assert done <= {clip.shard for clip in dataset.clips}
    assert shown(dataset, 2) == list(range(20, 28))


def test_a_broken_file_fails_a_strict_import_only(films: Path, cli: Cli) -> None:
    (films / "v/a.mp4").write_text("no film")
    (films / "v/b.mp4").write_bytes(b"")
    loose = cli("data", "import", "v", "data", "--local", "--size", 16)
    strict = cli("data", "import", "v", "data2", "--local", "--size", 16, "--strict")
    assert (loose.code, strict.code) == (0, 2)
    for answer in (loose, strict):
        assert "3 clips, 24 frames, 3 of the clips new, 2 broken" in answer.out
        assert "2 sources are broken and left out, see data" in answer.err
        assert "the first: a: cannot be decoded" in answer.err
    for index in range(3):
        (films / f"v/{index}.mp4").write_bytes(b"")
    answer = cli("data", "import", "v", "data3", "--local", "--size", 16)
    refused(answer, "none of 5 sources can be used: 0: ", "and 2 more")


def test_part_of_an_import(films: Path, cli: Cli) -> None:
    words = ["data", "import", "v", "data", "--size", 16, "--part"]
    assert "data: 1 groups are left for the other parts" in cli(*words, "1/2").out
    refused(cli("data", "info", "data"), "has not finished")
    assert "3 clips, 24 frames" in cli(*words, "2/2").out
    for wrong in ("0/2", "3/2", "2", "a/b"):
        assert "expected i/n such as 1/4" in cli(*words, wrong).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty", "data"], "no video in it"),
        (["nowhere", "data"], "expected a folder with videos, got none"),
        (["robot", "data"], f"expected --camera with one of: {TOP}, {FRONT}; none named"),
        (["v", "data", "--labels", "5"], "labels: no clip has one of 5"),
        (["mixed", "data"], "mixed sizes: "),
        (["v", "data", "--preset", "imagenet"], "preset: expected one of"),
        (["v", "data", "--size", "3"], "size: expected at least 8, got 3"),
        (["v", "data", "--list", "nowhere.txt"], "No such file or directory: "),
        (["v", "data", "--list", "list.txt"], "list: 4 of 5 clips are not in "),
        (["v", "v"], "expected a new folder or one with a data set"),
    ],
)
def test_bad_input(words: list[str], message: str, films: Path, cli: Cli) -> None:
    (films / "empty").mkdir()
    (films / "list.txt").write_text("0 8 1\nx 1 1\ny 1 1\nz 1 1\nw 1 1\n")
    if words[0] == "robot":
        write_lerobot(films / "robot", "v2.1")
    if words[0] == "mixed":
        write_film(films / "mixed/a.mp4", range(3))
        bring_in(films / "mixed", films / "small", size=16)
        assert cli("data", "export", "small", "mixed/more", "--format", "mp4").code == 0
    refused(cli("data", "import", *words, "--local"), message)
    assert not (films / "data").exists()


@pytest.mark.parametrize("action", ["info", "check", "sheet", "export"])
def test_a_folder_that_is_no_data_set(action: str, films: Path, cli: Cli) -> None:
    more = ["out"] if action == "export" else []
    refused(cli("data", action, "v", *more), "no data set (no index.json)")
    refused(cli("data", action, "nowhere", *more), "expected a folder with a data set, got none")


def test_a_shard_that_changed(tmp_path: Path, cli: Cli) -> None:
    write_episode(tmp_path / "v/a.npz", range(5))
    bring_in(tmp_path / "v", tmp_path / "data")
    clip = VideoDataset(tmp_path / "data").clips[0]
    file = tmp_path / "data" / SHARDS / clip.shard
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused(cli("data", "check", tmp_path / "data"), f"shard {clip.shard}, clip a: ")


def test_a_sheet_is_a_png(films: Path, cli: Cli) -> None:
    bring_in(films / "v", films / "data", size=16)
    refused(cli("data", "sheet", "data", "--out", "a.jpg"), "expected a file ending in .png")
