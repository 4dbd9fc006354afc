"""What a machine lacks is named together with the line that brings it."""

from __future__ import annotations

import shutil
import sys
from collections import namedtuple

import pytest

from reverie.cli import doctor

Usage = namedtuple("Usage", "total used free")


def found(name: str) -> doctor.Finding:
    (finding,) = [finding for finding in doctor.check_machine() if finding.name == name]
    return finding


@pytest.fixture(autouse=True)
def _only_quick_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    # Importing every simulator takes seconds; one present and one missing module are enough.
    monkeypatch.setattr(doctor, "EXTRAS", {"video": "json", "atari": "no_such_module"})


def test_a_missing_extra_comes_with_its_pip_line() -> None:
    assert found("video").severity == "ok"
    missing = found("atari")
    assert missing.severity == "note"
    assert 'pip install "reverie[atari]"' in missing.message


def test_an_extra_that_breaks_on_import_is_broken_and_tells_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    (tmp_path / "breaks_on_import.py").write_text("raise RuntimeError('no GL context')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "EXTRAS", {"dmc": "breaks_on_import"})
    finding = found("dmc")
    assert finding.severity == "broken"
    assert "no GL context" in finding.message


@pytest.mark.parametrize(
    ("backend", "library", "package"),
    [
        ("egl", "libEGL", "libegl1"),
        ("osmesa", "libOSMesa", "libosmesa6"),
        ("", "libEGL", "libegl1"),
    ],
)
def test_a_missing_gl_library_names_its_apt_package(
    backend: str, library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    finding = found("graphics")
    assert finding.severity == "broken"
    assert library in finding.message
    assert f"apt-get install {package}" in finding.message


def test_the_chosen_gl_backend_counts_and_not_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name if name == "EGL" else None)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert found("graphics").severity == "broken"
    monkeypatch.delenv("MUJOCO_GL")
    assert found("graphics").severity == "ok"


def test_a_full_disk_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1_000_000_000))
    assert (found("disk").severity, found("disk").message) == ("note", "1 GB free here")


def test_a_python_that_is_too_new_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("python").severity == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    assert found("python").severity == "broken"


def test_core_packages_are_listed_with_their_versions() -> None:
    import numpy

    assert found("numpy") == doctor.Finding("numpy", "ok", numpy.__version__)


def test_a_missing_core_package_is_broken_but_ray_only_costs_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import PackageNotFoundError

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", nothing)
    assert found("torch").severity == "broken"
    monkeypatch.setattr(doctor, "EXTRAS", {"ray": "no_such_module"})
    assert found("ray").severity == "note"
    assert "--local" in found("ray").message


def test_the_report_marks_what_is_broken() -> None:
    text = doctor.report([doctor.Finding("a", "ok", "fine"), doctor.Finding("b", "broken", "gone")])
    good, bad = text.splitlines()
    assert good.startswith("ok ")
    assert bad.startswith("BROKEN")
    assert "gone" in bad
