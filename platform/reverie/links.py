"""How the parts of a run see each other: one protocol per border, whoever stands behind it.

In one process the plain objects themselves fit; on a cluster, links that call actors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from reverie.protocols import Carry
from reverie.types import Array, Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """What an actor chose for N rows."""

    action: Array
    """[N, *action.shape]."""
    carry: Carry
    """Recurrent state [N, ...] after these rows."""
    version: int
    """Grad updates of the weights that chose: `policy_version` of the rows."""
    side: Rows = field(default_factory=dict[str, Array])
    """Columns [N, ...] for the replay's side table, by name; mostly none."""


class Actor(Protocol):
    """Who chooses actions: an agent in this process, or something that asks one."""

    def initial_carry(self, count: int) -> Carry:
        """Recurrent state [count, ...] of environments whose episodes are about to begin."""
        ...

    def act(self, rows: Rows, carry: Carry) -> Acted:
        """Choose for rows [N, ...] (observation keys and flags), whose state is `carry` [N, ...].

        Rows with `is_first` start from the initial state. May wait for another process.
        """
        ...
