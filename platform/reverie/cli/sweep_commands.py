"""The command `reverie sweep`: a folder of runs from one file, and what becomes of it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.cli.arguments import Commands, add_command, add_overrides, not_negative
from reverie.errors import ConfigError
from reverie.paths import place
from reverie.stop_signals import StopSignals

if TYPE_CHECKING:
    from reverie.settings import TrainConfig
    from reverie.tuning.cells import Cell, Plan
    from reverie.tuning.driver import Launcher
    from reverie.tuning.sweep_folder import SweepFolder
    from reverie.tuning.sweep_settings import SweepFile

EXAMPLE = "sweep sweeps/smoke"
EXAMPLES = """\
examples:
  reverie sweep sweeps/smoke                      every cell, here
  reverie sweep FILE seeds=3 run.env_steps=5000   a key of the sweep, a key of all its runs
  reverie sweep FILE --dry-run                    what it takes, from a probe on this machine
  reverie sweep FILE --resume                     go on; nothing that is done is run again
  reverie sweep FILE --address auto               on a Ray cluster
  reverie sweep FILE --backend slurm --submit     as job arrays
  reverie sweep status runs/sweep-smoke           how each cell is doing, from files alone
  reverie sweep retry runs/sweep-smoke            what is missing, failed cells once more
  reverie sweep extend runs/sweep-smoke seeds=10  add cells

docs/sweeps.md shows what a file may hold. SIGINT, SIGTERM, SIGUSR1 and SIGHUP let every run
write a checkpoint first."""
ACTIONS = ("status", "retry", "extend")


def add_sweep(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "compare configurations over tasks and seeds: every cell a run of its own"
    parser = add_command(commands, "sweep", _sweep, text, EXAMPLE, epilog=EXAMPLES)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="YAML file or preset of a sweep; or status, retry, extend and its folder",
    )
    add_overrides(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="say what it takes, start nothing")
    how.add_argument("--resume", action="store_true", help="go on with a sweep that exists")
    parser.add_argument(
        "--backend",
        choices=["local", "ray", "slurm"],
        help="where members run (default: local, with --address ray)",
    )
    parser.add_argument("--address", help="Ray cluster to join (auto or host:port)")
    parser.add_argument("--submit", action="store_true", help="hand the jobs to Slurm at once")
    parser.add_argument("--yes", action="store_true", help="run more than 10,000 cells")
    parser.add_argument("--part", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--task", type=not_negative, help=argparse.SUPPRESS)


def _sweep(arguments: argparse.Namespace) -> int:
    action = arguments.file
    if action not in ACTIONS:
        return _begin(arguments)
    if not arguments.overrides:
        raise ConfigError(f"missing FOLDER, e.g. `reverie sweep {action} runs/sweep-smoke`")
    if arguments.dry_run or arguments.resume:
        raise ConfigError(f"sweep {action}: takes no --dry-run or --resume")
    from reverie.tuning.sweep_folder import SweepFolder

    path, *rest = arguments.overrides
    sweep = SweepFolder(place(path))
    if action == "extend":
        return _extend(sweep, rest)
    if rest:
        raise ConfigError(f"sweep {action}: expected a folder alone, got also {' '.join(rest)}")
    return _status(sweep) if action == "status" else _retry(sweep, arguments)


def _begin(arguments: argparse.Namespace) -> int:
    from reverie.tuning.cells import plan
    from reverie.tuning.sweep_file import read_sweep
    from reverie.tuning.sweep_folder import SweepFolder, check_free, create, exists, sweep_path

    with StopSignals() as signals:
        file = read_sweep(arguments.file, arguments.overrides)
        backend = _backend(arguments, file)
        if file.search is not None:
            from reverie.cli.search_commands import begin_search

            return begin_search(file, arguments, signals, backend)
        if arguments.dry_run:
            return _dry_run(file, plan(file, insist=arguments.yes))
        if arguments.resume and exists(file):
            sweep = SweepFolder(sweep_path(file))
            sweep.check_same(file)
            return _work(lambda: sweep, _any_config(sweep), file, arguments, signals)
        check_free(file)
        found = plan(file, insist=arguments.yes)
        _check_suites(found)
        config = next(iter(found.configs.values()))
        return _work(lambda: create(file, found), config, file, arguments, signals)


def _retry(sweep: SweepFolder, arguments: argparse.Namespace) -> int:
    with StopSignals() as signals:
        if arguments.part is not None:
            return _work_part(sweep, arguments, signals)
        if sweep.file.search is not None:
            from reverie.cli.search_commands import work_search

            return work_search(sweep, arguments, signals)
        config = _any_config(sweep)
        return _work(lambda: sweep, config, sweep.file, arguments, signals, forgive=True)


def _any_config(sweep: SweepFolder) -> TrainConfig:
    return sweep.config(sweep.cells[0])


def _extend(sweep: SweepFolder, overrides: Sequence[str]) -> int:
    from reverie.tuning.sweep_file import read_seeds

    if sweep.file.search is not None:
        raise ConfigError("sweep extend: adds cells to a comparison, got a search")
    keys = [text.partition("=")[0] for text in overrides]
    if keys != ["seeds"]:
        raise ConfigError(
            f"sweep extend: expected seeds=NUMBER, got {' '.join(overrides) or 'nothing'};"
            " anything else makes another sweep"
        )
    before = len(sweep.cells)
    longer = sweep.extend(read_seeds(overrides[0].partition("=")[2]))
    print(
        f"{len(longer.cells) - before:,} cells added, {len(longer.cells):,} in all; run them:"
        f" reverie sweep retry {longer.shown}"
    )
    return 0


def _status(sweep: SweepFolder) -> int:
    from reverie.cli.sweep_table import status_text
    from reverie.tuning.cell_state import states

    if sweep.file.search is not None:
        from reverie.cli.search_commands import print_groups

        return print_groups(sweep)
    print(status_text(states(sweep)))
    return 0


def _dry_run(file: SweepFile, found: Plan) -> int:
    from reverie.tuning.dry_run import cost_lines, measure

    cost = measure(file, found, on_probe=lambda base: print(f"probing {base} ...", flush=True))
    print("\n".join(cost_lines(cost)))
    return 0


def _backend(arguments: argparse.Namespace, file: SweepFile) -> str:
    """Where members run.

    Raises:
        ConfigError: what is asked for does not go together.
    """
    backend = arguments.backend or ("ray" if arguments.address else "local")
    if arguments.address and backend != "ray":
        raise ConfigError(f"--address: of a Ray cluster, got --backend {backend}")
    if arguments.submit and backend != "slurm":
        raise ConfigError(f"--submit: hands jobs to Slurm, got --backend {backend}")
    if file.slurm is not None and backend != "slurm" and not arguments.dry_run:
        raise ConfigError(
            f"slurm: keys of Slurm, got --backend {backend}; write --backend slurm, or slurm=null"
        )
    if arguments.submit:
        from reverie.tuning.slurm_backend import check_can_submit

        check_can_submit()
    return backend


def _check_suites(found: Plan) -> None:
    """Refuse tasks whose suite this machine lacks. Raises: ConfigError."""
    from reverie import registry

    for name in dict.fromkeys(config.env.suite for config in found.configs.values()):
        if lack := registry.suite(name).missing():
            raise ConfigError(f"tasks: {name}: {lack}")


def _work(
    make: Callable[[], SweepFolder],
    config: TrainConfig,
    file: SweepFile,
    arguments: argparse.Namespace,
    signals: StopSignals,
    *,
    forgive: bool = False,
) -> int:
    """Run what is missing of the sweep that `make` makes once nothing is left to refuse; `config`
    is that of any of its runs.
    """
    backend = _backend(arguments, file)
    if backend == "slurm":
        return _to_slurm(make(), file, arguments, forgive)
    launcher = _launcher(config, file, backend, arguments.address)
    sweep = make()
    at_most = file.max_concurrent or (1 if backend == "local" else None)
    return drive(sweep, sweep.cells, launcher, signals, file, at_most, forgive=forgive)


def _launcher(config: TrainConfig, file: SweepFile, backend: str, address: str | None) -> Launcher:
    if backend == "local":
        from reverie.tuning.local_backend import LocalLauncher

        return LocalLauncher(file.resources)
    try:
        from reverie.tuning.ray_backend import RayLauncher
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError('ray is not installed: pip install "reverie[ray]"') from error
    return RayLauncher(config, file.resources, address)


def drive(
    sweep: SweepFolder,
    cells: Sequence[Cell],
    launcher: Launcher,
    signals: StopSignals,
    file: SweepFile,
    at_most: int | None,
    *,
    forgive: bool = False,
    alone: bool = True,
) -> int:
    from reverie.cli.sweep_table import Following
    from reverie.tuning.cell_state import states
    from reverie.tuning.driver import Driver

    driver = Driver(
        sweep,
        cells,
        launcher,
        at_most=at_most,
        max_failures=file.max_failures,
        signals=signals,
        alone=alone,
        forgive=forgive,
    )
    signals.listen()
    print(f"sweep folder: {sweep.shown}", flush=True)
    with Following(lambda: states(sweep, cells)) as following:
        outcome = driver.run(following.look)
    print(
        f"{outcome.done:,} of {outcome.cells:,} cells are done, {outcome.restarts} restarts,"
        f" {outcome.repeated_steps:,} env steps taken again (as far as they had been logged)"
    )
    print(f"report: {_report_command(sweep)}", flush=True)
    return 0


def _work_part(sweep: SweepFolder, arguments: argparse.Namespace, signals: StopSignals) -> int:
    """Work off one task's cells; other tasks have others."""
    from reverie.tuning.local_backend import LocalLauncher
    from reverie.tuning.slurm_backend import read_part

    names = set(read_part(place(arguments.part), arguments.task or 0))
    cells = [cell for cell in sweep.cells if cell.id in names]
    launcher = LocalLauncher(sweep.file.resources)
    return drive(sweep, cells, launcher, signals, sweep.file, None, alone=False)


def _to_slurm(
    sweep: SweepFolder, file: SweepFile, arguments: argparse.Namespace, forgive: bool
) -> int:
    from reverie.tuning.cell_state import forgive as forget_failures
    from reverie.tuning.cell_state import is_done
    from reverie.tuning.slurm_backend import submit, submit_command, write_jobs
    from reverie.tuning.sweep_settings import SlurmConfig

    missing = [cell for cell in sweep.cells if not is_done(sweep, cell)]
    print(f"sweep folder: {sweep.shown}", flush=True)
    if not missing:
        print(f"every cell is done; report: {_report_command(sweep)}")
        return 0
    if forgive:
        for cell in missing:
            forget_failures(sweep, cell.id)
    jobs = write_jobs(sweep, missing, file.slurm or SlurmConfig(), file.resources)
    tasks = sum(len(job.parts) for job in jobs)
    print(f"{len(missing):,} cells in {tasks:,} tasks of {len(jobs)} job arrays")
    if arguments.submit:
        print(f"submitted: {', '.join(submit(jobs))}")
    else:
        print(f"submit them with:\n{submit_command(jobs)}")
    print(f"then: reverie sweep status {sweep.shown}")
    return 0


def _report_command(sweep: SweepFolder) -> str:
    out = shlex.quote(str(Path(shlex.split(sweep.shown)[0]) / "report"))
    return f"reverie report {sweep.shown} --out {out}"
