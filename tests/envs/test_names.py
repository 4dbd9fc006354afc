"""Suites can be asked about their tasks without their simulators, and the names are the same."""

import subprocess
import sys

import pytest

from reverie import registry
from reverie_envs.names import TASKS
from tests.conftest import ROOT

SIMULATORS = ("ale_py", "crafter", "cv2", "dm_control", "metaworld", "mujoco", "torch", "ray")


def in_process(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("suite", registry.ENVS)
def test_the_names_are_those_of_the_suite(suite):
    assert TASKS.get(suite, ()) == registry.suite(suite).tasks()


def test_names_import_nothing():
    code = "import sys, __future__, reverie_envs; before = set(sys.modules)\n"
    ended = in_process(f"{code}import reverie_envs.names; print(set(sys.modules) - before)")
    assert ended.stdout.strip() == "{'reverie_envs.names'}"


@pytest.mark.parametrize("installed", [True, False])
def test_a_suite_answers_without_its_simulator(installed):
    ended = in_process(f"""
import sys
simulators = {SIMULATORS!r}
if not {installed}:
    sys.modules |= dict.fromkeys(simulators)
from reverie import registry
from reverie_envs.names import TASKS

for name, tasks in TASKS.items():
    suite = registry.suite(name)
    config = suite.Config()
    assert suite.knows(tasks[0])
    assert suite.action_repeat(config) >= 1 and suite.protocol(tasks[0], config).id
    assert suite.rendering()
    lack = suite.missing()
    if not {installed} and suite.extra:
        assert "pip install" in lack
print([name for name in simulators if sys.modules.get(name)])
""")
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("name", "extra"),
    [("dmc/walker_walk", "dmc"), ("dmcr/walker_walk", "dmc"), ("metaworld/reach", "metaworld")],
)
def test_building_without_the_simulator_names_the_pip_line(name, extra):
    ended = in_process(f"""
import sys
sys.modules |= dict.fromkeys({SIMULATORS!r})
import reverie
reverie.make_env({name!r})
""")
    assert (
        f"needs {'metaworld' if extra == 'metaworld' else 'dm_control'}: pip install"
        in ended.stderr
    )
    assert f'"reverie[{extra}]"' in ended.stderr
