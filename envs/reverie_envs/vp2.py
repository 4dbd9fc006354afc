"""RoboDesk 1.0 and robosuite 1.5, the two simulators of VP2, each in a Python of its own.

RoboDesk is shown and stepped as in VP2 (source: s-tian/vp2@b0eb69d, arXiv:2304.13723). VP2's
robosuite is a fork with another renderer and tasks of its own that is not on PyPI: here are the
tasks of the released 1.5, drawn at 256 pixels, shrunk and moved as there.
`vp2_child.py` is the part that runs in the other Python.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium

from reverie.protocols import EvalProtocol, Suite
from reverie.ranges import Count, Few, Pixels, Seconds
from reverie.types import STRICT
from reverie_envs import venvs
from reverie_envs.isolated import IsolatedConfig, isolate
from reverie_envs.names import ROBODESK
from reverie_envs.suites import protocol_id, unknown_task
from reverie_envs.wrappers import DictObservations

Env = gymnasium.Env[Any, Any]
CHILD = Path(__file__).with_name("vp2_child.py")  # not imported: it needs pillow, this not
ROBOSUITE_TASKS = {
    "door": "Door",
    "lift": "Lift",
    "nut_assembly": "NutAssembly",
    "nut_assembly_round": "NutAssemblyRound",
    "nut_assembly_square": "NutAssemblySquare",
    "pick_place": "PickPlace",
    "pick_place_bread": "PickPlaceBread",
    "pick_place_can": "PickPlaceCan",
    "pick_place_cereal": "PickPlaceCereal",
    "pick_place_milk": "PickPlaceMilk",
    "stack": "Stack",
    "tool_hang": "ToolHang",
}
"""Task -> its name in robosuite: those for one arm with a gripper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobodeskConfig:
    """How RoboDesk is shown and stepped."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Pixels = 64
    """Height and width of the image in pixels (source: s-tian/vp2@b0eb69d)."""
    repeat: Few = 50
    """Raw steps per decision (source: s-tian/vp2@b0eb69d)."""
    length: Count = 15
    """Decisions before the time-out (source: s-tian/vp2@b0eb69d)."""
    reward: Literal["dense", "sparse", "success"] = "dense"
    """RoboDesk's own kinds; summed over the raw steps (source: s-tian/vp2@b0eb69d)."""
    state: bool = False
    """Add joint and object positions and velocities as vectors."""
    python: str = ""
    """Interpreter that has RoboDesk; empty for that of `reverie env install robodesk`."""
    answer_s: Seconds = 50.0
    """Seconds one answer of its process may take."""


class Robodesk(Suite):
    """A desk with buttons, blocks, a drawer and a slide, with VP2's camera and action repeat."""

    Config = RobodeskConfig
    extra = None
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return ROBODESK

    def missing(self) -> str | None:
        """What has to be done before it can be used."""
        return venvs.missing("robodesk")

    def rendering(self) -> str:
        return "in its own process"

    def action_repeat(self, config: RobodeskConfig) -> int:
        return config.repeat

    def protocol(self, task: str, config: RobodeskConfig) -> EvalProtocol:
        """30 episodes, as VP2 has instances per task."""
        name = _protocol_id("robodesk-v1", config)
        return EvalProtocol(name, "mode", 30, max_steps=config.length)

    def make(self, task: str, config: RobodeskConfig) -> Env:
        """Build it in its own process.

        Raises:
            KeyError: no such task.
            ImportError: it has no Python of its own yet.
        """
        if task not in ROBODESK:
            raise unknown_task(task, "robodesk", ROBODESK)
        names = ("size", "repeat", "length", "reward", "state")
        kwargs = {"task": task, **{name: getattr(config, name) for name in names}}
        return _make("robodesk", "Desk", task, config, kwargs)


@dataclass(frozen=True, kw_only=True, slots=True)
class RobosuiteConfig:
    """How robosuite is shown and stepped."""

    __pydantic_config__: ClassVar[Any] = STRICT
    size: Pixels = 64
    """Height and width of the image in pixels, shrunk from 256 (source: s-tian/vp2@b0eb69d)."""
    camera: str = "agentview"
    """Camera of the task; VP2's `agentview_shift_2` is part of its fork."""
    controller: Literal["OSC_POSITION", "OSC_POSE"] = "OSC_POSITION"
    """Moves the hand by 3 numbers, or turns it too by 6; the gripper has one more
    (source: s-tian/vp2@b0eb69d)."""
    length: Count = 500
    """Decisions before the time-out."""
    shaped: bool = True
    """Rewards for coming closer, beside those for success."""
    python: str = ""
    """Interpreter that has robosuite; empty for that of `reverie env install robosuite`."""
    answer_s: Seconds = 50.0
    """Seconds one answer of its process may take."""


class Robosuite(Suite):
    """Manipulation with a Panda arm (robosuite 1.5), seen from the front."""

    Config = RobosuiteConfig
    extra = None
    deterministic = True

    def tasks(self) -> tuple[str, ...]:
        return tuple(ROBOSUITE_TASKS)

    def missing(self) -> str | None:
        """What has to be done before it can be used."""
        return venvs.missing("robosuite")

    def rendering(self) -> str:
        return "in its own process"

    def action_repeat(self, config: RobosuiteConfig) -> int:
        return 1

    def protocol(self, task: str, config: RobosuiteConfig) -> EvalProtocol:
        return EvalProtocol(_protocol_id("robosuite-1.5-v1", config), max_steps=config.length)

    def make(self, task: str, config: RobosuiteConfig) -> Env:
        """Build it in its own process.

        Raises:
            KeyError: no such task.
            ImportError: it has no Python of its own yet.
        """
        if task not in ROBOSUITE_TASKS:
            raise unknown_task(task, "robosuite", ROBOSUITE_TASKS)
        names = ("size", "camera", "controller", "length", "shaped")
        kwargs = {"task": ROBOSUITE_TASKS[task], **{name: getattr(config, name) for name in names}}
        return _make("robosuite", "Arm", task, config, kwargs)


def _make(suite: str, kind: str, task: str, config: Any, kwargs: dict[str, Any]) -> Env:
    if not config.python and (lack := venvs.missing(suite)):
        raise ImportError(lack)
    isolated = IsolatedConfig(
        python=config.python or venvs.python_of(suite),
        kwargs=kwargs,
        variables={"MUJOCO_GL": os.environ.get("MUJOCO_GL") or "egl"},
        answer_s=config.answer_s,
    )
    return DictObservations(isolate(f"{CHILD}:{kind}", isolated), f"{suite}/{task}")


def _protocol_id(base: str, config: Any) -> str:
    """Where the interpreter lies and how long it may take are no part of a protocol."""
    return protocol_id(base, dataclasses.replace(config, python="", answer_s=50.0))
