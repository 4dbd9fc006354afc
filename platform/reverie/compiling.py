"""`learner.compile`: an agent's losses behind torch.compile, on a GPU as CUDA graphs."""

# torch.compile is partly untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Literal

import torch
import torch._functorch.config as aot_config

from reverie.protocols import Agent

Setting = Literal["auto", "on", "off"]


def compile_agent(
    agent: Agent, setting: Setting, device: str, *, backend: str = "inductor"
) -> bool:
    """Replace the methods in `agent.COMPILABLE` by compiled ones where `setting` asks for it.

    `auto` compiles on CUDA only: on a CPU it costs minutes and gains nothing. Inductor needs a
    C++ compiler there. The first update is slow; a graph break is an error.
    Not run on a GPU so far.

    Returns:
        Whether updates replay CUDA graphs. Then each begins with `begin_update`, and what one
        returned is overwritten by the next.
    """
    on_cuda = torch.device(device).type == "cuda"
    if setting == "off" or (setting == "auto" and not on_cuda):
        return False
    # An update may go backward through a method twice, and while parts are frozen the pass that
    # comes first, for which it is compiled, is not always the one that retains the graph. Memory
    # that a pass gives away forbids that.
    aot_config.donated_buffer = False
    uses_graphs = on_cuda and backend == "inductor"
    mode = "reduce-overhead" if uses_graphs else None
    for name in agent.COMPILABLE:
        method = getattr(agent, name)
        compiled = torch.compile(method, fullgraph=True, dynamic=False, backend=backend, mode=mode)
        setattr(agent, name, compiled)
    return uses_graphs


def begin_update() -> None:
    """Let CUDA graphs write over what the former update returned."""
    torch.compiler.cudagraph_mark_step_begin()
