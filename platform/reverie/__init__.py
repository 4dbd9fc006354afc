"""Reverie: reinforcement learning inside world models, on one machine or a Ray cluster.

env = reverie.make_env("atari100k/pong")         # a plain gymnasium.Env
env = gymnasium.make("reverie/atari100k-pong")   # the same, once reverie is imported
policy = reverie.load("runs/x"); policy.act(obs) # needs neither ray nor gymnasium
reverie.Trainer(reverie.load_config("tune_configs/dreamerv3/catch.yaml")).run()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reverie.gymnasium_ids import register_with_gymnasium

if TYPE_CHECKING:
    from reverie.config import load_config
    from reverie.env_factory import make_env
    from reverie.policy import load
    from reverie.trainer import Trainer

__version__ = "0.1.0"
_LAZY = {
    "make_env": "reverie.env_factory",
    "load": "reverie.policy",
    "load_config": "reverie.config",
    "Trainer": "reverie.trainer",
}
__all__ = ["Trainer", "load", "load_config", "make_env"]


register_with_gymnasium()


def __getattr__(name: str) -> Any:
    """Import on first use: `import reverie` itself stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
