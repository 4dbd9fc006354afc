"""Packages that the core does without; what misses one names the extra that brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

PACKAGES = {"PIL.Image": "pillow", "cv2": "opencv-python-headless"}
"""What to call modules that are not called like their package."""


def load_extra(module: str, what: str, extra: str) -> ModuleType:
    """Import `module`, which `what` needs.

    Raises:
        ImportError: it is not installed, with the `pip install` line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES.get(module, module)
        raise ImportError(f'{what} needs {package}: pip install "reverie[{extra}]"') from error
