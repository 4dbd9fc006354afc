"""Who may import what, and the trap of a folder called platform."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = {"reverie": "platform", "reverie_algorithms": "algorithms", "reverie_envs": "envs"}
SEEN_BY_ALL = {"reverie.types", "reverie.protocols", "reverie.group"}
SHARED_ROOMS = {"common", "dreamer", "fast"}
"""Of `reverie_algorithms`; every other folder is named after a paper."""
MADE_OF: dict[str, set[str]] = {}
"""Papers whose agents are made of other papers' agents, by folder."""
MAY_IMPORT_RAY = {
    "cluster/run.py",
    "cluster/links.py",
    "cluster/light_actors.py",
    "cluster/connection.py",
    "cluster/fleet.py",
    "trainable.py",
    "sweep.py",
    "rllib.py",
}
NO_TORCH = [
    "types",
    "registry",
    "settings",
    "config",
    "replay/chunk",
    "replay/store",
    "replay/samplers",
    "replay/rate_limiter",
    "replay/codec",
    "env_factory",
    "env_thread",
    "row_buffer",
    "replay/shard",
    "replay/coordinator",
    "storage",
    "weight_store",
]


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules a file imports; with `top_level` only those that run when it is imported."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / PACKAGES[package] / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in files(package):
        for name in imports(path):
            top = name.split(".")[0]
            if top not in PACKAGES or top == package:
                continue
            allowed = package != "reverie" and any(name.startswith(m) for m in SEEN_BY_ALL)
            assert allowed or name == "reverie", f"{path.relative_to(ROOT)} imports {name}"


def rooms(path: Path) -> set[str]:
    """Folders of `reverie_algorithms` that a file imports, in what runs and for types."""
    names = [name.split(".") for name in imports(path) if name.startswith("reverie_algorithms.")]
    return {parts[1] for parts in names} - {""}


def types_only(path: Path) -> set[str]:
    """Folders of `reverie_algorithms` that a file imports for types alone."""
    blocks = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    found = [n.module for block in blocks for n in ast.walk(block) if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[1] for name in found if name and "reverie_algorithms." in name}


def test_papers_import_shared_rooms_only_and_those_no_paper() -> None:
    root = ROOT / PACKAGES["reverie_algorithms"] / "reverie_algorithms"
    folders = {path.name for path in root.iterdir() if (path / "__init__.py").exists()}
    assert folders > SHARED_ROOMS
    for path in files("reverie_algorithms"):
        own = path.relative_to(root).parts[0]
        allowed = SHARED_ROOMS | {own} | MADE_OF.get(own, set())
        if own == "fast":  # a twin names the class whose method it stands for
            allowed |= types_only(path)
        extra = rooms(path) & folders - allowed
        assert not extra, f"{path.relative_to(root)} imports {sorted(extra)}"


def test_what_agents_share_knows_no_dreamer() -> None:
    root = ROOT / PACKAGES["reverie_algorithms"] / "reverie_algorithms"
    for path in sorted((root / "common").rglob("*.py")):
        assert rooms(path) <= {"common", "fast"}, path.name


def test_only_the_ray_files_import_ray() -> None:
    for path in files("reverie"):
        tops = {name.split(".")[0] for name in imports(path, top_level=True)}
        assert "ray" not in tops or path.name in MAY_IMPORT_RAY, path.name


def test_parts_that_live_in_light_actors_never_import_torch() -> None:
    for name in NO_TORCH:
        path = ROOT / "platform/reverie" / f"{name}.py"
        tops = {module.split(".")[0] for module in imports(path, top_level=True)}
        assert "torch" not in tops, path.name


def test_light_actors_really_run_without_torch() -> None:
    code = "import sys, reverie.cluster.light_actors; sys.exit('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_nothing_shadows_the_standard_platform_module() -> None:
    assert not (ROOT / "platform/__init__.py").exists()
    code = "import platform; print(platform.system())"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip(), found.stderr


def test_reverie_and_a_local_run_work_where_ray_cannot_be_imported(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = None
from reverie.config import resolve_config
from reverie.trainer import Trainer
from tests.fakes import tree
config = resolve_config(tree(run__dir={str(tmp_path / "run")!r}, run__env_steps=100))
assert Trainer(config, local=True).run().env_steps == 100
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_without_ray_the_command_line_names_the_way_out(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = None
from reverie.cli import main
sys.exit(main(["train", "tune_configs/dreamerv3/catch.yaml", "run.dir={tmp_path / "run"}"]))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert "ray is not installed: pip install reverie, or run with --local" in found.stderr
