"""Commands about environments: `reverie envs|env install|play|check-env`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import registry
from reverie.cli.arguments import (
    Commands,
    add_command,
    add_overrides,
    at_least_one,
    not_negative,
)
from reverie.cli.json_output import print_json
from reverie.errors import ConfigError, EnvFailed
from reverie.paths import place, short

if TYPE_CHECKING:
    from reverie.cli.film import Episode
    from reverie.settings import EnvConfig, TrainConfig
    from reverie.types import JsonTree

PLAY_EXAMPLES = """\
examples:
  reverie play metaworld/door-lock      one episode of a random policy: an mp4
  reverie play dmc/walker_walk --sheet  frames of it in one picture
  reverie play --run runs/first         the trained policy in its environment
  reverie play --all                    one picture per suite, and one of all
  reverie play --all toy dmc --out a    pictures of these suites, in folder a"""
PLAYED = Path("runs/play")
FILM_STEPS, SHEET_STEPS = 1000, 100


def add_env_commands(commands: Commands) -> None:
    """Add the commands to the command line."""
    _add_envs(commands)
    _add_env(commands)
    _add_play(commands)
    _add_check_env(commands)


def _add_check_env(commands: Commands) -> None:
    text = "run the contract tests on your environment"
    check = add_command(commands, "check-env", _check_env, text, "check-env my_file:make_env")
    check.add_argument(
        "factory", metavar="FACTORY", help="module:function that returns a gymnasium.Env"
    )
    check.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="YAML file or preset: see also whether its algorithm can learn there",
    )
    add_overrides(check)
    check.add_argument(
        "--nondeterministic",
        action="store_true",
        help="skip the test that equal seeds give equal frames",
    )


def _add_envs(commands: Commands) -> None:
    parser = add_command(commands, "envs", _envs, "list environment suites and their tasks")
    parser.add_argument(
        "suite", metavar="SUITE", nargs="?", help="show only this suite: its tasks and options"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_env(commands: Commands) -> None:
    parser = commands.add_parser("env", help="install suites whose packages clash with ours")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    text = "create a separate virtual environment for a suite"
    install = add_command(actions, "install", _install, text, "env install robodesk")
    install.add_argument("suite", metavar="SUITE", help="e.g. robodesk, robosuite or minedojo")
    install.add_argument("--python", default="", help="Python interpreter to create it with")


def _add_play(commands: Commands) -> None:
    text = "record a video of an environment, played by a random or trained policy"
    parser = add_command(commands, "play", _play, text, epilog=PLAY_EXAMPLES)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="ENV | key=value",
        help="SUITE/TASK, e.g. toy/catch, and its options, e.g. env.size=128 or size=128",
    )
    parser.add_argument("--run", type=_path, help="run folder: its latest checkpoint acts")
    parser.add_argument(
        "--all",
        nargs="*",
        metavar="SUITE",
        help="draw contact sheets of the named suites (default: all), a few tasks each,"
        " random policy",
    )
    parser.add_argument(
        "--sheet", action="store_true", help="write a contact sheet instead of an mp4"
    )
    parser.add_argument(
        "--episodes", type=at_least_one, default=1, help="number of episodes (default 1)"
    )
    parser.add_argument(
        "--steps",
        type=at_least_one,
        help=f"maximum number of agent steps in total (default {FILM_STEPS}; with --all"
        f" {SHEET_STEPS} per task)",
    )
    parser.add_argument(
        "--seed",
        type=not_negative,
        default=0,
        help="seed for the environment and the policy (default 0)",
    )
    parser.add_argument(
        "--out",
        type=_path,
        help=f"file (.mp4, or .png for a sheet) or folder (default: {PLAYED}/)",
    )


def _path(text: str) -> Path:
    return short(place(text))


def _envs(arguments: argparse.Namespace) -> int:
    from reverie.cli import list_suites

    if arguments.json:
        print_json(lambda: list_suites.facts_of_all(arguments.suite))
    elif arguments.suite:
        print(list_suites.suite_text(arguments.suite))
    else:
        print(list_suites.table())
    return 0


def _install(arguments: argparse.Namespace) -> int:
    try:
        folder = registry.load(registry.INSTALL_ENV)(arguments.suite, arguments.python, print)
    except (ValueError, RuntimeError) as error:
        print(f"reverie: {error}", file=sys.stderr)
        return 2
    if arguments.suite in registry.env_names():  # what installs does not always work
        print("trying a step", flush=True)
        _try_step(arguments.suite)
    print(f"{arguments.suite} is installed in {folder}")
    return 0


def _try_step(suite: str) -> None:
    from reverie.env_factory import make_env

    task = registry.suite(suite).tasks()[0]
    env = make_env(f"{suite}/{task}")
    try:
        env.reset(seed=0)
        env.step(env.action_space.sample())
    finally:
        env.close()


def _play(arguments: argparse.Namespace) -> int:
    names = [token for token in arguments.overrides if "=" not in token]
    if arguments.all is not None:
        return _play_all(arguments)
    if len(names) > 1:
        raise ConfigError(f"play: expected one environment, got {' '.join(names)}")
    from reverie.cli.film import RandomPlayer, choose_env, film_episodes, trained_player

    options = [token for token in arguments.overrides if "=" in token]
    run, seed = arguments.run, arguments.seed
    config = choose_env(names[0] if names else None, options, run)
    path = _picture_path(arguments, config)
    policy = f"policy of {run}" if run else "random policy"
    print(f"{config.name}: {policy}, seed {seed} ...", flush=True)
    played = film_episodes(
        config,
        lambda spaces: (
            trained_player(run, config, spaces, seed) if run else RandomPlayer(spaces, seed)
        ),
        episodes=arguments.episodes,
        steps=arguments.steps or FILM_STEPS,
        seed=seed,
    )
    for number, episode in enumerate(played, start=1):
        print(f"  episode {number}: {episode.text()}")
    print(f"written: {_write(path, config.name, played)}")
    return 0


def _play_all(arguments: argparse.Namespace) -> int:
    from reverie.cli.suite_sheets import draw_suites

    if arguments.run or arguments.overrides:
        got = arguments.run or " ".join(arguments.overrides)
        raise ConfigError(f"play --all: takes names of suites and no environment or run, got {got}")
    folder = _checked_folder(arguments.out or PLAYED / "suites")
    fine = draw_suites(
        arguments.all,
        folder,
        steps=arguments.steps or SHEET_STEPS,
        seed=arguments.seed,
        say=lambda text: print(text, flush=True),
    )
    print(f"written: {folder}/all.png and one picture per suite")
    return 0 if fine else 2


def _picture_path(arguments: argparse.Namespace, config: EnvConfig) -> Path:
    """Where the picture goes; its suffix says of which kind it is.

    Raises:
        ConfigError: --out has another suffix, or one that does not fit --sheet.
        ImportError: a package that writes it is missing.
        OSError: it cannot be written there.
    """
    from reverie.cli.film import file_name
    from reverie.video import check_can_write

    home = arguments.run / "videos" if arguments.run else PLAYED
    out: Path = arguments.out or home
    if out.is_dir() or not out.suffix:
        out = out / (file_name(config) + (".png" if arguments.sheet else ".mp4"))
    wanted = (".png",) if arguments.sheet else (".mp4", ".png")
    if out.suffix not in wanted:
        raise ConfigError(f"--out: expected a file ending in {' or '.join(wanted)}, got {out}")
    check_can_write(out.suffix)
    if out.suffix == ".png":
        import_module("reverie.cli.contact_sheet")  # what it lacks shows before anything is played
    _checked_folder(out.parent)
    return out


def _checked_folder(folder: Path) -> Path:
    """Make `folder` if need be, and see before anything is played that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"--out: cannot write to {folder}: {error.strerror or error}") from error
    return folder


def _write(path: Path, label: str, played: list[Episode]) -> Path:
    from reverie import video

    films = [video.side_by_side(episode.films) for episode in played]
    if path.suffix == ".png":
        from reverie.cli.contact_sheet import Strip, draw_sheet

        strips = [
            Strip(f"{label}  episode {number}: {episode.text()}", film)
            for number, (episode, film) in enumerate(zip(played, films, strict=True), start=1)
        ]
        return video.write_picture(path, draw_sheet(strips))
    fps = video.watchable_fps(sum(map(len, films)))
    return video.write_video(path, video.with_pauses(films, round(fps / 2)), fps)


def _check_env(arguments: argparse.Namespace) -> int:
    sys.path.insert(0, os.getcwd())
    wanted = _wanted(arguments)
    env = wanted.env if wanted else _env_alone(arguments)
    suite = registry.suite(env.suite)
    results = registry.load(registry.CHECK_ENV)(
        lambda: suite.make(env.task, env.options),
        deterministic=not arguments.nondeterministic,
        limit_s=env.step_timeout_s,
    )
    for result in results:
        print(f"{'ok  ' if result.ok else 'FAIL'} {result.name}: {result.message}")
    fine = all(result.ok for result in results)
    return 0 if fine and (wanted is None or _agent_can_learn(wanted)) else 2


def _wanted(arguments: argparse.Namespace) -> TrainConfig | None:
    """The configuration that the environment is to be used with, if one is named.

    Raises:
        ConfigError: it is broken.
    """
    from reverie.config import load_config

    name = arguments.config
    if name is None or ("=" in name and not Path(name).exists()):
        return None
    return load_config(name, [f"env.factory={arguments.factory}", *arguments.overrides])


def _env_alone(arguments: argparse.Namespace) -> EnvConfig:
    """The environment with what `env.KEY=VALUE` says of it.

    Raises:
        ConfigError: another key, which only a CONFIG has.
    """
    from reverie.config import resolve_env
    from reverie.config_tree import apply_overrides

    overrides = [text for text in (arguments.config, *arguments.overrides) if text is not None]
    for text in overrides:
        if not text.startswith("env."):
            raise ConfigError(f"missing CONFIG before {text}, e.g. dreamerv3/catch")
    tree: JsonTree = {"env": {"suite": "factory", "task": arguments.factory}}
    return resolve_env(apply_overrides(tree, overrides)["env"])


def _agent_can_learn(config: TrainConfig) -> bool:
    """Print whether the agent takes the environment's spaces, in its own words if it does not."""
    from reverie import env_factory, wiring

    name = getattr(config.algorithm, "name", "")
    try:
        spaces = env_factory.spaces_of(config.env)
        wiring.try_agent(config, spaces, None, None)
    except (ConfigError, EnvFailed) as error:
        print(f"FAIL agent: {error}")
        return False
    print(f"ok   agent: {name} takes these observations and actions")
    return True
