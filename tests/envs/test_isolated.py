"""Environments in processes of their own: what travels, what goes wrong, what is left behind."""

from __future__ import annotations

import fcntl
import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from reverie.agent_actor import make_agent_actor
from reverie.config import resolve_config
from reverie.config_tree import apply_overrides
from reverie.env_factory import spaces_of
from reverie.env_loop import EnvLoop
from reverie.errors import ConfigError
from reverie.replay.coordinator import StreamTicket
from reverie.types import StreamId
from reverie_envs.contract import check_env
from reverie_envs.isolated import Isolated, IsolatedConfig, isolate
from reverie_envs.isolated_process import LOG_BYTES, IsolatedFailed
from reverie_envs.wrappers import ContractError
from tests.fakes import tree

SUITE = Isolated()
FILE = Path(__file__).parent / "isolated_factories.py"


def make(name, answer_s=20.0, variables=None, python="", **kwargs):
    config = IsolatedConfig(
        kwargs=kwargs, answer_s=answer_s, variables=variables or {}, python=python
    )
    return isolate(f"{FILE}:{name}", config)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid, limit_s=5.0):
    """Whether `pid` ends soon: a killed process takes a moment."""
    deadline = time.monotonic() + limit_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def play(env, steps):
    env.reset(seed=1)
    return [env.step(1) for _ in range(steps)]


# What travels


def test_an_old_gym_environment_keeps_the_contract():
    task, config = f"{FILE}:old", IsolatedConfig()
    results = check_env(lambda: SUITE.make(task, config), episodes=2, deterministic=True)
    assert [result for result in results if not result.ok] == []


def test_frames_are_copies_and_seeds_reach_the_global_generators():
    env = make("old")
    first, _ = env.reset(seed=4)
    kept = first.copy()
    rows = [env.step(2) for _ in range(5)]
    assert [(row[1:4], row[4]) for row in rows] == [
        *[((2.0, False, False), {"seen": 2})] * 4,
        ((2.0, True, False), {"seen": 2}),
    ]
    np.testing.assert_array_equal(first, kept)
    assert len({row[0][0, 0, 0] for row in rows}) > 1
    np.testing.assert_array_equal(env.reset(seed=4)[0], first)
    env.close()


def test_nested_spaces_are_joined_and_actions_arrive():
    env = make("Nested")
    box = spaces.Box(-2, 2, (2,), np.float32)
    assert env.action_space == box
    assert set(env.observation_space) == {"eye_image", "speed"}
    assert env.observation_space["speed"].dtype == np.float64
    first, _ = env.reset(seed=0)
    again, _ = env.reset(seed=0)
    kept = {key: value.copy() for key, value in again.items()}
    assert first["speed"].tolist() == again["speed"].tolist()
    assert env.step(np.array([1.5, -2], np.float32))[1] == -0.5
    for key, value in kept.items():
        np.testing.assert_array_equal(again[key], value)
    env.close()


def test_the_process_has_its_own_path_variables_and_options(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.chdir(tmp_path)
    env = make("Where", variables={"MARK": "7"})
    _, info = env.reset(seed=3, options={"hard": True})
    path = info.pop("path").split(os.pathsep)
    assert path[0] in ("", str(tmp_path))
    assert "/ours" not in path
    assert str(FILE.parents[2] / "envs/reverie_envs") not in path
    helper = info.pop("helper")
    assert info == {"options": "{'hard': True}", "seed": 3, "mark": "7"}
    assert alive(helper)
    env.close()
    assert gone(helper)


def test_what_is_printed_does_not_fill_the_disk():
    env = make("Where")
    log = env.process._log
    os.write(log, b"x" * (LOG_BYTES + 1))
    env.reset(seed=0)
    assert os.fstat(log).st_size == 0
    env.close()


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "steps", "words"),
    [
        ("raises in step", 3, r"step raised\n(.|\n)*the boat sank"),
        ("dies in step", 3, r"ended during step \(exit status 3\)(.|\n)*out of memory"),
        ("segfaults in step", 3, r"killed by SIGSEGV(.|\n)*_misbehave"),
        ("hangs in step", 3, r"step did not return within env.answer_s=3 s(.|\n)*_misbehave"),
        ("hangs in reset", 0, "reset did not return"),
    ],
)
def test_a_failing_environment_is_an_exception_that_shows_the_place(fault, steps, words):
    env = make("old", answer_s=3.0, fault=fault)
    with pytest.raises(IsolatedFailed, match=words):
        play(env, steps)
    if not fault.startswith("raises"):
        assert not alive(env.process.pid)
        with pytest.raises(IsolatedFailed, match="process that has ended"):
            env.step(0)
    env.close()
    assert not alive(env.process.pid)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("flood step", "answered with "),
        ("huge step", r"answered with status b'k' and 4294967295 bytes of text, which no"),
        ("status step", r"answered with status b'\?' and 0 bytes"),
        ("bytes step", "answered with text that is not UTF-8"),
        ("deep step", "answered with text that is no JSON"),
        ("list step", "answered with an info that is no dict"),
        ("drip step", r"step did not return within env.answer_s=6 s"),
        ("wait step", r"step did not return within env.answer_s=6 s"),
        ("print step", r"step did not return within env.answer_s=6 s"),
        ("shrink step", "step raised"),
    ],
)
def test_an_answer_that_no_environment_of_ours_sends_ends_the_process(fault, words):
    env = make("Liar", answer_s=6.0, fault=fault)
    started = time.monotonic()
    with pytest.raises(IsolatedFailed, match=words):
        play(env, 3)
    assert time.monotonic() - started < 10
    if not fault.startswith("shrink"):
        assert not alive(env.process.pid)
    env.close()


def test_what_is_printed_while_we_wait_is_cut_as_well():
    env = make("Liar", answer_s=4.0, fault="print step")
    log, most = env.process._log, 0
    watcher = ThreadPoolExecutor(1).submit(play, env, 3)
    while not watcher.done():
        with suppress(OSError):
            most = max(most, os.fstat(log).st_size)
        time.sleep(0.05)
    assert isinstance(watcher.exception(), IsolatedFailed)
    assert 0 < most < 60 * LOG_BYTES  # of 80 in all


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"size": 10**12}, "1000000000000 bytes of shared memory that are not there"),
        ({"size": -1}, "-1 bytes of shared memory"),
        ({"size": "x"}, "spaces that cannot be built"),
        ({"dtype": "O"}, "expected numbers, got dtype 'O'"),
        ({"shape": (10**9,)}, "spaces that cannot be built"),
        ({"offset": -64}, "spaces that cannot be built"),
        ({"seal": fcntl.F_SEAL_SEAL}, "shared memory that can be taken away"),
    ],
)
def test_shared_memory_is_as_it_was_told_and_stays(layout, words):
    before = set(_children())
    with pytest.raises(IsolatedFailed, match=words):
        make("Layout", **layout)
    assert set(_children()) == before


def test_a_request_that_nobody_reads_ends_in_time():
    env = make("old", answer_s=6.0)
    os.kill(env.process.pid, signal.SIGSTOP)
    with pytest.raises(IsolatedFailed, match="reset did not return"):
        env.reset(options={"text": "x" * 1_000_000})
    env.close()


def test_no_secret_of_ours_arrives(monkeypatch):
    secrets = ["WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN"]
    secrets += ["MINERL_API_KEY", "XDG_SECRET", "SOMETHING_ELSE"]
    passed = {"CUDA_VISIBLE_DEVICES": "0", "MUJOCO_GL": "egl", "LC_ALL": "C.UTF-8"}
    for name in secrets:
        monkeypatch.setenv(name, "x")
    for name, value in passed.items():
        monkeypatch.setenv(name, value)
    config = IsolatedConfig(inherit=("HF_TOKEN", "NOT_SET"), variables={"MARK": "7"})
    names = []
    for each in (IsolatedConfig(), config):
        env = isolate(f"{FILE}:Surroundings", each)
        env.reset(seed=0)
        names.append(set(env.step(1)[4]["names"].split()))
        env.close()
    assert names[0] & {*secrets} == set()
    assert names[0] >= {"PATH", *passed}
    assert names[1] - names[0] == {"HF_TOKEN", "MARK"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("float64", "observation has dtype float64, its space says uint8; fix it in the factory"),
        ("shape", r"observation has shape \(4, 8, 3\), its space says \(8, 8, 3\)"),
        ("reward", "reward is None, expected one number"),
        ("five", "step returned 2 values, expected 4"),
        ("done", "done is 1, expected a bool"),
        ("nan", "reward is nan, expected one finite number"),
    ],
)
def test_what_breaks_the_declared_spaces_is_refused_by_name(fault, words):
    env = SUITE.make(f"{FILE}:sloppy", IsolatedConfig(kwargs={"fault": fault}))
    env.reset(seed=0)
    with pytest.raises(ContractError, match=words):
        env.step(0)
    env.close()


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("broken", IsolatedFailed, r"building raised\n(.|\n)*no display"),
        ("text", ValueError, "text returned a str, expected an environment of gym"),
        ("olds", ValueError, r"has no function 'olds'; it has \["),
        ("Unsupported", ValueError, "the space is a Tuple, which cannot be passed on"),
        ("Parts", ValueError, r"the action space has the parts \['camera', 'jump'\]"),
        ("Clash", ValueError, "two observations have the same name"),
    ],
)
def test_an_unfit_factory_is_explained_and_leaves_no_process(name, kind, words):
    before = set(_children())
    with pytest.raises(kind, match=words):
        make(name)
    assert set(_children()) == before


def _children():
    for path in Path("/proc/self/task").glob("*/children"):
        yield from path.read_text().split()


def test_a_missing_module_comes_with_the_line_that_installs_it():
    with pytest.raises(ImportError, match=r"cannot import gym19.*-m pip install gym19"):
        isolate("gym19.core:make", IsolatedConfig())


@pytest.mark.parametrize("task", ["old_env", "", ":make", f"{FILE}:"])
def test_a_factory_without_a_function_is_refused(task):
    with pytest.raises(ValueError, match="expected module:function"):
        isolate(task, IsolatedConfig())


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"no such file: /nowhere.py"):
        isolate("/nowhere.py:make", IsolatedConfig())


@pytest.mark.parametrize(
    ("python", "kind", "words"),
    [
        ("no/such/python", ValueError, r"env.python='no/such/python': no such interpreter"),
        ("python0.1", ValueError, "no such interpreter"),
        ("/bin/true", IsolatedFailed, r"ended during building \(exit status 0\)"),
    ],
)
def test_a_wrong_interpreter_is_explained(python, kind, words):
    with pytest.raises(kind, match=words):
        make("old", python=python)


def test_the_folder_of_a_venv_is_not_its_interpreter(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    with pytest.raises(ValueError, match=r"is a folder; write .*/bin/python"):
        make("old", python=str(tmp_path))


@pytest.mark.parametrize(
    ("stub", "words"),
    [
        (
            "import sys; sys.version_info = (3, 6); sys.version = '3.6.15 x'",
            "3.8 or newer.* 3.6.15",
        ),
        ("import sys; sys.modules['numpy'] = None", r"needs numpy .*-m pip install numpy"),
    ],
)
def test_an_interpreter_that_does_not_fit_says_what_it_lacks(tmp_path, stub, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} \"$1\" \"$2\" \"{stub}; exec('''$3''')\"")
    python.chmod(0o755)
    with pytest.raises(ImportError, match=words):
        make("old", python=str(python))


def test_a_process_ends_with_the_object_that_held_it():
    env = make("old")
    pid = env.process.pid
    del env
    gc.collect()
    assert not alive(pid)


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_ends_when_the_one_that_asked_is_killed(busy):
    code = f"""
import os, signal, time
from reverie_envs.isolated import IsolatedConfig, isolate
from reverie_envs.isolated_child import REQUEST
env = isolate("{FILE}:old", IsolatedConfig(kwargs={{"fault": "hangs in reset"}}))
print(env.process.pid, flush=True)
if {busy}:
    os.write(env.process._requests, REQUEST.pack(b"r", 0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert gone(int(out))


def test_an_environment_that_does_not_close_is_ended(monkeypatch):
    monkeypatch.setattr("reverie_envs.isolated_process.CLOSE_S", 0.2)
    env = make("old", fault="hangs in close")
    env.close()
    assert not alive(env.process.pid)


@pytest.mark.parametrize("fault", ["dies in step", "hangs in step", "raises in step"])
def test_a_failure_is_counted_and_the_worker_goes_on(fault):
    patience = 4.0 if fault == "hangs in step" else 30.0
    env = {"kwargs": {"fault": fault}, "answer_s": patience, "task": f"{FILE}:old"}
    config = resolve_config(tree(suite="isolated", env={"suite": "isolated", **env}))
    spaces = spaces_of(config.env)
    lives = itertools.count()

    def tickets():
        return [StreamTicket(StreamId(0, 0, life), life, 0) for life in [next(lives)]]

    actor = make_agent_actor(config, spaces, seed=0, mode="train")
    loop = EnvLoop(
        config.env, actor, tickets, chunk_length=6, first_index=0, seed=0, max_restarts=2
    )
    found = [loop.run(4, random=True) for _ in range(2)]
    assert loop.restarts == 2
    assert all("isolated_factories.py" in part.fault or "memory" in part.fault for part in found)
    assert sum(len(chunk.data["is_last"]) for part in found for _, chunk in part.chunks) == 6
    loop.close()


# How it is asked for


def test_the_short_form_and_the_long_form_mean_the_same():
    base = tree(suite="toy", env={"task": "catch"})
    dotted = ["env.isolated.factory=a:b", "env.isolated.python=p/bin/python"]
    plain = ["env=isolated/a:b", "env.python=p/bin/python"]
    short, long = (resolve_config(apply_overrides(base, keys)) for keys in (dotted, plain))
    assert short.env == long.env
    assert (short.env.task, short.env.options.python) == ("a:b", "p/bin/python")
    assert resolve_config(short.to_dict()) == short


def test_a_mistyped_key_names_the_near_one():
    with pytest.raises(ConfigError, match=r"env\.pythons: unknown key; did you mean python"):
        resolve_config(
            apply_overrides(tree(), ["env.isolated.factory=a:b", "env.isolated.pythons=p"])
        )


# With a real old gym


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gym_0_21_on_numpy_1_plays_in_a_venv_of_its_own(tmp_path):
    python = str(tmp_path / "venv/bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(tmp_path / "venv")],
        [*pip, "setuptools==59.8.0", "wheel==0.37.1", "numpy<2"],
        [*pip, "--no-build-isolation", "gym==0.21.0"],
    ):
        subprocess.run(command, check=True)
    (tmp_path / "old_gym.py").write_text(
        """
import gym, numpy

def make():
    assert gym.__version__ == "0.21.0" and numpy.__version__ < "2"
    return gym.make("CartPole-v1")
"""
    )
    config = IsolatedConfig(python=python)
    task = f"{tmp_path}/old_gym.py:make"
    results = check_env(
        lambda: SUITE.make(task, config), episodes=2, deterministic=True, max_steps=600
    )
    assert [result for result in results if not result.ok] == []
