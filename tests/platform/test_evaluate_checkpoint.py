from __future__ import annotations

import json
from pathlib import Path

import pytest

from reverie.config import resolve_config
from reverie.evaluate_checkpoint import evaluate_checkpoint
from reverie.trainer import Trainer
from tests.distributed.test_lockstep import DREAMER
from tests.fakes import tree


@pytest.mark.parametrize("agent", ["DreamerV3", "TwoStreams"])
def test_a_filmed_evaluation_shows_an_episode_and_imagined_futures(
    agent: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    raw = DREAMER if agent == "DreamerV3" else tree(agent, resources__num_shards=2)
    run = raw["run"] | {"dir": str(folder), "env_steps": 150}
    Trainer(resolve_config(raw | {"run": run}), local=True).run()
    for video in (folder / "videos").iterdir():
        video.unlink()
    found = evaluate_checkpoint(folder, 2, None, video=True)
    imagined = "open_loop_image" if agent == "DreamerV3" else "batch"
    names = [Path(video).name for video in found["videos"]]
    assert names == ["episode_image-00000150.mp4", f"{imagined}-00000150.mp4"]
    assert {path.name for path in (folder / "videos").iterdir()} == set(names)
    lines = (folder / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["score"] == found["score"]
    assert len(found["returns"]) == 2


def test_without_a_whole_window_nothing_is_imagined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = resolve_config(
        tree(
            run={"dir": str(tmp_path / "run"), "env_steps": 3, "prefill": 3},
            learner__pretrain=0,
            learner__training_ratio=0,
        )
    )
    Trainer(config, local=True).run()
    found = evaluate_checkpoint(tmp_path / "run", 1, None, video=True)
    assert [Path(video).name for video in found["videos"]] == ["episode_image-00000003.mp4"]
    assert "nothing is imagined" in caplog.text


def test_an_evaluation_uses_its_own_options_and_has_the_suite_s_own_figures(tmp_path: Path) -> None:
    own = {"env__suite": "tests.fakes:Scored", "eval__env__length": 3, "eval__envs": 1}
    config = resolve_config(tree(run={"dir": str(tmp_path / "run"), "env_steps": 60}, **own))
    Trainer(config, local=True).run()
    found = evaluate_checkpoint(tmp_path / "run", 4, None, video=False)
    assert found["eval/length"] == 3
    assert found["eval/won_percent"] == 50.0
