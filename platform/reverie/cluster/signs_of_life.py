"""How long the parts of a run have been silent, from what the coordinator hears of them."""

from __future__ import annotations

from collections.abc import Mapping

from reverie.cluster.fleet import Key

STOPPED_S = 10.0
"""After so long without a look the coordinator, or all of the run, was stopped itself."""


class Listener:
    """Judges silence by one look at the coordinator a second; times are monotonic seconds."""

    def __init__(self) -> None:
        self._looked_at = self._since = 0.0

    def silent(
        self,
        heard: Mapping[Key, float],
        ready_at: Mapping[Key, float],
        coordinator_at: float,
        now: float,
    ) -> dict[Key, float]:
        """Seconds for which each part could have given a sign of life and gave none.

        Args:
            heard: Seconds since the last sign of each part that gave one to this coordinator.
            ready_at: When each part that is there was built.
            coordinator_at: When this coordinator was. One that stands in for a dead one has heard
                nothing yet, and never will of a part that is stopped.
            now: When the coordinator was looked at.
        """
        if now - self._looked_at > STOPPED_S:  # signs of life may still wait in its queue
            self._since = now
        self._looked_at = now
        since = max(self._since, coordinator_at)
        signs = {key: now - seconds for key, seconds in heard.items()}
        # A sign older than the part is that of the one that stood there before.
        return {k: now - max(signs.get(k, ready), ready, since) for k, ready in ready_at.items()}
