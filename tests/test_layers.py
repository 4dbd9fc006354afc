"""Who may import what, and the trap of a folder called platform."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLATFORM = ROOT / "platform/reverie"
PACKAGES = {"reverie": "platform", "reverie_algorithms": "algorithms", "reverie_envs": "envs"}
SEEN_BY_ALL = {
    *("reverie.types", "reverie.protocols", "reverie.group", "reverie.call_thread"),
    *("reverie.native_spaces", "reverie.ranges", "reverie.names"),
    *("reverie.errors", "reverie.extras"),
}
SHARED_ROOMS = {"common", "dreamer", "fast"}
"""Of `reverie_algorithms`; every other folder is named after a paper."""
MADE_OF: dict[str, set[str]] = {}
"""Papers whose agents are made of other papers' agents, by folder."""
KNOW_RAY = {"cluster"}
"""Folders of the platform that may import Ray; from elsewhere only functions may import them."""
RAY_FILES = {"tuning/ray_backend.py", "tuning/search.py", "tuning/trainable.py"}
"""Files of other folders that may as well; likewise."""
LIGHT_ACTORS = ("coordinator_actor", "light_actors")
NEVER = {room: {"torch", "ray"} for room in ("replay", "report", "data")}
NEVER |= {f"cluster/{name}.py": {"torch"} for name in LIGHT_ACTORS}
NEVER |= {"tuning": {"torch"}}
"""Folder or file -> what nothing in it may import, nor anything that it needs."""
EXTRAS = (
    "ray",
    "rich",
    "tensorboardX",
    "cv2",
    "PIL",
    "av",
    "ale_py",
    "dm_control",
    "wandb",
    "optuna",
)
"""Modules that the core does without."""
WITHOUT_EXTRAS = f"import sys\nsys.modules |= dict.fromkeys({EXTRAS!r})"
"""Code after which none of them can be imported, as where only the core is installed."""
LIGHT = [
    "types",
    "documents",
    "registry",
    "settings",
    "config",
    "env_factory",
    "call_thread",
    "row_buffer",
    "seeds",
    "storage",
    "weight_store",
]
"""Modules beside the folders that do without torch as well."""


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


def room_of(path: Path) -> str:
    """The folder of the platform a file lies in; empty for one that lies flat or elsewhere."""
    parts = path.relative_to(PLATFORM).parts if path.is_relative_to(PLATFORM) else ()
    return parts[0] if len(parts) > 1 else ""


def needs(path: Path) -> set[str]:
    """Top-level packages that importing a file of the platform imports, through ours too."""
    found, todo, seen = set[str](), [path], {path}
    while todo:
        for name in imports(todo.pop(), top_level=True):
            top, *parts = name.split(".")
            found.add(top)
            if top != "reverie":
                continue
            places = [PLATFORM.joinpath(*parts[:end]) for end in range(len(parts) + 1)]
            ours = [place / "__init__.py" for place in places]
            ours.append(places[-1].with_suffix(".py"))
            todo += [file for file in ours if file.exists() and file not in seen]
            seen.update(ours)
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
            allowed = package != "reverie" and any(
                f"{name}.".startswith(f"{m}.") for m in SEEN_BY_ALL
            )
            assert allowed or name == "reverie", f"{path.relative_to(ROOT)} imports {name}"


def rooms(path: Path, *, running: bool = False) -> set[str]:
    """Folders of `reverie_algorithms` that a file imports; `running` leaves out what only types
    need.
    """
    tree = ast.parse(path.read_text())
    if running:
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = [f"{node.module}.{alias.name}".split(".") for node in found for alias in node.names]
    return {parts[1] for parts in names if parts[0] == "reverie_algorithms"}


def test_papers_import_shared_rooms_only_and_those_no_paper() -> None:
    root = ROOT / PACKAGES["reverie_algorithms"] / "reverie_algorithms"
    folders = {path.name for path in root.iterdir() if (path / "__init__.py").exists()}
    assert folders > SHARED_ROOMS
    for path in files("reverie_algorithms"):
        own = path.relative_to(root).parts[0]
        allowed = SHARED_ROOMS | {own} | MADE_OF.get(own, set())
        # A twin may name the class whose method it stands for.
        extra = rooms(path, running=own == "fast") & folders - allowed
        assert not extra, f"{path.relative_to(root)} imports {sorted(extra)}"


def test_what_agents_share_knows_no_dreamer() -> None:
    root = ROOT / PACKAGES["reverie_algorithms"] / "reverie_algorithms"
    for path in sorted((root / "common").rglob("*.py")):
        assert rooms(path) <= {"common", "fast"}, path.name


def test_only_the_rooms_of_ray_know_ray() -> None:
    for path in files("reverie"):
        may = room_of(path) in KNOW_RAY or path in {PLATFORM / name for name in RAY_FILES}
        tops = {name.split(".")[0] for name in imports(path)}
        assert "ray" not in tops or may, path.relative_to(PLATFORM)
        if not may:
            assert "ray" not in needs(path), f"importing {path.relative_to(PLATFORM)} needs ray"


def test_rooms_never_import_what_they_must_do_without() -> None:
    for place, banned in NEVER.items():
        found = [path for path in files("reverie") if path.is_relative_to(PLATFORM / place)]
        assert found, f"{place} is gone"
        for path in found:
            tops = {name.split(".")[0] for name in imports(path)} | needs(path)
            assert not banned & tops, f"{path.relative_to(PLATFORM)} imports {banned & tops}"


@pytest.mark.parametrize("name", LIGHT)
def test_modules_that_light_actors_need_do_without_torch(name: str) -> None:
    assert "torch" not in needs(PLATFORM / f"{name}.py")


def test_only_the_command_line_imports_the_command_line() -> None:
    for package in PACKAGES:
        for path in files(package):
            known = {name for name in imports(path) if name.startswith("reverie.cli")}
            assert not known or room_of(path) == "cli", f"{path.relative_to(ROOT)}: {known}"


@pytest.mark.parametrize("name", LIGHT_ACTORS)
def test_light_actors_really_run_without_torch(name: str) -> None:
    code = f"import sys, reverie.cluster.{name}; sys.exit('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_nothing_shadows_the_standard_platform_module() -> None:
    assert not (ROOT / "platform/__init__.py").exists()
    code = "import platform; print(platform.system())"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip(), found.stderr


def test_a_local_run_and_acting_work_with_the_core_alone(tmp_path: Path) -> None:
    code = f"""
{WITHOUT_EXTRAS}
import numpy, reverie
from reverie.config import resolve_config
from reverie.trainer import Trainer
from tests.fakes import tree
config = resolve_config(tree(run__dir={str(tmp_path / "run")!r}, run__env_steps=100))
assert Trainer(config, local=True).run().env_steps == 100
policy = reverie.load({str(tmp_path / "run")!r})
policy.act({{key: numpy.zeros(v.shape, v.dtype) for key, v in policy.spaces.obs.items()}})
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("play toy/catch", 'pictures needs pillow: pip install "reverie[video]"'),
        ("play --all toy", 'sheet needs opencv-python-headless: pip install "reverie[video]"'),
        ("eval no/run --video", 'pictures needs pillow: pip install "reverie[video]"'),
    ],
)
def test_what_misses_an_extra_names_it(words: str, message: str, tmp_path: Path) -> None:
    code = f"{WITHOUT_EXTRAS}\nfrom reverie.cli import main\nsys.exit(main({words.split()!r}))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 2, found.stderr
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_all_extras_but_wandb_and_optuna_are_in_all_and_no_package_of_the_core_is_in_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = re.search(r"\[(.*)\]", extras["all"][0])
    assert listed
    assert set(listed[1].split(",")) == extras.keys() - {"all", "dev", "wandb", "optuna"}
    core = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    wanted = {"torch", "gymnasium", "numpy", "pyarrow", "pydantic", "annotated-types", "pyyaml"}
    assert core == wanted


def test_without_ray_the_command_line_names_the_way_out(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = None
from reverie.cli import main
sys.exit(main(["train", "tune_configs/dreamerv3/catch.yaml", "run.dir={tmp_path / "run"}"]))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert 'ray is not installed: pip install "reverie[ray]", or run with --local' in found.stderr
