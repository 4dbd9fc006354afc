"""The learner of a run that learns from video: it looks at held-out clips now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reverie.batch_stream import RETRY_S, Assembler, Batch
from reverie.data.video_loader import HELD_OUT, shares
from reverie.errors import ReplayLost
from reverie.learner import Learner
from reverie.links import Batches, Draws, Ready
from reverie.protocols import StreamSpec
from reverie.settings import PretrainConfig
from reverie.types import Spaces, Tensors, Window

PATIENCE_S = 120.0
"""Seconds a loader that died may take to be replaced."""


class HeldOutBatches:
    """Batches of clips that are never trained on, the same ones whenever they are asked for.

    Args:
        specs: the agent's streams.
        loaders: who share each batch.
        count: how many batches there are.
    """

    def __init__(
        self, specs: Mapping[str, StreamSpec], loaders: Sequence[Draws], count: int, device: str
    ) -> None:
        self._specs, self._loaders, self._count = dict(specs), loaders, count
        self._device = device

    def __iter__(self) -> Iterator[Mapping[str, Batch]]:
        """Waits for the loaders, and for one that is being replaced.

        Raises:
            ReplayLost: it did not come back in time.
        """
        assembler = Assembler(self._specs, self._device)
        for number in range(self._count):
            yield self._batches(assembler, number)

    def _batches(self, assembler: Assembler, number: int) -> Mapping[str, Batch]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                windows = {name: self._windows(name, number) for name in self._specs}
                return assembler.batches(windows)
            except ReplayLost:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    def _windows(self, name: str, number: int) -> list[Window]:
        counts = shares(self._specs[name].batch_size, len(self._loaders))
        waits = [
            loader.sample(HELD_OUT + name, count, number, 0)
            for loader, count in zip(self._loaders, counts, strict=True)
            if count
        ]
        return [window for wait in waits for window in wait()]


class PretrainLearner(Learner):
    """Trains one agent on video, and looks at held-out clips every so many updates.

    Args:
        held_out: what it looks at.
        batches, incarnation: as for `Learner`.
    """

    def __init__(
        self,
        config: PretrainConfig,
        spaces: Spaces,
        batches: Batches,
        held_out: HeldOutBatches,
        *,
        device: str,
        incarnation: int = 0,
    ) -> None:
        super().__init__(config, spaces, batches, device=device, incarnation=incarnation)
        self._config, self._held_out = config, held_out

    def look(self) -> None:
        """Look at held-out clips with the present weights; the next `train` returns the report.

        Raises:
            NonFiniteLoss: a NaN has spoiled the weights.
            ReplayLost: a loader died and did not come back in time.
        """
        report = self.report_on(self._held_out, self._grad_updates)
        if not self._config.eval.video:
            report = replace(report, videos={})
        self._reports.append(report)

    def state_dict(self) -> dict[str, Mapping[str, Tensors]]:
        """As `Learner.state_dict`, without a policy: there is none."""
        return {"learner": super().state_dict()["learner"]}

    def _after_update(self, ready: Ready) -> None:
        super()._after_update(ready)
        every, updates = self._config.eval.every, self._grad_updates
        # The end of the budget has a look of its own.
        if every and updates % every == 0 and updates < self._config.run.updates:
            self.look()
