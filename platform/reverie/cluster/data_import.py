"""Importing video on a Ray cluster: one task per group of sources, on one CPU each."""

# Ray is partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayTaskError

from reverie.cluster.connection import connect
from reverie.data.parts import Group, ImportStopped, Part, import_group
from reverie.errors import RunError
from reverie.stop_signals import ShouldStop

POLL_S = 0.5
"""Seconds between two looks for a signal."""


class RayGroups:
    """Imports groups on the cluster at `address`, or on a Ray that it starts here.

    All nodes see the folders of the source and of the target under the same paths.
    """

    def __init__(self, root: Path, address: str | None) -> None:
        self._root = str(root)
        self._started = connect(None, address)

    def __call__(
        self, target: str, groups: Sequence[Group], should_stop: ShouldStop
    ) -> Iterator[Part]:
        """Yield what became of each group, in the order in which they are done.

        Raises:
            ImportStopped: it was told to stop.
            RunError: a node does not see a folder.
            OSError: the target cannot be written to.
        """
        task = ray.remote(_import_on_node).options(num_cpus=1)
        waiting = [task.remote(self._root, target, group) for group in groups]
        try:
            while waiting:
                if should_stop():
                    raise ImportStopped(f"{target}: stopped; run the same command again to go on")
                ready, waiting = ray.wait(waiting, timeout=POLL_S)
                for one in ready:
                    yield _result(one)
        finally:
            for one in waiting:
                ray.cancel(one, force=True)

    def close(self) -> None:
        """End the Ray that was started here."""
        if self._started:
            ray.shutdown()


def _result(one: Any) -> Part:
    try:
        return cast(Part, ray.get(one))
    except RayTaskError as error:
        cause = cast(Exception, error.cause)
        if isinstance(cause, OSError | RunError | ValueError):
            raise cause from None  # it is told in one line, not with the traceback of the task
        raise


def _import_on_node(root: str, target: str, group: Group) -> Part:
    for folder in (root, target):
        if not os.path.exists(folder):
            raise RunError(f"{folder}: node {socket.gethostname()} does not see it; all nodes must")
    return import_group(target, group)
