"""A run that learns from video, from its configuration to its summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reverie import pretrain_wiring as wiring
from reverie.data.video_loader import open_data
from reverie.init_from import Source
from reverie.links import Backend
from reverie.pretrain_record import PretrainProgress, PretrainRecord, PretrainSummary, losses
from reverie.run_loop import RunLoop, Start, no_ray
from reverie.settings import PretrainConfig
from reverie.types import JsonTree
from reverie.wiring import Events

log = logging.getLogger(__name__)
STARTING = "starting: video, learner ..."
"""Said once nothing is left to refuse but by the cluster."""
DATA = "data"
"""Document of a checkpoint: which data it was trained on."""


class Pretrainer(RunLoop[PretrainConfig, PretrainProgress, PretrainSummary]):
    """Pre-trains one agent on video, in this process (`local=True`) or as Ray actors.

    Arguments and errors are those of `RunLoop`.
    """

    def _prepare(self, source: Source | None) -> Start:
        datasets = open_data(self.config.data)
        digests = {str(dataset.folder): dataset.digest for dataset in datasets}
        self._say_what_changed(digests)
        return Start(
            spaces=wiring.video_spaces(datasets),
            protocol="video-v1",
            assets=digests,
            taken=wiring.try_pretraining(self.config, datasets, self._checkpoint, source),
        )

    def _make_record(self) -> PretrainRecord:
        return PretrainRecord(self.config, self._checkpoint)

    def _make_backend(self, local: bool, address: str | None, source: Source | None) -> Backend:
        parts = self.config, self.spaces
        state = self._checkpoint, source
        if local:
            from reverie.local_pretrain import LocalPretrain

            log.info(STARTING)
            return LocalPretrain(*parts, *state, should_stop=self._signals.told)
        try:
            from reverie.cluster.pretrain_run import RayPretrain
        except ModuleNotFoundError as error:
            raise no_ray(error) from error
        log.info(STARTING)
        return RayPretrain(*parts, self.folder, *state, address=address)

    def _documents(self) -> JsonTree:
        return {DATA: {folder: digest for folder, digest in self._start.assets.items()}}

    def _show(self, events: Events) -> None:
        for stats in events.trained:
            for report in stats.reports:
                figures = losses(report.metrics)
                text = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
                log.info("held-out clips at %d updates: %s", report.at, text)

    def _say_what_changed(self, digests: Mapping[str, str]) -> None:
        """Other data has other windows: the run is then no longer the one that was begun."""
        if self._checkpoint is None or f"{DATA}.json" not in self._checkpoint.parts:
            return
        before = list(self._checkpoint.document(DATA).values())
        if before != list(digests.values()):
            log.warning(
                "data: it is not what checkpoint %d was trained on; the run goes on with %s",
                self._checkpoint.number,
                ", ".join(digests),
            )
