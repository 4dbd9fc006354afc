"""One run from its configuration to its summary: folder, log, checkpoints, signals.

What a kind of run is made of, and what it shows, its own loop says: `reverie.trainer`,
`reverie.pretrainer`.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

from reverie.documents import json_text, with_nulls
from reverie.errors import ClusterLost, NonFiniteLoss, PartLost, RunError
from reverie.init_from import INIT_FILE, Source, init_json, init_text, read_source
from reverie.lease import FolderTaken
from reverie.links import Backend
from reverie.metrics import MetricsLogger
from reverie.paths import short
from reverie.policy import CONFIG_FILE, SPACES_FILE
from reverie.protocols import Initialised, Videos
from reverie.run_folder import Resume, RunFolder
from reverie.run_manifest import record_learner, write_run_manifest
from reverie.run_record import ProgressT, RunRecord, SummaryT
from reverie.settings import ExperimentConfig
from reverie.starvation import NeverTrained
from reverie.stop_signals import StopSignals, exit_code
from reverie.storage import Storage
from reverie.types import JsonTree, Spaces
from reverie.video import IMAGINED_FPS, can_film, write_run_video
from reverie.wiring import Events

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=ExperimentConfig)
STARTING = "starting: environments, replay, learner ..."
"""Said once nothing is left to refuse but by the cluster."""


class Interrupted(RunError):
    """A signal stopped the run; its checkpoint is written."""

    def __init__(self, number: int, folder: str) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; checkpoint written, "
            f"resume it with: reverie resume {folder}"
        )
        self.exit_code = exit_code(number)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What is known of a run before anything of it is written."""

    spaces: Spaces
    protocol: str
    """Under which its figures compare."""
    assets: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hash by name, of what it reads."""
    taken: Initialised | None = None
    """What its agent takes from `init.from`."""


class RunLoop(ABC, Generic[ConfigT, ProgressT, SummaryT]):
    """Runs one experiment, in this process (`local=True`) or as Ray actors.

    Args:
        address: Ray cluster to join; None starts one on this machine.
        resume: `auto` goes on if the run folder holds a checkpoint, `must` insists on one.
        checkpoint: number of the one to go on from, instead of the newest; later ones are gone
            with the first new one.
        signals: taken by the caller already, in a process that is there for this run alone; `run`
            takes its own otherwise.

    Raises:
        ConfigError: the run folder exists already, or cannot be made.
        FolderTaken: another process writes it.
        CheckpointError: no such checkpoint, or none that is usable.
    """

    def __init__(
        self,
        config: ConfigT,
        *,
        local: bool = False,
        address: str | None = None,
        resume: Resume = "never",
        checkpoint: int | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        self.config = config
        self._goes_back = checkpoint is not None
        self._home = RunFolder(config)
        self.folder = self._home.path
        self._has_begun = False
        self._signals = signals or StopSignals()
        self._signals.last_words = self._last_words
        self._lease = self._home.claim(resume)
        try:
            self._checkpoint = self._home.find_checkpoint(resume, checkpoint)
            self._begin(local, address)
            self._signals.listen()
        except BaseException as error:
            if _is_ray_s_sigterm(error) and self._signals.is_listening:
                self._signals.end(signal.SIGTERM)
            self._lease.release()
            self._home.clear_start()
            raise
        self._number = self._checkpoint.number if self._checkpoint else 0
        self._last_log = self._last_save = time.perf_counter()

    # What each kind of run says

    @abstractmethod
    def _prepare(self, source: Source | None) -> Start:
        """Look at what the run is about, and refuse what cannot work: nothing is written yet."""

    @abstractmethod
    def _make_record(self) -> RunRecord[ProgressT, SummaryT]:
        """What happened so far, by the checkpoint that the run goes on from."""

    @abstractmethod
    def _make_backend(self, local: bool, address: str | None, source: Source | None) -> Backend:
        """The parts of the run, at work from now on."""

    def _documents(self) -> JsonTree:
        """What else a checkpoint keeps, by name."""
        return {}

    def _show(self, events: Events) -> None:
        """Log what came to pass besides faults."""

    def _after_step(self) -> None:
        """Watch over the run as it goes on."""

    def _check_end(self) -> None:
        """Refuse to sum up a run that came to its end in vain."""

    # The run

    @property
    def progress(self) -> ProgressT:
        return self._record.progress

    def step(self) -> Events:
        """Let the run go on for a moment: at most about one second on Ray, one quota locally."""
        self._lease.check()
        events = self._backend.step()
        self._take(events)
        self._after_step()
        if time.perf_counter() - self._last_log >= self.config.run.log_every_s:
            self._log()
        if time.perf_counter() - self._last_save >= self.config.run.checkpoint_every_s:
            self._save_or_postpone()
        return events

    def run(self, on_progress: Callable[[ProgressT], None] | None = None) -> SummaryT:
        """Run to the end of the budget, checkpoint, evaluate, checkpoint and sum up.

        SIGINT, SIGTERM, SIGUSR1 and SIGHUP end it early, after a checkpoint; a second one ends the
        process at once. In another thread than the main one (Tune) others watch for them.

        Raises:
            Interrupted: a signal came.
            NeverTrained: the replay never held what the agent samples; nothing is evaluated.
            RunError: something that its user has to fix; a checkpoint is kept.
        """
        with self._signals:
            self._signals.waits = self._has_begun = True
            try:
                self._train(on_progress)
                # Finished updates must not hang on what the last look at them does.
                self._save_to_rest(provisional=True)
                self._check_end()
                if not self.finish().finished:
                    self._stop_if_told()
                self._save_to_rest()
                return self._sum_up()
            except (Interrupted, NonFiniteLoss, FolderTaken, NeverTrained):
                raise
            except ClusterLost as error:
                raise ClusterLost(self._home.standing(str(error))) from error
            except Exception:
                self._save_what_is_left()
                raise
            finally:
                self.close()

    def finish(self) -> Events:
        """Look at the last weights; waits for evaluations that are still under way.

        Not `finished` where a signal cut it short.
        """
        events = self._backend.finish()
        self._take(events)
        self._log()
        return events

    def save(self, *, go_on: bool = True, provisional: bool = False) -> None:
        """Write a checkpoint now; the previous one stays valid until this one is durable.

        With `go_on=False` the parts stay at rest after it: the run is about to end. One that is
        is `provisional` takes no other one's place, and goes with the next.
        """
        self._lease.check()
        self._take(self._backend.quiesce())
        saved = self._backend.save(go_on=go_on)
        documents = {
            **saved.documents,
            **self._documents(),
            "record": self._record.to_json(),
            "config": self.config.to_dict(),
        }
        self._number = self._home.checkpoints.next_number()
        self._home.checkpoints.save(
            self._number, saved.tensors, documents, saved.files, provisional=provisional
        )
        self._last_save = time.perf_counter()

    def facts(self) -> dict[str, int | float]:
        """What was counted so far, what was lost apart."""
        return self._backend.facts()

    def close(self) -> None:
        try:
            self._backend.close()
            self._metrics.close()
        finally:
            self._lease.release()

    def _take(self, events: Events) -> None:
        before = self._record.learner_device
        self._record.take(events)
        if self._record.learner_device != before:
            self._record_learner()
        for stats in events.trained:
            for report in stats.reports:
                self._write_videos(report.at, report.videos, report.metrics)
        self._show(events)
        for fault in events.faults:
            log.warning("%s %d: %s", fault.role, fault.index, fault.text.rstrip())

    def _log(self) -> None:
        self._last_log = time.perf_counter()
        self._metrics.write(self._record.pop_metrics(), self._record.counters())

    def _write_videos(self, at: int, videos: Videos, metrics: dict[str, float]) -> None:
        counters = self._record.counters_at(at)
        if metrics:
            self._metrics.write({f"report/{k}": v for k, v in metrics.items()}, counters)
        for name, frames in videos.items() if can_film() else ():
            path = write_run_video(self.folder, name, at, frames, IMAGINED_FPS)
            self._record.videos.append(str(short(path)))
            self._metrics.video(name, path, frames, counters)

    def _train(self, on_progress: Callable[[ProgressT], None] | None) -> None:
        """Step to the end of the budget."""
        finished = False
        while not finished:
            finished = self.step().finished
            self._stop_if_told()  # before anything is shown: a terminal may be gone
            if on_progress is not None:
                on_progress(self.progress)

    def _stop_if_told(self) -> None:
        if self._signals.first is not None:
            self._log()
            self._save_to_rest()
            raise Interrupted(self._signals.first, self._home.shown)

    def _last_words(self, number: int) -> str:
        """Of a process that a signal ends at once: what stands, and what to do."""
        name = signal.Signals(number).name
        if self._home.is_new and not self._has_begun:
            self._home.clear_start()
            return (
                f"stopped by {name} before there was anything to save;"
                " the same command starts it again"
            )
        return self._home.standing(f"stopped at once by {name}")

    def _save_to_rest(self, *, provisional: bool = False) -> None:
        """Save, as often as a part dies meanwhile; the supervisor counts its deaths."""
        while True:
            try:
                return self.save(go_on=False, provisional=provisional)
            except PartLost as error:
                log.warning("the checkpoint is begun anew: %s", error)

    def _save_or_postpone(self) -> None:
        try:
            self.save()
        except PartLost as error:
            log.warning("no checkpoint now, the next step tries again: %s", error)

    def _save_what_is_left(self) -> None:
        try:
            self.save(go_on=False, provisional=True)
        except Exception as error:
            log.warning("no last checkpoint could be written (%s); the previous one stands", error)

    def _sum_up(self) -> SummaryT:
        summary = self._record.summary(self._backend.facts(), short(self.folder), self._number)
        figures = {each.name: getattr(summary, each.name) for each in fields(summary)}
        text = json_text(with_nulls(figures, "summary.json"), indent=2)
        Storage(str(self.folder)).write_atomic("summary.json", text.encode())
        self._record_learner()
        return summary

    def _record_learner(self) -> None:
        if device := self._record.learner_device:
            record_learner(self.folder, device, self._record.learner_seconds)

    def _begin(self, local: bool, address: str | None) -> None:
        # Before anything is written: a refused start must leave a run as it was.
        source = None if self._checkpoint else read_source(self.config.init)
        start = self._prepare(source)
        self.spaces, self._start = start.spaces, start
        self._write_files(start)
        if source is not None and start.taken is not None:
            self._note_start(source, start.taken)
        if self._goes_back and self._checkpoint is not None:
            self._home.leave_later(self._checkpoint.number)
        self._record = self._make_record()
        self._metrics = self._make_logger()
        try:
            if self._checkpoint is not None or not self._home.is_new:
                self._metrics.resumed(self._record.counters())
            self._backend = self._make_backend(local, address, source)
        except BaseException:
            self._metrics.close()
            raise

    def _write_files(self, start: Start) -> None:
        storage = Storage(str(self.folder))
        storage.write_atomic(CONFIG_FILE, self.config.to_yaml().encode())
        storage.write_atomic(SPACES_FILE, json_text(start.spaces.to_json(), indent=2).encode())
        write_run_manifest(
            self.folder,
            self.config,
            start.spaces,
            start.protocol,
            sys.argv,
            assets=start.assets,
        )

    def _note_start(self, source: Source, taken: Initialised) -> None:
        Storage(str(self.folder)).write_atomic(INIT_FILE, init_json(source, taken))
        log.info(init_text(source, taken))

    def _make_logger(self) -> MetricsLogger:
        logging_config = self.config.logging
        return MetricsLogger(
            self.folder,
            tensorboard=logging_config.tensorboard,
            wandb=logging_config.wandb,
            wandb_project=logging_config.wandb_project,
            run_name=self.folder.name,
            axis=self._record.axis,
            config=self.config.to_dict(),
        )


def no_ray(error: ModuleNotFoundError) -> ImportError:
    """What to tell where Ray, or something that it needs, is missing."""
    if error.name != "ray":
        return error
    return ImportError('ray is not installed: pip install "reverie[ray]", or run with --local')


def _is_ray_s_sigterm(error: BaseException) -> bool:
    """Whether SIGTERM came after `ray.init` has put a handler of its own in the place of ours."""
    return isinstance(error, SystemExit) and error.code == signal.SIGTERM
