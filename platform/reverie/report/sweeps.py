"""Names of methods in a sweep: a run folder in one is called after its base and point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reverie.documents import read_json
from reverie.errors import ConfigError
from reverie.report.trees import Tree, is_tree, section

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True, slots=True)
class Named:
    """What tells the runs of a sweep apart."""

    base: str | None
    """Its name, where the sweep's file gives it one."""
    label: str
    """What varies, e.g. `entropy_scale=0.01`; empty where nothing does."""

    def method(self, algorithm: str) -> str:
        """The method's name; `algorithm` stands for a base without one."""
        return " ".join(filter(None, [self.base or algorithm, self.label]))


def named(folder: Path) -> Named | None:
    """The names of a run folder `<sweep>/runs/<cell>`; None for one that is in no sweep.

    Raises:
        ConfigError: the sweep's file does not hold what belongs there.
    """
    sweep = folder.parent.parent
    if folder.parent.name != "runs" or not (sweep / SWEEP_FILE).is_file():
        return None
    file = sweep / SWEEP_FILE
    return _cells(file, file.stat().st_mtime_ns).get(folder.name)


@lru_cache(maxsize=64)
def _cells(file: Path, written: int) -> Mapping[str, Named]:
    """The cells of a sweep as it was `written`: one that is extended has more."""
    try:
        document = read_json(file)
    except ValueError as error:
        raise ConfigError(f"{file}: expected JSON, got {error}") from None
    tree: Tree = document if is_tree(document) else {}
    cells, has_names = tree.get("cells"), section(tree, "file").get("has_names")
    if not isinstance(cells, list):
        raise ConfigError(f"{file}: expected a list of cells")
    return {
        str(cell.get("id")): Named(
            str(cell.get("base")) if has_names else None, str(cell.get("label") or "")
        )
        for cell in cells
        if is_tree(cell)
    }
