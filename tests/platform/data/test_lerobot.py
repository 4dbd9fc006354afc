"""LeRobot v2.1 and v3.0: one clip per episode, exact to the frame, whatever file it lies in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reverie.data.video_dataset import VideoDataset
from reverie.errors import ConfigError
from tests.platform.data.films import (
    FPS,
    FRONT,
    LENGTHS,
    TASKS,
    TOP,
    bring_in,
    first_number,
    names_of,
    numbered,
    shown,
    write_film,
    write_lerobot,
)

pytest.importorskip("av")
VERSIONS = ("v2.1", "v3.0")


@pytest.fixture(scope="module", params=VERSIONS)
def robot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "robot", request.param)


@pytest.mark.parametrize("camera", [TOP, FRONT])
def test_episodes_come_in_to_the_frame(robot: Path, camera: str, tmp_path: Path) -> None:
    bring_in(robot, tmp_path / "data", camera=camera, reward_key="next.reward")
    dataset = VideoDataset(tmp_path / "data")
    assert names_of(dataset) == [f"episode_{e:06d}" for e in range(3)]
    for episode, clip in enumerate(dataset.clips):
        first, length = first_number(episode), LENGTHS[episode]
        wanted = np.arange(first, first + length)
        assert shown(dataset, episode) == (wanted + 128 * (camera == FRONT)).tolist()
        window = dataset.window(episode, 0, length)
        np.testing.assert_array_equal(window["action"], np.stack([wanted, -wanted], 1))
        np.testing.assert_array_equal(
            window["state"], np.stack([wanted, wanted + 1, wanted + 2], 1)
        )
        np.testing.assert_allclose(window["reward"], wanted / 10, rtol=1e-6)
        assert (clip.task, clip.success, clip.fps) == (TASKS[episode], episode == 1, FPS)


def test_columns_have_their_names_units_and_bounds(robot: Path, tmp_path: Path) -> None:
    bring_in(robot, tmp_path / "data", camera=TOP)
    dataset = VideoDataset(tmp_path / "data")
    action, state = dataset.index.columns
    assert (action.name, action.names, action.unit) == ("action", ("x", "gripper"), "m")
    assert (action.low, action.high) == ((0, -27), (27, 0))
    assert (state.name, state.names, state.unit) == ("state", ("a", "b", "c"), None)
    assert (state.low, state.high) == ((0, 1, 2), (27, 28, 29))
    assert dataset.action_width == 2  # and no reward, for none was named


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"fps": 5.0}, [12, 14, 16, 18]),
        ({"stride": 3}, [12, 15, 18]),
        ({"skip": 2, "stride": 2}, [14, 16, 18]),
        ({"skip": 3, "fps": 5.0}, [15, 17]),
    ],
)
def test_fewer_frames_keep_their_own_rows(
    options: dict[str, float], wanted: list[int], robot: Path, tmp_path: Path
) -> None:
    bring_in(robot, tmp_path / "data", camera=TOP, **options)
    dataset = VideoDataset(tmp_path / "data")
    assert shown(dataset, 1) == wanted
    assert dataset.window(1, 0, len(wanted))["action"][:, 0].tolist() == wanted


@pytest.mark.parametrize("camera", [None, "observation.images.left"])
def test_one_of_several_cameras_must_be_named(
    robot: Path, camera: str | None, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"expected --camera with one of: {TOP}, {FRONT}; "):
        bring_in(robot, tmp_path / "data", camera=camera)
    assert not (tmp_path / "data").exists()


def test_a_reward_that_is_not_there(robot: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no column 'score' for the reward; there are: .*action"):
        bring_in(robot, tmp_path / "data", camera=TOP, reward_key="score")


def test_images_in_the_parquet_file(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    root = write_lerobot(tmp_path / "robot", "v2.1")
    info = json.loads((root / "meta/info.json").read_text())
    info["features"] = {k: v for k, v in info["features"].items() if k != FRONT}
    info["features"][TOP]["dtype"] = "image"
    info["video_path"] = None
    (root / "meta/info.json").write_text(json.dumps(info))
    for episode, file in enumerate(sorted((root / "data").rglob("*.parquet"))):
        first = first_number(episode)
        frames = numbered(range(first, first + LENGTHS[episode]))
        pngs = [
            {"bytes": cv2.imencode(".png", f[..., ::-1])[1].tobytes(), "path": ""} for f in frames
        ]
        pq.write_table(pq.read_table(file).append_column(TOP, pa.array(pngs)), file)
    bring_in(root, tmp_path / "data")
    dataset = VideoDataset(tmp_path / "data")
    assert shown(dataset, 2) == list(range(19, 28))


def test_a_film_without_its_episode_breaks_that_one_only(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "robot", "v3.0")
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file).to_pydict()
    table[f"videos/{TOP}/from_timestamp"][2] += 1.0
    pq.write_table(pa.table(table), file)
    outcome = bring_in(root, tmp_path / "data", camera=TOP)
    assert [(f.name, f.reason) for f in outcome.failed] == [
        ("episode_000002", "file-000.mp4: no frame at 2.900 s")
    ]
    assert outcome.clips == 2


def test_a_film_that_lacks_frames_in_between_breaks_its_episode(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "robot", "v2.1")
    film = root / f"videos/chunk-000/{TOP}/episode_000001.mp4"
    write_film(film, range(LENGTHS[1]), fps=FPS // 2)
    (failure,) = bring_in(root, tmp_path / "data", camera=TOP).failed
    assert failure.reason == "episode_000001.mp4: no frame at 0.100 s"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codebase_version": "v1.6"}, r"expected LeRobot v2.0, v2.1 or v3.0, got 'v1.6'"),
        ({"features": None}, "expected an object with `features`"),
        ({"data_path": None}, "metadata of the LeRobot data set"),
        ({"fps": "fast"}, "metadata of the LeRobot data set"),
    ],
)
def test_broken_metadata(
    change: dict[str, object], words: str, robot: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(robot, root)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | change))
    with pytest.raises(ConfigError, match=words):
        bring_in(root, tmp_path / "data", camera=TOP)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(ConfigError, match="expected a JSON document"):
        bring_in(root, tmp_path / "data", camera=TOP)
