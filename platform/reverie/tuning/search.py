"""Ranks configurations with Ray Tune, each by all its tasks and seeds, then runs the best again.

Seeds and tasks are one trial (`trainable`), so they are aggregated before anything is compared
(ray-project/ray#6994). The best of many is best by luck too: its score is printed beside that of
fresh seeds, which nothing was chosen by.
"""

# Ray is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, Searcher

from reverie.cluster.connection import connect
from reverie.config_tree import apply_overrides
from reverie.errors import ConfigError, RunError
from reverie.extras import load_extra
from reverie.lease import holders
from reverie.settings import TrainConfig
from reverie.stop_signals import StopSignals
from reverie.tuning.cells import Cell, Plan
from reverie.tuning.driver import SweepStopped, take
from reverie.tuning.group import (
    GroupState,
    Member,
    Rung,
    best,
    group_members,
    read_group,
    read_groups,
    rung_of,
    show,
    write_group,
)
from reverie.tuning.samplers import Point, Sampler, points
from reverie.tuning.sweep_folder import SweepFolder
from reverie.tuning.sweep_settings import SearchConfig, SweepFile
from reverie.tuning.trainable import STOP_FILE, SWEEP, TRIAL_CPUS, Trainable, at_once

log = logging.getLogger(__name__)

TUNE = "tune"
"""Folder of Tune's own files."""
TIME = "env_steps"
SCORE = "score"
STOP_WAIT_S = 120.0
"""Seconds that members have to write their checkpoints."""
POLL_S = 0.5


class SearchFailed(RunError):
    """No group came to a score, or some failed for good."""


class Told(tune.Callback):
    """Says what a group reported, in one line."""

    def __init__(self, say: Callable[[str], None], metric: str, groups: Path) -> None:
        self._say, self._metric, self._groups = say, metric, groups

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._say(
            f"{trial.trial_id}: {self._metric} {result[SCORE]:.3f} (worst {result['worst']:.3f}) of"
            f" {result['members']} runs at {result[TIME]:,} env steps"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        said = read_group(self._groups / str(trial.trial_id))
        why = said.failed if said is not None and said.failed else "its process ended"
        self._say(f"{trial.trial_id}: failed: {why}")


def run_search(
    sweep: SweepFolder, address: str | None, signals: StopSignals, say: Callable[[str], None]
) -> list[GroupState]:
    """Run a search to its end, or go on with one; returns the groups, the best first.

    Raises:
        SweepStopped: a signal came; every member has written a checkpoint.
        SearchFailed: no group has a score.
        ConfigError: what the members take is never free, or another process works on it.
    """
    file, search = sweep.file, _search_of(sweep.file)
    groups = sweep.path / "groups"
    lease = take(sweep)
    try:
        groups.mkdir(exist_ok=True)
        stop_file = groups / STOP_FILE
        stop_file.unlink(missing_ok=True)
        _forgive(groups)
        members = group_members(file, all_points(file)[0], groups)
        # What is started here ends with this process: on a signal its members save meanwhile.
        connect(members[0].config, address)
        check_room(file, len(members), ray.cluster_resources(), "the cluster")
        tuner = _tuner(sweep, search, members[0].config.run.env_steps, say)
        signals.listen()
        signals.waits = True
        _fit(tuner, sweep, stop_file, signals)
    finally:
        lease.release()
    return ranked(sweep)


def _forgive(groups: Path) -> None:
    """Let groups that failed try again: what failed them may be mended."""
    for state in read_groups(groups):
        if state.failed:
            write_group(groups / state.id, dataclasses.replace(state, failed=""))


def ranked(sweep: SweepFolder) -> list[GroupState]:
    """The groups of a search, the best first.

    Raises:
        SearchFailed: none has a score.
    """
    states = read_groups(sweep.path / "groups")
    found = best(states, _search_of(sweep.file))
    if not found:
        why = "; ".join(show(state) for state in states[:3]) or "no group began"
        raise SearchFailed(
            f"no configuration has a score: {why}; once it is mended: reverie sweep retry"
            f" {sweep.shown}"
        )
    return found


def _fit(tuner: tune.Tuner, sweep: SweepFolder, stop_file: Path, signals: StopSignals) -> None:
    """Let Tune work in a thread, where it leaves signals alone; on one, stop the members."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            tuner.fit()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if signals.first is not None:
            _stop_members(sweep, stop_file)
            raise SweepStopped(signals.first, sweep.shown)
    if errors:
        raise errors[0]


def _stop_members(sweep: SweepFolder, stop_file: Path) -> None:
    """Wait until no member writes its folder any more, for at most `STOP_WAIT_S`."""
    stop_file.touch()
    deadline = time.monotonic() + STOP_WAIT_S
    while time.monotonic() < deadline:
        folders = [path for path in (sweep.path / "groups").glob("*/runs/*") if path.is_dir()]
        if not holders(folders, sweep.path):
            return
        time.sleep(POLL_S)
    log.warning("some members did not end within %.0f s", STOP_WAIT_S)


def _tuner(
    sweep: SweepFolder, search: SearchConfig, budget: int, say: Callable[[str], None]
) -> tune.Tuner:
    """A new experiment, or the one that lies in the folder."""
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths mean the same
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its tables come whatever is asked for
    # Of a trial that fails the group's folder says why, in one line.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    file, place = sweep.file, sweep.path / TUNE
    if tune.Tuner.can_restore(str(place)):
        return tune.Tuner.restore(
            str(place),
            Trainable,
            resume_unfinished=True,
            resume_errored=True,
            param_space=_tune_space(sweep, file),
        )
    return tune.Tuner(
        Trainable,
        param_space=_tune_space(sweep, file),
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode=search.mode,
            num_samples=search.samples,
            scheduler=make_scheduler(search, budget, file.space),
            search_alg=make_searcher(search, file),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(sweep.path),
            failure_config=tune.FailureConfig(max_failures=file.max_failures),
            # A pointer, of which none is ever deleted: deleting forces snapshots.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            callbacks=[Told(say, search.metric, sweep.path / "groups")],
            verbose=0,
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)


def make_scheduler(
    search: SearchConfig, budget: int, space: Mapping[str, Sampler]
) -> TrialScheduler:
    """The scheduler that a sweep's file names, over env steps; metric and mode are the tuner's."""
    if search.scheduler == "asha":
        return AsyncHyperBandScheduler(
            time_attr=TIME,
            max_t=budget,
            grace_period=min(search.grace_env_steps, budget),
            reduction_factor=search.reduction_factor,
        )
    if search.scheduler == "median":
        return MedianStoppingRule(time_attr=TIME, grace_period=search.grace_env_steps)
    if search.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr=TIME,
            perturbation_interval=search.grace_env_steps,
            hyperparam_mutations={key: _mutation(one) for key, one in space.items()},
        )
    return FIFOScheduler()


def make_searcher(search: SearchConfig, file: SweepFile) -> Searcher | BasicVariantGenerator:
    """What proposes configurations: our own draws, which `sweep.seed` decides, or Optuna."""
    if search.searcher == "optuna":
        load_extra("optuna", "search.searcher: optuna", "optuna")
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(metric=SCORE, mode=search.mode, seed=file.sweep.seed)
    return BasicVariantGenerator(points_to_evaluate=all_points(file))


def as_random(space: Mapping[str, Sampler]) -> dict[str, Sampler]:
    """A search draws from grids too."""
    return {
        key: Sampler("choice", one.values) if one.kind == "grid" else one
        for key, one in space.items()
    }


def all_points(file: SweepFile) -> list[Point]:
    """The configurations of a search; of one that Optuna leads, some that it could propose."""
    return list(points(as_random(file.space), _search_of(file).samples, file.sweep.seed))


def _tune_space(sweep: SweepFolder, file: SweepFile) -> dict[str, Any]:
    return {SWEEP: str(sweep.path), **{key: _domain(one) for key, one in file.space.items()}}


def _domain(sampler: Sampler) -> Any:
    values = sampler.values
    match sampler.kind:
        case "uniform":
            return tune.uniform(*values)
        case "loguniform":
            return tune.loguniform(*values)
        case "randint":
            return tune.randint(*values)
        case _:
            return tune.choice(list(values))


def _mutation(sampler: Sampler) -> Any:
    is_list = sampler.kind in ("grid", "choice")
    return list(sampler.values) if is_list else _domain(sampler)


def _search_of(file: SweepFile) -> SearchConfig:
    if file.search is None:
        raise ConfigError("search: expected it in the sweep's file, got none")
    return file.search


def check_room(file: SweepFile, members: int, total: Mapping[str, float], where: str) -> None:
    """Refuse a group that `total`, all there is by name, can never hold. Raises: ConfigError."""
    takes, width = file.resources, at_once(file, members)
    asked = {"CPU": TRIAL_CPUS + width * takes.cpu, "GPU": width * takes.gpu}
    for name, amount in asked.items():
        if amount > total.get(name, 0) + 1e-6:
            raise ConfigError(
                f"resources: a group of {width} runs at once takes {amount:g} {name}, {where} has"
                f" {total.get(name, 0):g}; lower resources or max_concurrent"
            )


# Winners


def winners_file(sweep: SweepFolder, winners: Sequence[GroupState]) -> SweepFile:
    """A comparison of the best configurations on seeds that chose nothing."""
    file, search = sweep.file, _search_of(sweep.file)
    first = max(_all_seeds(file)) + 1
    bases = {
        f"{name}-{state.id}": dataclasses.replace(
            base,
            tree=apply_overrides(apply_overrides(base.tree, file.overrides), dict(state.point)),
            seeds=None,
            space=None,
        )
        for state in winners
        for name, base in file.bases.items()
    }
    return dataclasses.replace(
        file,
        name=f"{file.name}-winners",
        bases=bases,
        has_names=True,
        seeds=tuple(range(first, first + search.fresh_seeds)),
        space={},
        samples=1,
        overrides={},
        search=None,
        sweep=dataclasses.replace(file.sweep, dir=str(sweep.path / "winners")),
    )


def _all_seeds(file: SweepFile) -> list[int]:
    own = [seed for base in file.bases.values() for seed in base.seeds or ()]
    return [*file.seeds, *own]


def fresh_score(sweep: SweepFolder, winner: GroupState, metric: str) -> Rung:
    """The score of a winner's fresh runs in the folder of winners, aggregated as in the search."""
    members = [
        Member(id=cell.id, config=_placed(sweep, cell))
        for cell in sweep.cells
        if cell.base.endswith(f"-{winner.id}")
    ]
    return rung_of(members, metric, members[0].config.run.env_steps)


def _placed(sweep: SweepFolder, cell: Cell) -> TrainConfig:
    config = sweep.config(cell)
    return dataclasses.replace(
        config,
        seed=cell.seed,
        run=dataclasses.replace(config.run, dir=str(sweep.run_folder(cell.id))),
    )


def empty_plan() -> Plan:
    """Of a search: its runs belong to groups, which are drawn as it goes."""
    return Plan((), {})
