"""Ids such as `reverie/metaworld-door-lock`, for `gymnasium.make` and `gymnasium.make_vec`.

`import reverie` registers them where gymnasium has been imported, and imports it nowhere. So
`gymnasium.make("reverie:reverie/metaworld-door-lock")` works by itself, and the shorter
`reverie/metaworld-door-lock` after both imports; only where reverie came first is it up to the
user to call `reverie.register_envs()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gymnasium
    import numpy as np

    from reverie.types import Array, Json, Rows


def register_envs() -> None:
    """Register all suites with known tasks; again does no harm.

    Raises:
        ImportError: gymnasium is not installed.
    """
    from gymnasium.envs.registration import EnvSpec, registry

    from reverie.registry import TASK_NAMES, load

    for suite, tasks in load(TASK_NAMES).items():
        for task in tasks:
            spec = EnvSpec(
                f"reverie/{suite}-{task}",
                entry_point="reverie.gymnasium_ids:make",
                kwargs={"name": f"{suite}/{task}"},
            )
            # Not `gymnasium.register`, which looks through all ids for each new one.
            registry[spec.id] = spec


def make(
    name: str, render_mode: str | None = None, **options: Json
) -> gymnasium.Env[Rows, Array | np.int64]:
    """Build the environment `suite/task`; what gymnasium calls behind the ids.

    Raises:
        ConfigError: an unknown option.
        ValueError: another render mode than rgb_array.
        ImportError: a package is missing, with the `pip install` line.
    """
    from reverie.env_factory import make_env

    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode: {name} draws 'rgb_array', got {render_mode!r}")
    return make_env(name, **options)
