"""What a run leaves in its folder, and what it goes on from."""

from __future__ import annotations

import json
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from reverie.checkpoint import CheckpointStore
from reverie.config import load_config, resolve_config
from reverie.errors import ConfigError, EnvFailed, RunError
from reverie.metrics import read_metrics
from reverie.run_folder import run_folder
from reverie.run_record import Progress, Summary
from reverie.storage import Storage
from reverie.trainer import Trainer
from reverie.types import Spaces
from tests.fakes import EPISODE, tree


def make(folder: Path, resume: Any = "never", **overrides: Any) -> Trainer:
    settings = {"run__env_steps": 150, "run__dir": str(folder / "run"), "eval__video": False}
    return Trainer(resolve_config(tree(**settings | overrides)), local=True, resume=resume)


def latest(folder: Path) -> Any:
    return CheckpointStore(Storage(str(folder / "run")), 2).latest()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Summary]:
    folder = tmp_path_factory.mktemp("finished")
    settings = {"run__log_every_s": 0.0, "run__prefill": 30, "eval__every": 60}
    trainer = make(folder, eval__video=True, **settings)
    return trainer, trainer.run()


def test_a_run_folder_holds_what_the_design_says(finished: tuple[Trainer, Summary]) -> None:
    trainer, summary = finished
    folder = trainer.folder
    names = {path.name for path in folder.iterdir()}
    wanted = "config.yaml spaces.json metrics.jsonl summary.json checkpoints replay videos"
    assert set(wanted.split()) <= names
    assert load_config(folder / "config.yaml") == trainer.config
    assert Spaces.from_json(json.loads((folder / "spaces.json").read_text())) == trainer.spaces
    assert Path(summary.checkpoint, "manifest.json").is_file()
    assert summary.train_episodes == min(20, summary.episodes)
    assert summary.videos
    assert all(Path(video).stat().st_size > 0 for video in summary.videos)


def test_summary_json_is_the_summary(finished: tuple[Trainer, Summary]) -> None:
    trainer, summary = finished
    written = json.loads((trainer.folder / "summary.json").read_text())
    assert written == {name: getattr(summary, name) for name in Summary.__slots__}
    assert written["env_steps"] == written["env_frames"] == 150
    assert written["grad_updates"] == 120 * 4 // 20
    assert written["trained_steps"] == written["grad_updates"] * 20
    assert written["episodes"] == 150 // EPISODE
    assert written["protocol"] == "counting-v1"
    assert 0 <= written["learner_idle_share"] <= 1
    assert written["restarts"] == {}


def test_the_manifest_tells_what_ran(finished: tuple[Trainer, Summary]) -> None:
    trainer, _ = finished
    texts = [path.read_text() for path in trainer.folder.glob("*manifest*.json")]
    assert len(texts) == 1
    assert "counting-v1" in texts[0]
    assert "torch" in texts[0]


def test_metrics_rows_run_over_env_steps_and_hold_every_group(
    finished: tuple[Trainer, Summary],
) -> None:
    trainer, summary = finished
    rows = read_metrics(trainer.folder / "metrics.jsonl")
    steps = [row["env_steps"] for row in rows if "fps/env" in row]
    assert steps == sorted(steps)
    assert steps[-1] == 150
    keys = {key for row in rows for key in row}
    assert keys >= {
        "episode/return",
        "episode/length",
        "train/loss/plain",
        "fps/env",
        "fps/updates",
        "idle/learner",
        "idle/workers",
        "eval/score",
        "report/rows",
    }
    scores = [row["eval/score"] for row in rows if "eval/score" in row]
    assert scores[-1] == summary.score
    assert max(scores) == summary.best_score
    assert {row["episode/length"] for row in rows if "episode/length" in row} == {EPISODE}


def test_run_folder_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reverie.run_folder.time.strftime", lambda form: "20260101-000000")
    config = resolve_config(tree(seed=3))
    folders = [run_folder(config) for _ in range(3)]
    stem = f"{tmp_path}/runs/Plain-count-s3-20260101-000000"
    assert [str(folder) for folder in folders] == [stem, f"{stem}-2", f"{stem}-3"]
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("env", ["gym/ALE/Pong-v5", "gym/my_module:MyEnv-v0"])
def test_a_run_folder_is_one_folder_whatever_the_task_is_called(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run_folder(resolve_config(tree() | {"env": env}))
    assert folder.parent == tmp_path / "runs"
    assert ":" not in folder.name


def test_an_existing_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists; choose another, or resume it: reverie resume"):
        make(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_resuming_with_another_number_of_shards_is_refused(tmp_path: Path) -> None:
    make(tmp_path, run__env_steps=80).run()
    with pytest.raises(ConfigError, match=r"resources\.num_shards: the checkpoint holds 1 shards"):
        make(tmp_path, "must", resources__num_shards=2)
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert kept["resources"]["num_shards"] == 1
    assert make(tmp_path, "must", run__env_steps=100).run().env_steps == 100


def test_a_resumed_run_adds_up_over_both_parts(tmp_path: Path) -> None:
    first = make(tmp_path, run__env_steps=80).run()
    second = make(tmp_path, "must").run()
    assert second.env_steps == 150
    assert second.grad_updates > first.grad_updates
    assert second.episodes > first.episodes
    assert second.seconds > first.seconds
    assert second.best_score >= first.score
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    steps = [row["env_steps"] for row in rows]
    assert steps == sorted(steps)


def test_a_suite_s_own_figures_count_all_episodes_of_training(tmp_path: Path) -> None:
    settings = {"env__suite": "tests.fakes:Scored", "run__log_every_s": 0.0, "eval__envs": 1}
    make(tmp_path, run__env_steps=80, **settings).run()
    summary = make(tmp_path, "must", **settings).run()
    # 11 episodes with 5 won, then 10 more of an environment that counts anew, with 5 won.
    assert summary.episodes == 21
    assert summary.suite_scores == {
        "episode/won_percent": pytest.approx(100 * 10 / 21),
        "eval/won_percent": 50.0,
    }
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    scores = [row["episode/won_percent"] for row in rows if "episode/won_percent" in row]
    assert scores[-1] == summary.suite_scores["episode/won_percent"]
    assert len(set(scores)) > 2


def test_an_evaluation_in_other_spaces_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"^eval\.env: continuous=True changes what the agent"):
        make(tmp_path, env="toy/catch", eval__env__continuous=True)
    assert not (tmp_path / "run").exists()


def test_checkpoints_are_written_in_between_and_old_ones_go(tmp_path: Path) -> None:
    trainer = make(tmp_path, run__checkpoint_every_s=0.0, run__keep_checkpoints=2)
    trainer.run()
    numbers = CheckpointStore(Storage(str(tmp_path / "run")), 2).numbers()
    assert len(numbers) == 2
    assert numbers[-1] > 3
    assert latest(tmp_path).document("record")["progress"]["env_steps"] == 150


def test_a_failed_environment_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    fault = {"fault": "raise", "at": 60}
    with pytest.raises(EnvFailed, match="the simulator fell over"):
        make(tmp_path, env=fault, run__max_env_restarts=0).run()
    kept = latest(tmp_path).document("record")["progress"]["env_steps"]
    # Rows before the fault were handed over and counted.
    assert kept >= 40
    summary = make(tmp_path, "must", env={"fault": ""}).run()
    assert summary.env_steps == 150


def test_a_failed_save_does_not_hide_why_the_run_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(tmp_path, env={"fault": "raise", "at": 60}, run__max_env_restarts=0)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointStore, "save", full)
    with caplog.at_level(logging.WARNING), pytest.raises(EnvFailed, match="fell over"):
        trainer.run()
    assert "No space left on device" in caplog.text


def test_steps_may_be_taken_one_by_one(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    seen = []
    while not trainer.step().finished:
        seen.append(trainer.progress.env_steps)
    trainer.finish()
    trainer.close()
    assert seen == sorted(seen)
    assert trainer.progress.env_steps == 150
    assert trainer.progress.last_eval is not None


def test_progress_is_shown_at_every_step_and_signals_are_given_back(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    shown: list[int] = []

    def note(progress: Progress) -> None:
        assert signal.getsignal(signal.SIGTERM) != handler
        shown.append(progress.env_steps)

    make(tmp_path).run(note)
    assert shown[-1] > shown[0]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_faults_reach_the_log_with_their_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        summary = make(tmp_path, env={"fault": "raise", "at": 100}).run()
    assert summary.restarts == {"env": 1}
    assert "env 0: " in caplog.text
    assert "ZeroDivisionError: the simulator fell over" in caplog.text


def test_a_run_that_never_began_leaves_no_folder_in_the_way(tmp_path: Path) -> None:
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), env={"fault": "raise", "at": 1}))
    broken = resolve_config(tree(run__dir=str(tmp_path / "run"), resources__device="cuda"))
    with pytest.raises(ConfigError, match="sees no GPU"):
        Trainer(broken, local=True)
    assert not (tmp_path / "run").exists()
    Trainer(config, local=True).close()
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_a_run_in_another_thread_than_the_main_one_goes_without_signals(tmp_path: Path) -> None:
    config = resolve_config(tree(run__dir=str(tmp_path / "run"), run__env_steps=60))
    summaries: list[Summary] = []
    trainer = Trainer(config, local=True)
    thread = threading.Thread(target=lambda: summaries.append(trainer.run()))
    thread.start()
    thread.join()
    assert [summary.env_steps for summary in summaries] == [60]


def test_a_budget_without_one_update_is_refused(tmp_path: Path) -> None:
    # One batch of 4 x 5 trained steps at a ratio of 4 is 5 env steps beyond the prefill of 40.
    with pytest.raises(ConfigError, match=r"run\.env_steps: expected at least 45 .*, got 44;"):
        make(tmp_path, run__env_steps=44)
    assert make(tmp_path, run__env_steps=45, eval__episodes=1).run().grad_updates == 1


def test_a_window_beyond_the_budget_is_refused(tmp_path: Path) -> None:
    long = {"learner__batch_length": 92, "learner__training_ratio": 1000}
    with pytest.raises(ConfigError, match=r"^learner\.batch_length: .* 91 rows, .* got .* of 92$"):
        make(tmp_path, run__env_steps=45, **long)
    make(tmp_path, run__env_steps=46, **long).close()


def test_a_replay_without_room_for_a_window_is_refused(tmp_path: Path) -> None:
    own = {"agent": "TwoStreams", "learner__batch_length": 1, "replay__capacity": 11}
    with pytest.raises(ConfigError, match=r"^replay\.capacity: expected at least 12, .*, got 11$"):
        make(tmp_path, **own)


LONGER = {"agent": "Planner", "learner__batch_length": EPISODE + 2}
"""An episode has one row more than decisions, so this is one too many."""


def test_a_run_without_one_window_is_no_success_and_goes_on_with_a_shorter_one(
    tmp_path: Path,
) -> None:
    wanted = rf"learner\.batch_length: no window .* had {EPISODE + 1} rows.*=8 or less.*resume"
    with pytest.raises(RunError, match=wanted):
        make(tmp_path, **LONGER).run()
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (written["grad_updates"], written["score"], written["env_steps"]) == (0, None, 150)
    shorter = {"learner__batch_length": EPISODE + 1, "run__env_steps": 250}
    assert make(tmp_path, "must", agent="Planner", **shorter).run().grad_updates > 0


def test_the_first_thousand_steps_without_a_window_say_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(tmp_path, run__env_steps=3000, **LONGER)
    while "nothing is learned" not in caplog.text:
        trainer.step()
        assert trainer.progress.env_steps < 1150
    assert "nothing is learned yet: learner.batch_length: no window of 9 rows" in caplog.text
    with pytest.raises(RunError):
        trainer.run()
    assert caplog.text.count("nothing is learned") == 1


def test_a_run_that_is_not_to_train_succeeds(tmp_path: Path) -> None:
    assert make(tmp_path, **LONGER, learner__training_ratio=0).run().grad_updates == 0
