"""A look at every suite: one contact sheet per suite and one of all, `reverie play --all`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reverie import registry
from reverie.cli.contact_sheet import Strip, draw_sheet
from reverie.cli.film import RandomPlayer, film_episodes
from reverie.cli.list_suites import facts
from reverie.config import resolve_env
from reverie.errors import ConfigError, EnvFailed
from reverie.types import Json
from reverie.video import is_blank, side_by_side, spread, write_picture

EXAMPLES = 4
"""Tasks that stand for a suite which does not name its own examples."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one suite."""

    strips: list[Strip] = field(default_factory=list[Strip])
    failed: bool = False
    """Something other than a missing package kept a task from being shown."""


def draw_suites(names: Sequence[str], folder: Path, *, steps: int, seed: int, say: Say) -> bool:
    """Write `<suite>.png` for each suite that can be used, and `all.png`; True if none failed.

    A row is the first `steps` decisions (or the first episode, if it is shorter) of a random
    policy in one example task. What cannot be shown is a row of text in `all.png` that says why.

    Args:
        names: suites; all of them where empty.
        folder: where the pictures go.
        steps: most decisions per task.
        seed: of the random policy and the episode of a suite's first example; that of the next
            is one more, so that what is drawn anew at each reset shows.
        say: called with one line per task.

    Raises:
        ConfigError: no such suite.
        OSError: the folder cannot be written to.
    """
    known = registry.env_names()
    for name in names:
        if name not in known:
            raise ConfigError(
                f"unknown environment suite {name!r}; {registry.suggest(name, known)}"
            )
    overview: list[Strip] = []
    failed = False
    for name in names or sorted(known):
        shown = _show_suite(name, steps, seed, say)
        failed |= shown.failed
        overview += _of_overview(shown.strips)
        if any(strip.film is not None for strip in shown.strips):
            write_picture(folder / f"{name}.png", draw_sheet(shown.strips))
    write_picture(folder / "all.png", draw_sheet(overview))
    return not failed


def examples_of(name: str) -> list[tuple[str, Mapping[str, Json]]]:
    """The tasks that stand for a suite, each with its options: its own choice, or some spread
    evenly over `tasks()`.
    """
    suite = registry.suite(name)
    examples = suite.examples()
    if examples is not None:
        return list(examples)
    tasks = suite.tasks()
    return [(tasks[index], {}) for index in spread(len(tasks), EXAMPLES)] if tasks else []


def _show_suite(name: str, steps: int, seed: int, say: Say) -> Shown:
    lack = facts(name)["missing"]
    examples = [] if lack else examples_of(name)
    if lack or not examples:
        text = lack or f"any task may be given, and none is an example: reverie play {name}/<task>"
        say(f"{name}: {text}")
        return Shown([Strip(name, text=text)])
    strips, failed = list[Strip](), False
    for index, (task, options) in enumerate(examples):
        strip, ok = _show_task(name, task, options, steps, seed + index)
        failed |= not ok
        strips.append(strip)
        say(f"{strip.label}{': ' if strip.text else ''}{strip.text}")
    return Shown(strips, failed)


def _show_task(
    suite: str, task: str, options: Mapping[str, Json], steps: int, seed: int
) -> tuple[Strip, bool]:
    """Play one example; whether it worked, a missing package apart."""
    label = f"{suite}/{task}"
    try:
        config = resolve_env({"suite": suite, "task": task, **options})
        played = film_episodes(
            config, lambda spaces: RandomPlayer(spaces, seed), episodes=1, steps=steps, seed=seed
        )
    except ImportError as error:
        return Strip(label, text=str(error)), True
    except (ConfigError, EnvFailed) as error:
        return Strip(label, text=_brief(error)), False
    film = side_by_side(played[0].films)
    blank = "; EVERY FRAME IS OF ONE COLOUR" if is_blank(film) else ""
    return Strip(f"{config.name}  {played[0].text()}{blank}", film), not blank


def _brief(error: Exception) -> str:
    """The first line of a message and, of a traceback, the last."""
    first, *rest = str(error).strip().splitlines()
    return f"{first} {rest[-1]}" if rest else first


def _of_overview(strips: Sequence[Strip]) -> list[Strip]:
    """The first picture of a suite, and everything that could not be shown."""
    shown = [strip for strip in strips if strip.film is not None]
    return [*shown[:1], *(strip for strip in strips if strip.film is None)]
