"""Nested states as flat names, and loading that says which tensor does not fit."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reverie.types import Array

log = logging.getLogger(__name__)


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Make torch's global CPU generator depend on `seed` and `name` only, then put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, name))
        yield


def derived_seed(seed: int, name: str) -> int:
    """Mix a name into a seed, so that parts draw independently."""
    return zlib.crc32(f"{seed}/{name}".encode())


def make_generator(device: str, seed: int, name: str) -> torch.Generator:
    kind = "cpu" if device == "meta" else device
    return torch.Generator(kind).manual_seed(derived_seed(seed, name))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Join the keys of nested dicts with `/`."""
    flat = {}
    for key, value in nested.items():
        inner = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{key}/") if inner else {f"{prefix}{key}": value}
    return flat


def copied(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Copy every tensor of nested dicts."""
    return {
        k: copied(v) if isinstance(v, Mapping) else v.detach().clone() for k, v in nested.items()
    }


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module) -> None:
    """Make the parameters of one module equal to those of another of the same structure."""
    for own, other in zip(target.parameters(), source.parameters(), strict=True):
        own.copy_(other)


def as_numpy(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """Copy tensors into arrays; bfloat16, which numpy lacks, becomes float32."""
    wide = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in state.items()}
    return {k: np.array(v.detach().cpu().numpy()) for k, v in wide.items()}


@torch.no_grad()
def load_tensors(own: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    """Copy the tensors (or arrays) of `given` into those of `own`; nested dicts both.

    Raises:
        ValueError: the first name that is missing, unknown, or of another shape. Nothing has
            been copied then.
    """
    targets, sources = flatten(own), flatten(given)
    _check_names(targets, sources, where)
    tensors = {
        name: torch.as_tensor(np.array(v) if isinstance(v, np.ndarray) else v)
        for name, v in sources.items()
    }
    for name, target in targets.items():
        if tensors[name].shape != target.shape:
            raise ValueError(
                f"{where}: tensor {name!r}: expected shape {tuple(target.shape)}, "
                f"got {tuple(tensors[name].shape)}; do sizes and spaces agree?"
            )
    for name, target in targets.items():
        target.copy_(tensors[name])


def _check_names(wanted: Mapping[str, Any], got: Mapping[str, Any], where: str) -> None:
    for name in wanted:
        if name not in got:
            raise ValueError(f"{where}: tensor {name!r} is missing; do sizes and spaces agree?")
    for name in got:
        if name not in wanted:
            raise ValueError(f"{where}: tensor {name!r} is not known here; do the settings agree?")


def load_generator(generator: torch.Generator, state: Tensor, name: str) -> None:
    """Set a generator, unless the state comes from another kind of device."""
    if state.shape != generator.get_state().shape:
        log.warning("generator %r: state of another device ignored, draws will differ", name)
        return
    generator.set_state(state.cpu())
