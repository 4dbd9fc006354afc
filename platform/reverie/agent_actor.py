"""An agent in this process that acts, with what it needs to know beside its rows."""

from __future__ import annotations

from collections.abc import Mapping

from reverie.config import TrainConfig
from reverie.links import Acted
from reverie.policy import make_agent
from reverie.protocols import Agent, Carry, Mode, SideAgent
from reverie.types import Array, Counters, Rows, Spaces, Version


class AgentActor:
    """Acts with an agent of its own, in one mode, at the weights it was given last.

    `counters` is what the agent is told of how far the run is; its owner keeps it up to date.
    """

    def __init__(
        self,
        agent: Agent,
        mode: Mode,
        *,
        counters: Counters | None = None,
        version: Version | None = None,
    ) -> None:
        self.agent, self.counters, self.version = agent, counters or Counters(), version
        self._mode: Mode = mode
        self._side_of = agent.side_of if mode == "train" and isinstance(agent, SideAgent) else None

    def initial_carry(self, count: int) -> Carry:
        return self.agent.initial_carry(count)

    def act(self, rows: Rows, carry: Carry) -> Acted:
        action, carry = self.agent.act(rows, carry, self._mode, self.counters)
        version = self.version.grad_updates if self.version else 0
        side = self._side_of(carry) if self._side_of else {}
        return Acted(action=action, carry=carry, version=version, side=side)

    def load(self, version: Version, state: Mapping[str, Array]) -> None:
        """Act with these weights from now on."""
        self.version = version
        self.agent.load_policy_state(state)


def make_agent_actor(config: TrainConfig, spaces: Spaces, *, seed: int, mode: Mode) -> AgentActor:
    """Build the configured agent as far as acting needs it.

    Raises:
        ConfigError: what the agent itself refuses.
    """
    return AgentActor(make_agent(config, spaces, seed=seed, training=False), mode)
