"""What every benchmark writes beside its figures: hardware, versions, date, load."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def stamp() -> dict[str, Any]:
    """Date, hardware and versions."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "torch": installed("torch"),
        "ray": installed("ray"),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def installed(package: str) -> str | None:
    """Version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def save(name: str, figures: Any, folder: Path | None = None, **more: Any) -> Path:
    """Write figures with their stamp, and `more` beside it, to results/<name>.json.

    The file is replaced in one step: a process that is killed leaves the former one.
    """
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    fresh = path.with_suffix(".json.new")
    stamped = {**stamp(), **more, "figures": figures}
    fresh.write_text(json.dumps(stamped, indent=2, allow_nan=False) + "\n")
    fresh.replace(path)
    return path


def saved(name: str, folder: Path | None = None) -> Any:
    """The figures of results/<name>.json, None where there are none: for runs in parts."""
    path = (folder or RESULTS) / f"{name}.json"
    return json.loads(path.read_text())["figures"] if path.exists() else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
