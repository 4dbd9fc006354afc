"""Start from parts of another agent: which of its tensors fit, and holding them still."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reverie.protocols import Initialised
from reverie_algorithms.common.states import flatten


class Freezable(Protocol):
    """An optimizer whose steps leave out the parameters named in `frozen`."""

    params: dict[str, nn.Parameter]
    frozen: set[str]


@torch.no_grad()
def take(
    modules: Mapping[str, nn.Module], state: Mapping[str, Any], chosen: Collection[str]
) -> Initialised:
    """Copy into `modules` what fits by name and shape out of another agent's state.

    Args:
        modules: own parts by name.
        state: `state_dict()` of an agent of any algorithm.
        chosen: parts to copy; empty chooses all of them.
    """
    own, theirs = flatten(_tensors(modules)), flatten(state.get("modules", {}))
    loaded: list[str] = []
    skipped = {name: "only in the source" for name in theirs.keys() - own.keys()}
    mismatched: dict[str, str] = {}
    for name, tensor in own.items():
        if chosen and name.partition("/")[0] not in chosen:
            skipped[name] = "not chosen"
        elif name not in theirs:
            skipped[name] = "only here"
        elif theirs[name].shape != tensor.shape:
            mismatched[name] = f"here {tuple(tensor.shape)}, there {tuple(theirs[name].shape)}"
        else:
            tensor.copy_(theirs[name])
            loaded.append(name)
    return Initialised(tuple(loaded), dict(sorted(skipped.items())), mismatched)


def freeze(
    modules: Mapping[str, nn.Module], optimizers: Iterable[Freezable], tensors: Collection[str]
) -> None:
    """Keep these tensors (`module/tensor`) out of every step, and no others from now on.

    Their moments and step counts stay as they are, so that the first step after the freeze is
    an optimizer's first one, not one with moments that were averaged over zeros.
    """
    own = flatten(_tensors(modules))
    kept = {id(own[name]) for name in tensors}
    for optimizer in optimizers:
        optimizer.frozen = {name for name, p in optimizer.params.items() if id(p) in kept}


def split_state(
    modules: Mapping[str, nn.Module], roots: Mapping[str, nn.Module]
) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Tensors of the trained parts under `modules`, what else the roots hold under `rest`."""
    trained = _tensors(modules)
    known = {id(tensor) for tensors in trained.values() for tensor in tensors.values()}
    rest = {
        root: {name: tensor for name, tensor in tensors.items() if id(tensor) not in known}
        for root, tensors in _tensors(roots).items()
    }
    return {"modules": trained, "rest": {root: left for root, left in rest.items() if left}}


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    # keep_vars: the parameters themselves, so that they can be told apart by identity.
    return {name: dict(part.state_dict(keep_vars=True)) for name, part in modules.items()}
