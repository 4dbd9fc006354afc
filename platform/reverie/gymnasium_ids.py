"""Ids such as `reverie/metaworld-door-lock`, for `gymnasium.make` and `gymnasium.make_vec`.

They are there as soon as both packages are imported, in either order; `import reverie` itself does
not import gymnasium. Without `import reverie` the id is `reverie:reverie/metaworld-door-lock`:
gymnasium 1 has no entry points by which an installed package could announce its environments.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium


def register_with_gymnasium() -> None:
    """Register all suites with known tasks, as soon as gymnasium has been imported."""
    if sys.modules.get("gymnasium"):
        _register()
    else:
        sys.meta_path.insert(0, _Watch())


def make(name: str, render_mode: str | None = None, **options: Any) -> gymnasium.Env[Any, Any]:
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


def _register() -> None:
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


class _Watch:
    """Waits on `sys.meta_path` for the import of gymnasium, and goes away with it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "gymnasium":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        run = loader.exec_module

        def run_and_register(module: Any) -> None:
            run(module)
            sys.meta_path.remove(self)
            _register()

        loader.exec_module = run_and_register
