"""A sweep that ranks: its groups by Ray Tune, then the winners once more on fresh seeds."""

from __future__ import annotations

import argparse
import os
from types import ModuleType
from typing import TYPE_CHECKING

from reverie.errors import ConfigError
from reverie.stop_signals import StopSignals

if TYPE_CHECKING:
    from reverie.tuning.sweep_folder import SweepFolder
    from reverie.tuning.sweep_settings import SweepFile


def begin_search(
    file: SweepFile, arguments: argparse.Namespace, signals: StopSignals, backend: str
) -> int:
    """Rank configurations, then run the best again on fresh seeds."""
    from reverie.tuning.group import check_search, group_members
    from reverie.tuning.sweep_folder import SweepFolder, check_free, create, exists, sweep_path

    if backend == "slurm":
        raise ConfigError("--backend slurm: a search is Ray's, expected ray or nothing")
    if arguments.dry_run:
        raise ConfigError("--dry-run: of a comparison; a search stops runs as it goes")
    search = _load_search()
    assert file.search is not None
    for point in search.all_points(file):
        members = group_members(file, point, sweep_path(file))
        check_search(file.search, members[0].config)
        if not arguments.address and not file.resources.gpu:
            here = {"CPU": float(os.cpu_count() or 1)}
            search.check_room(file, len(members), here, "this machine")
    if arguments.resume and exists(file):
        sweep = SweepFolder(sweep_path(file))
        sweep.check_same(file)
    else:
        check_free(file)
        sweep = create(file, search.empty_plan())
    return work_search(sweep, arguments, signals)


def work_search(sweep: SweepFolder, arguments: argparse.Namespace, signals: StopSignals) -> int:
    from reverie.cli.sweep_commands import drive
    from reverie.tuning.cells import plan
    from reverie.tuning.group import show
    from reverie.tuning.local_backend import LocalLauncher
    from reverie.tuning.sweep_folder import SweepFolder, create, exists, sweep_path

    search, config = _load_search(), sweep.file.search
    assert config is not None
    print(f"sweep folder: {sweep.shown}", flush=True)
    groups = search.run_search(sweep, arguments.address, signals, _say)
    print("\n".join(["best of the search:", *map(show, groups[:5])]), flush=True)
    winners = groups[: config.winners]
    file = search.winners_file(sweep, winners)
    again = SweepFolder(sweep_path(file)) if exists(file) else create(file, plan(file))
    launcher = LocalLauncher(file.resources)
    code = drive(again, again.cells, launcher, signals, file, file.max_concurrent or 1)
    for winner in winners:
        fresh = search.fresh_score(again, winner, config.metric)
        print(
            f"{show(winner)}; on {fresh.members} fresh runs, which chose nothing:"
            f" {fresh.score:.3f}",
            flush=True,
        )
    return code


def _say(text: str) -> None:
    print(text, flush=True)


def _load_search() -> ModuleType:
    try:
        from reverie.tuning import search
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("ray", "pandas"):
            raise
        raise ImportError('search needs ray[tune]: pip install "reverie[tune]"') from error
    return search


def print_groups(sweep: SweepFolder) -> int:
    """How each group is doing, from files alone; what the winners came to, once they have run."""
    from reverie.cli.sweep_table import counts
    from reverie.tuning.cell_state import states
    from reverie.tuning.group import read_groups, show
    from reverie.tuning.sweep_folder import SWEEP_FILE, SweepFolder

    groups = read_groups(sweep.path / "groups")
    print("\n".join([*map(show, groups), f"{len(groups)} groups"]))
    winners = sweep.path / "winners"
    if (winners / SWEEP_FILE).exists():
        print(f"winners on fresh seeds: {counts(states(SweepFolder(winners)))}")
    return 0
