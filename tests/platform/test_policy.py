"""`reverie.load`: a trained policy acts wherever torch and numpy are, and refuses bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.config import resolve_config
from reverie.errors import ConfigError
from reverie.export import export
from reverie.policy import make_agent
from reverie.trainer import Trainer
from tests.conftest import ROOT
from tests.distributed.test_lockstep import DREAMER
from tests.fakes import CountingEnv, tree


@pytest.fixture(scope="module")
def dreamer_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DreamerV3 after a few updates on toy/catch."""
    folder = tmp_path_factory.mktemp("dreamer") / "run"
    run = {"env_steps": 120, "prefill": 60, "dir": str(folder)}
    raw = DREAMER | {"run": run, "eval": {"every": 0, "episodes": 1, "video": False}}
    assert Trainer(resolve_config(raw), local=True).run().grad_updates >= 1
    return folder


@pytest.fixture(scope="module")
def stub_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stub") / "run"
    raw = tree(run={"env_steps": 100, "prefill": 40, "dir": str(folder)}, eval__video=False)
    Trainer(resolve_config(raw), local=True).run()
    return folder


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


def test_one_observation_gives_one_action_and_a_batch_gives_a_batch(dreamer_run: Path) -> None:
    policy = reverie.load(dreamer_run)
    single = policy.act({"image": frames(1)[0]})
    assert (np.shape(single), np.asarray(single).dtype) == ((), np.int64)
    batch = policy.act({"image": frames(5)})
    assert (batch.shape, batch.dtype) == ((5,), np.int64)
    assert set(batch) <= {0, 1, 2}


def test_an_array_alone_stands_for_the_only_key(dreamer_run: Path) -> None:
    named, plain = reverie.load(dreamer_run), reverie.load(dreamer_run)
    for frame in frames(4):
        assert plain.act(frame) == named.act({"image": frame})


def carry_of(policy: Any) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in policy._carry.items()}


def test_the_past_is_carried_until_reset(dreamer_run: Path) -> None:
    policy, other = reverie.load(dreamer_run), reverie.load(dreamer_run)
    for frame in frames(3):
        policy.act(frame)
    first = carry_of(policy)
    policy.act(frames(1)[0])
    assert not np.array_equal(carry_of(policy)["deter"], first["deter"])
    policy.reset()
    policy.act(frames(1)[0])
    other.act(frames(1)[0])
    np.testing.assert_array_equal(carry_of(policy)["deter"], carry_of(other)["deter"])


def test_another_batch_size_starts_anew(stub_run: Path) -> None:
    policy = reverie.load(stub_run)
    obs, _ = CountingEnv().reset(seed=0)
    many = {key: np.stack([value] * 3) for key, value in obs.items()}
    for _ in range(2):
        policy.act(obs)
    policy.act(many)
    assert list(policy._carry["seen"]) == [1, 1, 1]
    policy.act(many)
    assert list(policy._carry["seen"]) == [2, 2, 2]


def test_it_acts_as_the_trained_weights_say(stub_run: Path) -> None:
    from reverie.checkpoint import CheckpointStore
    from reverie.storage import Storage

    policy = reverie.load(stub_run)
    saved = CheckpointStore(Storage(str(stub_run)), 1).latest().tensors("policy")
    assert any(value.abs().sum() > 0 for value in saved.values())
    for key, value in policy._agent.policy_state().items():
        np.testing.assert_array_equal(value, saved[key].numpy())


def test_loading_twice_acts_the_same_and_another_seed_may_not(stub_run: Path) -> None:
    obs, _ = CountingEnv().reset(seed=0)
    many = {key: np.stack([value] * 200) for key, value in obs.items()}
    first, again, other = (reverie.load(stub_run, seed=seed).act(many) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obs: {"image": obs["image"]}, r"observation lacks \['count'\], got \['image'\]"),
        (
            lambda obs: obs | {"count": np.zeros(3)},
            r"observation 'count': expected \(2,\) or \[N, \*\(2,\)\], got \(3,\)",
        ),
        (
            lambda obs: obs | {"image": np.zeros((4, 8, 3), np.uint8)},
            r"observation 'image': expected \(8, 8, 3\) or .*, got \(4, 8, 3\)",
        ),
        (
            lambda obs: {
                "image": obs["image"][None].repeat(3, 0),
                "count": np.zeros((2, 2), np.float32),
            },
            r"differ in their batch axes, got .*\(2,\).*\(3,\)",
        ),
    ],
)
def test_a_bad_observation_is_refused_by_name(change: Any, message: str, stub_run: Path) -> None:
    policy = reverie.load(stub_run)
    obs, _ = CountingEnv().reset(seed=0)
    with pytest.raises(ValueError, match=message):
        policy.act(change(obs))
    assert policy.act(obs) in (0, 1, 2)


def test_further_keys_are_left_aside(stub_run: Path) -> None:
    obs, _ = CountingEnv().reset(seed=0)
    assert reverie.load(stub_run).act(obs | {"debug": "anything"}) in (0, 1, 2)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run folder: no config"):
        reverie.load(tmp_path)


def test_a_run_without_a_checkpoint_is_refused(stub_run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "spaces.json"):
        (tmp_path / name).write_text((stub_run / name).read_text())
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        reverie.load(tmp_path)


def test_a_run_that_did_not_keep_the_native_space_acts_normalised_only(
    stub_run: Path, tmp_path: Path
) -> None:
    export(stub_run, tmp_path / "old")
    file = tmp_path / "old/spaces.json"
    spaces = json.loads(file.read_text())
    del spaces["native"]
    file.write_text(json.dumps(spaces))
    policy = reverie.load(tmp_path / "old")
    obs, _ = CountingEnv().reset(seed=0)
    with pytest.raises(ConfigError, match=r"old: spaces.json .*reverie resume.*normalised=True"):
        policy.act(obs)
    assert policy.act(obs, normalised=True) in (0, 1, 2)


def test_a_broken_native_space_is_refused(stub_run: Path, tmp_path: Path) -> None:
    export(stub_run, tmp_path / "broken")
    file = tmp_path / "broken/spaces.json"
    file.write_text(file.read_text().replace('"start": [', '"start": [1,'))
    with pytest.raises(ConfigError, match=r"spaces.json: expected .*: native.action: expected"):
        reverie.load(tmp_path / "broken")


def test_an_agent_that_only_acts_is_smaller_than_one_that_learns() -> None:
    from reverie.env_factory import spaces_of

    config = resolve_config(DREAMER)
    spaces = spaces_of(config.env)
    agent = make_agent(config, spaces, seed=0, training=False)
    assert not hasattr(agent, "optimizers")
    assert hasattr(make_agent(config, spaces, seed=0, training=True), "optimizers")


def test_a_policy_loads_and_acts_where_ray_and_gymnasium_cannot_be_imported(
    dreamer_run: Path,
) -> None:
    code = f"""
import json, sys
for name in ("ray", "gymnasium", "reverie_envs"):
    sys.modules[name] = None
import numpy as np
import reverie
policy = reverie.load({str(dreamer_run)!r})
shown = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
print(json.dumps([int(policy.act(frame)) for frame in shown]))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    policy = reverie.load(dreamer_run)
    assert json.loads(found.stdout) == [int(policy.act(frame)) for frame in frames(6)]
