"""The actors that hold data: shards, loaders of video, weight store.

They import no torch, which would cost each of their processes 200 MB and seconds at the start.
"""

# Ray's remote calls have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reverie.data.video_loader import VideoLoader
from reverie.replay.shard import Damage, ReplayShard
from reverie.types import Array, Chunk, Json, JsonTree, SideRows, Version, Window
from reverie.weight_store import State, WeightStore


class ShardActor:
    """A shard as an actor; restored from `fragment` before it answers anyone."""

    def __init__(
        self, shard: ReplayShard, folder: str, fragment: Mapping[str, Json] | None
    ) -> None:
        self._shard = shard
        self._damage = Damage() if fragment is None else shard.load(folder, fragment)

    def __repr__(self) -> str:
        return f"ReplayShard({self._shard.shard_id})"

    def damage(self) -> Damage:
        """What could not be loaded."""
        return self._damage

    def insert(self, chunks: list[Chunk], side: Sequence[SideRows] = ()) -> dict[str, float]:
        return self._shard.insert(chunks, side)

    def sample(
        self,
        name: str,
        count: int,
        batch_number: int,
        trained_batches: int,
        slots: range | None,
    ) -> list[Window]:
        return self._shard.sample(name, count, batch_number, trained_batches, slots)

    def write_back(self, step_ids: Array, values: Mapping[str, Array]) -> int:
        return self._shard.write_back(step_ids, values)

    def masses(self) -> dict[str, float]:
        return self._shard.masses()

    def stats(self) -> dict[str, int]:
        return self._shard.stats()

    def save(self, folder: str) -> JsonTree:
        return self._shard.save(folder)


class VideoLoaderActor(VideoLoader):
    """A loader of video as an actor; it opens the data sets on its own machine."""

    def __repr__(self) -> str:
        return f"VideoLoader({self.__dict__.get('index', 'starting')})"


class WeightStoreActor(WeightStore):
    """The weight store as an actor."""

    def publish(self, version: Version, state: State) -> None:
        super().publish(version, _owned(state))

    def pin(self, version: Version, env_steps: int, state: State) -> None:
        super().pin(version, env_steps, _owned(state))


def _owned(state: Mapping[str, Array]) -> dict[str, Array]:
    return {key: value.copy() for key, value in state.items()}
