"""An import goes on where it stopped, takes only what is new, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from reverie.data import parts
from reverie.data.importer import run_here
from reverie.data.index import PARTS, SHARDS
from reverie.data.parts import Group, ImportStopped, Part
from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from reverie.stop_signals import ShouldStop, never
from tests.platform.data.films import bring_in, names_of, shown, write_episode, write_film

NAMES = "abcdef"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for index, name in enumerate(NAMES):
        write_episode(tmp_path / f"npz/{name}.npz", range(10 * index, 10 * index + 5 + index))
    return tmp_path / "npz"


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Some:
    """Does some of the groups and is then killed."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers
        self.done: list[str] = []

    def __call__(
        self, target: str, groups: Sequence[Group], should_stop: ShouldStop
    ) -> Iterator[Part]:
        for number in self._numbers:
            self.done += [source.name for source in groups[number].sources]
            yield from run_here(target, [groups[number]], should_stop)
        raise KeyboardInterrupt


class All(Some):
    """Notes which sources are read."""

    def __call__(
        self, target: str, groups: Sequence[Group], should_stop: ShouldStop
    ) -> Iterator[Part]:
        self.done += [source.name for group in groups for source in group.sources]
        yield from run_here(target, groups, should_stop)


@pytest.mark.parametrize("done", [(0,), (3, 1), (5, 4, 3, 2, 1, 0)])
def test_a_killed_import_run_again_equals_one_made_at_once(
    done: tuple[int, ...], source: Path, tmp_path: Path
) -> None:
    bring_in(source, tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        bring_in(source, tmp_path / "killed", run_groups=Some(*done))
    with pytest.raises(ConfigError, match="has not finished"):
        VideoDataset(tmp_path / "killed")
    again = All()
    bring_in(source, tmp_path / "killed", run_groups=again)
    assert again.done == [name for i, name in enumerate(NAMES) if i not in done]
    assert contents(tmp_path / "killed") == contents(tmp_path / "once")


def test_shares_of_an_import_make_the_same(source: Path, tmp_path: Path) -> None:
    bring_in(source, tmp_path / "once")
    first = bring_in(source, tmp_path / "shared", part=(2, 2))
    assert (first.clips, first.groups_left) == (0, 3)
    last = bring_in(source, tmp_path / "shared", part=(1, 2))
    assert (last.clips, last.groups_left, last.new) == (6, 0, 6)
    assert contents(tmp_path / "shared") == contents(tmp_path / "once")


def test_importing_again_takes_what_is_new_or_changed(source: Path, tmp_path: Path) -> None:
    bring_in(source, tmp_path / "data")
    before = contents(tmp_path / "data")
    again = All()
    assert bring_in(source, tmp_path / "data", run_groups=again).new == 0
    assert (again.done, contents(tmp_path / "data")) == ([], before)
    write_episode(source / "aa.npz", range(90, 95))
    write_episode(source / "c.npz", range(70, 76))
    (source / "b.npz").unlink()
    again = All()
    outcome = bring_in(source, tmp_path / "data", run_groups=again)
    assert (again.done, outcome.new, outcome.clips) == (["aa", "c"], 2, 7)
    dataset = VideoDataset(tmp_path / "data")
    assert sorted(names_of(dataset)) == ["a", "aa", *"bcdef"]
    assert shown(dataset, names_of(dataset).index("c")) == list(range(70, 76))
    assert dataset.check() == 7
    used = {clip.shard for clip in dataset.clips}
    assert {path.name for path in (tmp_path / "data" / SHARDS).iterdir()} == used


def test_files_that_come_while_an_import_is_killed_do_not_undo_it(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        bring_in(source, tmp_path / "data", run_groups=Some(1, 2))
    write_episode(source / "aa.npz", range(90, 95))
    again = All()
    bring_in(source, tmp_path / "data", run_groups=again)
    assert again.done == ["a", "aa", "d", "e", "f"]
    dataset = VideoDataset(tmp_path / "data")
    assert sorted(names_of(dataset)) == ["a", "aa", *"bcdef"]
    assert dataset.check() == 7


def test_other_options_are_refused(source: Path, tmp_path: Path) -> None:
    bring_in(source, tmp_path / "data", stride=2)
    before = contents(tmp_path / "data")
    with pytest.raises(ConfigError, match="was imported with stride=2, got 1; give the same"):
        bring_in(source, tmp_path / "data")
    assert contents(tmp_path / "data") == before


def test_a_folder_with_other_files_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a new folder or one with a data set"):
        bring_in(source, source)


def test_a_shard_ends_with_the_clip_that_fills_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SHARD_BYTES", 12 * 32 * 64 * 3)
    monkeypatch.setattr(parts, "MOST_GROUPS", 1)
    bring_in(source, tmp_path / "data")
    dataset = VideoDataset(tmp_path / "data")
    assert [clip.shard[-9:-6] for clip in dataset.clips] == [
        "000",
        "000",
        "000",
        "001",
        "001",
        "002",
    ]
    assert [clip.row for clip in dataset.clips] == [0, 5, 11, 0, 8, 0]
    for index, clip in enumerate(dataset.clips):
        assert shown(dataset, index) == list(range(10 * index, 10 * index + clip.frames))


def test_few_sources_are_a_group_each_and_many_are_put_together() -> None:
    sizes = {count: [len(one) for one in parts.split([None] * count)] for count in (3, 100, 70_000)}  # type: ignore[list-item]
    assert sizes[3] == [1, 1, 1]
    assert sizes[100] == [2] * 50
    assert set(sizes[70_000][:-1]) == {512}


def test_what_is_broken_is_listed_and_the_rest_goes_on(source: Path, tmp_path: Path) -> None:
    (source / "b.npz").write_bytes((source / "b.npz").read_bytes()[:900])
    (source / "d.npz").write_bytes(b"")
    outcome = bring_in(source, tmp_path / "data", min_frames=6)
    assert [failure.name for failure in outcome.failed] == ["b", "d"]
    assert (outcome.clips, outcome.short) == (3, 1)
    report = json.loads((tmp_path / "data/import.json").read_text())
    assert [one["name"] for one in report["failed"]] == ["b", "d"]
    assert all("no npz file" in one["reason"] for one in report["failed"])
    assert report["short"] == ["a"]
    assert report["finished"] is True
    write_episode(source / "b.npz", range(8))
    again = All()
    outcome = bring_in(source, tmp_path / "data", min_frames=6, run_groups=again)
    assert again.done == ["b"]
    assert [failure.name for failure in outcome.failed] == ["d"]


def test_a_file_that_may_not_be_read_is_broken(source: Path, tmp_path: Path) -> None:
    (source / "c.npz").unlink()
    (source / "c.npz").symlink_to(source / "nowhere.npz")
    (source / "d.npz").unlink()
    (source / "d.npz").mkdir()
    outcome = bring_in(source, tmp_path / "data")
    assert outcome.clips == 4


def test_nothing_usable_is_an_error_that_names_three(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in "abcd":
        (tmp_path / f"v/{name}.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"none of 4 sources can be used: a: .*b: .*c: .*1 more"):
        bring_in(tmp_path / "v", tmp_path / "data")
    write_episode(tmp_path / "v/e.npz", range(3))
    with pytest.raises(ConfigError, match=r"e: has fewer frames than are wanted|and 2 more"):
        bring_in(tmp_path / "v", tmp_path / "data", min_frames=9)


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / "v/a.mp4", range(3))
    bring_in(tmp_path / "v", tmp_path / "small", size=16)
    pytest.importorskip("cv2")
    from reverie.data.mp4 import new_mp4
    from tests.platform.data.films import numbered

    with new_mp4(tmp_path / "v/b.mp4", (64, 128, 3), 25) as film:
        film.add(numbered(range(3), 64, 128))
    with pytest.raises(ConfigError, match="mixed sizes: a has 64x32 and b has 128x64; give one"):
        bring_in(tmp_path / "v", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert bring_in(tmp_path / "v", tmp_path / "data", size=16).clips == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "no video in it: expected .* got an empty folder"),
        (("a.txt", "b.txt", "c"), "got 2 .txt, 1 files without a suffix"),
    ],
)
def test_no_video_in_the_folder(files: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in files:
        (tmp_path / "v" / name).write_text("")
    with pytest.raises(ConfigError, match=words):
        bring_in(tmp_path / "v", tmp_path / "data")
    with pytest.raises(ConfigError, match="expected a folder with videos, got none"):
        bring_in(tmp_path / "w", tmp_path / "data")
    with pytest.raises(ConfigError, match=r"no npz \(.npz\) in it"):
        bring_in(tmp_path / "v", tmp_path / "data", kind="npz")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"size": 4},
        {"crop": "left"},
        {"stride": 0},
        {"skip": -1},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"codec": "png"},
        {"min_frames": 0},
    ],
)
def test_options_out_of_range(options: dict[str, object], source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
        bring_in(source, tmp_path / "data", **options)


def test_told_to_stop_between_two_clips(source: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(ImportStopped, match="run the same command again"):
        bring_in(source, tmp_path / "data", should_stop=lambda: next(asked))
    assert len(list((tmp_path / "data" / PARTS).iterdir())) == 2
    assert len(list((tmp_path / "data" / SHARDS).iterdir())) == 2
    assert bring_in(source, tmp_path / "data", should_stop=never).clips == 6


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_real_process_that_is_ended(number: int, code: int, tmp_path: Path) -> None:
    pytest.importorskip("av")
    for index in range(15):
        write_film(tmp_path / f"v/{index}.mp4", range(90))
    words = [sys.executable, "-m", "reverie.cli", "data", "import", "v", "killed", "--local"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*words, "--size", "32"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    ) as process:
        until = time.monotonic() + 60
        while len(list((tmp_path / "killed" / PARTS).glob("*.json"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr
        said = process.stderr.read().decode()
    assert len(list((tmp_path / "killed" / PARTS).glob("*.json"))) < 15
    assert ("stopped; run the same command again" in said) == (number != signal.SIGKILL)
    bring_in(tmp_path / "v", tmp_path / "killed", size=32)
    bring_in(tmp_path / "v", tmp_path / "once", size=32)
    assert contents(tmp_path / "killed") == contents(tmp_path / "once")
