"""Checks of a machine: what works, what is missing, and the command that fixes it."""

from __future__ import annotations

import ctypes.util
import importlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from reverie import registry
from reverie.errors import ConfigError

GL_LIBRARIES = {
    "egl": ("EGL", "libegl1 libgl1-mesa-dri"),
    "osmesa": ("OSMesa", "libosmesa6"),
    "glfw": ("glfw", "libglfw3"),
}
"""MUJOCO_GL backend -> library and the Debian packages that bring it."""
EXTRAS = {
    "ray": "ray",
    "rllib": "ray.rllib",
    "tune": "ray.tune",
    "atari": "ale_py",
    "dmc": "dm_control",
    "metaworld": "metaworld",
    "crafter": "crafter",
    "video": "av",
    "progress": "rich",
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
}
CORE = ("torch", "gymnasium", "numpy", "pyarrow", "pydantic", "pyyaml")
LOW_DISK_GB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    severity: Literal["ok", "note", "broken"]
    message: str


def check_machine() -> list[Finding]:
    """Look at Python, packages, GPU, graphics libraries and disk; imports what it checks."""
    findings = [_python(), *(_package(name) for name in CORE), _gpu()]
    findings += [_extra(extra, module) for extra, module in EXTRAS.items()]
    return [*findings, _graphics(), _disk()]


def check_suite(name: str) -> list[Finding]:
    """Look at what one suite needs.

    Raises:
        ConfigError: no such suite.
    """
    try:
        suite = registry.suite(name)
    except KeyError as error:
        raise ConfigError(f"doctor: {error.args[0]}") from None
    except ImportError as error:
        return [Finding(name, "broken", str(error))]
    checks = suite.checks()
    if checks is not None:
        return [Finding(what, severity, text) for what, severity, text in checks]
    lack = suite.missing()
    return [Finding(name, "broken" if lack else "ok", lack or "installed")]


def report(findings: list[Finding]) -> str:
    """`check_machine` for a terminal."""
    marks = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}
    return "\n".join(f"{marks[f.severity]} {f.name:14} {f.message}" for f in findings)


def _python() -> Finding:
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    text = platform.python_version()
    return Finding(
        "python", "ok" if good else "broken", text + ("" if good else "; 3.11 or 3.12 is needed")
    )


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "broken", "not installed; run make to install it")


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("gpu", "note", "unknown without torch")
    if not torch.cuda.is_available():
        return Finding("gpu", "note", "torch sees none; the _cpu presets fit this machine")
    return Finding(
        "gpu", "ok", ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    )


def _extra(extra: str, module: str) -> Finding:
    try:
        importlib.import_module(module)
    except ImportError as error:
        cost = "; only --local runs work" if extra == "ray" else ""
        return Finding(extra, "note", f'{error}{cost}; pip install "reverie[{extra}]"')
    except Exception as error:  # a GL backend that cannot load raises what it likes
        return Finding(extra, "broken", f"{module} is installed but does not import: {error}")
    return Finding(extra, "ok", f"{module} imports")


def _graphics() -> Finding:
    """Rendering without a screen: the backend MUJOCO_GL names, or any."""
    chosen = os.environ.get("MUJOCO_GL", "")
    wanted = {chosen: GL_LIBRARIES[chosen]} if chosen in GL_LIBRARIES else GL_LIBRARIES
    found = [name for name, (library, _) in wanted.items() if ctypes.util.find_library(library)]
    if found:
        return Finding("graphics", "ok", f"off-screen rendering: {', '.join(found)}")
    name, (library, packages) = next(iter(wanted.items()))
    return Finding(
        "graphics",
        "broken",
        f"lib{library} (MUJOCO_GL={name}) is missing: apt-get install {packages}",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    low = free < LOW_DISK_GB
    return Finding("disk", "note" if low else "ok", f"{free:.0f} GB free here")
