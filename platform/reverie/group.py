"""Learners that take every step together, as the agent in each of them sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Group(Protocol):
    """The learners of one run, which take every step together.

    Each method is a collective: all of them must call it, in the same order, and wait for the
    slowest. None reads a value back to the host.
    """

    rank: int
    """Which of them this is, from 0."""
    size: int
    """How many there are."""

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the learners."""
        ...

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all learners [size, *shape], in the order of their ranks."""
        ...

    def any(self, flag: Tensor) -> Tensor:
        """Whether a bool flag is set, entry by entry, in any learner."""
        ...


class Alone:
    """The group of a single learner."""

    rank, size = 0, 1

    def mean_(self, tensors: Sequence[Tensor]) -> None: ...

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(0)

    def any(self, flag: Tensor) -> Tensor:
        return flag


ALONE = Alone()
