"""Grants the batches of a pre-training run: all of them are owed from the start."""

from __future__ import annotations

from collections.abc import Mapping

from reverie.data.video_loader import shares
from reverie.protocols import StreamSpec
from reverie.replay.coordinator import ReplayCoordinator


class PretrainSource(ReplayCoordinator):
    """Stands where the coordinator of a run with environments stands, which it is but for two
    things: no env step is ever granted or waited for, and the slots of a batch are the same ones of
    every loader each time, so that who brings them changes no frame.

    Args:
        specs: the agent's streams.
        updates: of the whole run.
        num_loaders: who share each batch.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], *, updates: int, num_loaders: int) -> None:
        super().__init__(
            specs,
            ratio=0.0,
            prefill=0,
            pretrain_batches=updates,
            budget=0,
            steps_ahead=1,
            envs_per_worker=1,
            num_workers=1,
            num_shards=num_loaders,
        )

    def rewind(self, batches: int) -> None:
        """Go on as if `batches` were trained and nothing granted beyond: those after are owed anew.

        Raises:
            ValueError: fewer were trained.
        """
        trained = self.limiter.trained_batches
        if not 0 <= batches <= trained:
            raise ValueError(f"rewind: expected at most the {trained} trained, got {batches}")
        steps = batches * self.limiter.batch_steps
        counts = {"trained_batches": batches, "trained_steps": steps}
        self.limiter.load_state_dict(self.limiter.state_dict() | counts)

    def _can_sample(self) -> bool:
        return True

    def _draws(self, number: int) -> dict[str, list[int]]:
        due = self._due(number)
        return {name: shares(self._specs[name].batch_size, self._num_shards) for name in due}
