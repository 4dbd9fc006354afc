"""Reverie: reinforcement learning inside world models, on one machine or a Ray cluster.

env = reverie.make_env("atari100k/pong")         # a plain gymnasium.Env
env = gymnasium.make("reverie:reverie/atari100k-pong")   # the same
policy = reverie.load("runs/x"); policy.act(obs) # needs neither ray nor gymnasium
reverie.Trainer(reverie.load_config("dreamerv3/catch")).run()
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reverie.config import load_config
    from reverie.env_factory import make_env
    from reverie.gymnasium_ids import register_envs
    from reverie.policy import load
    from reverie.trainer import Trainer
    from reverie.tuning.trainable import Trainable

__version__ = "0.1.0"
_LAZY = {
    "make_env": "reverie.env_factory",
    "load": "reverie.policy",
    "load_config": "reverie.config",
    "Trainer": "reverie.trainer",
    "Trainable": "reverie.tuning.trainable",
    "register_envs": "reverie.gymnasium_ids",
}
__all__ = ["Trainable", "Trainer", "load", "load_config", "make_env", "register_envs"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import reverie` itself stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


if sys.modules.get("gymnasium"):  # this import does not bring it in; see `register_envs`
    from reverie.gymnasium_ids import register_envs

    register_envs()
