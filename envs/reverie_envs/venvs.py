"""Python environments of their own for suites whose packages clash with ours: where and what.

`reverie env install <suite>` makes one with pinned packages and plays a step in it, because a set
of versions that installs is not yet one that works. They lie under `~/.local/share/reverie/venvs`
or where REVERIE_VENVS says; `env.python` names any other interpreter that has the packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--quiet")
OLD_BUILD = ("setuptools==59.8.0", "wheel==0.37.1")
"""What still builds gym below 0.26 and MineRL."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make the environment of one suite."""

    steps: tuple[tuple[str, ...], ...]
    """Arguments of `pip install`, one tuple per call."""
    python: str = ""
    """Version of Python it needs, e.g. `3.9`; empty takes the one that runs Reverie."""
    needs: tuple[tuple[str, str], ...] = ()
    """Commands that must be there before, each with the way to get it."""


JAVA = ("javac", "a JDK 8, e.g. apt-get install openjdk-8-jdk or eclipse-temurin:8")
SCREEN = ("xvfb-run", "apt-get install xvfb")
MINERL = "minerl @ git+https://github.com/minerllabs/minerl"
RECIPES = {
    "robodesk": Recipe(
        (
            (
                "robodesk==1.0.0",
                "dm-control==1.0.28",
                "mujoco==3.3.0",
                "gym==0.26.2",
                "numpy==1.26.4",
                "pillow==9.5.0",
            ),
        )
    ),
    "robosuite": Recipe((("robosuite==1.5.2", "mujoco==3.3.0", "numpy==1.26.4", "pillow==9.5.0"),)),
    "minerl-0.4.4": Recipe(
        ((*OLD_BUILD, "numpy<1.24"), ("--no-build-isolation", "gym==0.19.0", "minerl==0.4.4")),
        "3.8",
        (JAVA, SCREEN),
    ),
    "minerl-1.0": Recipe(
        (
            (*OLD_BUILD, "numpy<2"),
            ("--no-build-isolation", "gym==0.23.1", f"{MINERL}@v1.0.2"),
        ),
        "3.9",
        (JAVA, SCREEN),
    ),
    "minedojo": Recipe(
        ((*OLD_BUILD, "numpy<1.24"), ("--no-build-isolation", "gym==0.21.0", "minedojo==0.1")),
        "3.9",
        (JAVA, SCREEN),
    ),
}
"""Versions that were seen to work together (source: their packages on PyPI); those of Minecraft
follow the packages' own requirements and need a network to Gradle and Mojang."""


def folder_of(suite: str) -> Path:
    """Where the environment of `suite` lies once it is installed."""
    root = os.environ.get("REVERIE_VENVS") or "~/.local/share/reverie/venvs"
    return Path(root).expanduser() / suite


def python_of(suite: str) -> str:
    """The interpreter of `suite` there, whether it exists or not."""
    return str(folder_of(suite) / "bin/python")


def missing(suite: str) -> str | None:
    """What has to be done before `suite` can be used, None if nothing."""
    if Path(python_of(suite)).exists():
        return None
    return (
        f"{suite} has no Python of its own in {folder_of(suite)}: reverie env install {suite}, or"
        " env.python=<interpreter that has its packages>"
    )


def install(suite: str, python: str, say: Callable[[str], None]) -> Path:
    """Make the environment of `suite` anew and return its folder.

    Args:
        suite: one of `RECIPES`.
        python: interpreter to make it from; empty for the recipe's.
        say: called with one line per step.

    Raises:
        ValueError: no such suite, no such interpreter, or a command that is missing.
        RuntimeError: pip failed; what it had made is removed.
    """
    if suite not in RECIPES:
        raise ValueError(f"no environment of its own for {suite!r}; there are {sorted(RECIPES)}")
    recipe, folder = RECIPES[suite], folder_of(suite)
    for command, remedy in recipe.needs:
        if shutil.which(command) is None:
            raise ValueError(f"{suite} needs {command}, which is not on the PATH: {remedy}")
    base = _base_python(recipe, python, suite)
    if folder.exists():
        say(f"removing {folder}")
        shutil.rmtree(folder)
    try:
        say(f"making {folder} with {base}")
        _run([base, "-m", "venv", str(folder)])
        for step in recipe.steps:
            say(f"installing {' '.join(step)}")
            _run([python_of(suite), *PIP, *step])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _base_python(recipe: Recipe, python: str, suite: str) -> str:
    wanted = python or (f"python{recipe.python}" if recipe.python else sys.executable)
    found = shutil.which(wanted)
    if found is None:
        raise ValueError(f"{suite} needs {wanted}, which is not here: --python=<path of one>")
    return found


def _run(command: list[str]) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH",)}
    done = subprocess.run(command, env=clean, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr).strip()[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
