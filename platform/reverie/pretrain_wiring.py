"""Builds the parts of a run that learns from video; both ways of running use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reverie.batch_stream import BatchStream
from reverie.checkpoint import Checkpoint
from reverie.data.video_dataset import VideoDataset
from reverie.data.video_loader import make_samplers
from reverie.init_from import Source, initialise
from reverie.links import Batches, Draws, Grants
from reverie.policy import load_learner, make_agent
from reverie.pretrain_learner import HeldOutBatches
from reverie.pretrain_source import PretrainSource
from reverie.protocols import Initialised, StreamSpec
from reverie.settings import DataConfig, PretrainConfig
from reverie.types import ActionSpec, ArraySpec, Spaces

IMAGE = "image"


def video_spaces(datasets: Sequence[VideoDataset]) -> Spaces:
    """What an agent sees in these data sets; its action has as many entries as theirs, 0 where they
    have none or differ.
    """
    widths = {dataset.action_width for dataset in datasets}
    width = widths.pop() if len(widths) == 1 else 0
    image = ArraySpec(datasets[0].shape, "uint8")
    return Spaces({IMAGE: image}, ActionSpec("box", width=width))


def agent_streams(config: PretrainConfig, spaces: Spaces) -> dict[str, StreamSpec]:
    """What the configured agent samples."""
    return make_agent(config, spaces, seed=0, training=False).streams()


def try_pretraining(
    config: PretrainConfig,
    datasets: Sequence[VideoDataset],
    checkpoint: Checkpoint | None,
    source: Source | None,
) -> Initialised | None:
    """Build agent and samplers as the run will, the agent without memory, so that what does not
    fit is refused before any part of the run starts.

    Returns:
        What the agent took from `source`.

    Raises:
        ConfigError: sizes the agent refuses, clips that are too short, a checkpoint of another
            agent.
    """
    spaces = video_spaces(datasets)
    agent = make_agent(config, spaces, seed=config.seed, training=True, device="meta")
    make_samplers(config.data, agent.streams(), datasets, config.seed)
    if checkpoint is not None:
        load_learner(agent, checkpoint)
    return initialise(agent, source) if source is not None else None


def make_source(config: PretrainConfig, specs: Mapping[str, StreamSpec]) -> PretrainSource:
    num_loaders = config.resources.num_loaders
    return PretrainSource(specs, updates=config.run.updates, num_loaders=num_loaders)


def loader_parts(
    config: PretrainConfig, specs: Mapping[str, StreamSpec], index: int
) -> tuple[tuple[DataConfig, Mapping[str, StreamSpec]], dict[str, int]]:
    """What loader number `index` is built with, by place and by name."""
    numbers = {"seed": config.seed, "index": index, "count": config.resources.num_loaders}
    return (config.data, specs), numbers


def make_batches(
    config: PretrainConfig,
    specs: dict[str, StreamSpec],
    source: Grants,
    loaders: Sequence[Draws],
    device: str,
) -> Batches:
    """What the learner trains on: the shares of all loaders, on its device."""
    prefetch = config.learner.prefetch
    return BatchStream(specs, source, loaders, device=device, prefetch=prefetch)


def make_held_out(
    config: PretrainConfig, specs: Mapping[str, StreamSpec], loaders: Sequence[Draws], device: str
) -> HeldOutBatches:
    """What the learner looks at."""
    return HeldOutBatches(specs, loaders, config.eval.batches, device)
