"""The command line: `reverie train|pretrain|resume|eval|export|describe|algorithms|doctor`.

Commands about environments stand in `env_commands`, `report` in `report_commands`, `sweep` in
`sweep_commands`, `data` in `data_commands`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from reverie.cli.arguments import Commands, Parser, add_command, add_overrides, at_least_one
from reverie.cli.data_commands import add_data
from reverie.cli.env_commands import add_env_commands
from reverie.cli.json_output import print_json
from reverie.cli.report_commands import add_report
from reverie.cli.sweep_commands import add_sweep
from reverie.config import (
    load_config,
    load_experiment,
    load_pretrain_config,
    load_run_experiment,
)
from reverie.errors import ConfigError, RunError
from reverie.paths import place, short
from reverie.repeated_log import OncePerWindow
from reverie.stop_signals import StopSignals

if TYPE_CHECKING:
    from reverie.run_folder import Resume
    from reverie.settings import PretrainConfig, TrainConfig
    from reverie.types import JsonTree


class Options(TypedDict):
    """How a run is run, as `RunLoop` takes it."""

    local: bool
    address: str | None
    resume: Resume
    checkpoint: int | None
    signals: StopSignals


CONFIG_HELP = "YAML file, or the name of a preset, e.g. dreamerv3/catch"
TRAIN_EXAMPLE = "train dreamerv3/catch"
PRETRAIN_EXAMPLE = "pretrain ipv/ssv2 data.folders=[data/ssv2]"
TRAIN_EXAMPLES = """\
examples:
  reverie train harmonydream/atari100k env.task=boxing seed=3
  reverie train dreamerv3/catch --local              one process, without Ray
  reverie train CONFIG env.factory=my_file:make_env  your own gymnasium.Env
  reverie train CONFIG run.dir=runs/a --resume=auto  for jobs that are requeued
  reverie train CONFIG --address auto                on a cluster
  reverie train CONFIG init.from=runs/a "init.modules=[encoder,rssm]"
                               start from parts of another run (not a resume)

`reverie describe CONFIG` shows what a configuration means; docs/reference.md
lists every key. Ctrl-C writes a checkpoint and stops (exit code 130; SIGTERM
143; SIGUSR1 138; SIGHUP 129); a second one stops at once."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for what the user has to fix, 1 for a bug."""
    arguments = parse(argv)
    log = OncePerWindow()
    logging.basicConfig(
        level=logging.INFO, format="%(levelname).1s %(message)s", handlers=[log], force=True
    )
    try:
        code = arguments.command(arguments) or 0
        sys.stdout.flush()
        return code
    except RunError as error:
        _say(str(error))
        return getattr(error, "exit_code", 2)
    except (ConfigError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 141
        print(f"reverie: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say("interrupted")  # `train` and `resume` take signals themselves as they begin
        return 130
    finally:
        log.tell_held()


def _say(text: str) -> None:
    with contextlib.suppress(
        OSError
    ):  # a terminal that is gone takes the run's exit code not along
        print(f"reverie: {text}", file=sys.stderr)


def _reader_left() -> bool:
    """Whether nobody reads standard output any more, as with `| head`; then it is let go."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; overrides may stand before, between and after the options."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = [token for token in rest if "=" in token and not token.startswith("-")]
    if len(overrides) < len(rest) or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += overrides
    return arguments


def make_parser() -> Parser:
    parser = Parser(
        prog="reverie",
        description="Reinforcement learning inside world models, on one machine or a Ray cluster.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_pretrain(commands)
    _add_resume(commands)
    _add_eval(commands)
    _add_export(commands)
    add_report(commands)
    add_sweep(commands)
    add_data(commands)
    _add_describe(commands)
    add_env_commands(commands)
    add_command(commands, "algorithms", _algorithms, "list algorithms, sizes and dialects")
    _add_doctor(commands)
    return parser


def _add_train(commands: Commands) -> None:
    parser = add_command(
        commands, "train", _train, "train an agent", TRAIN_EXAMPLE, epilog=TRAIN_EXAMPLES
    )
    parser.example += " (key=value is optional)"
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    add_overrides(parser)
    _add_where(parser)
    _add_new_or_resumed(parser)


def _add_pretrain(commands: Commands) -> None:
    text = "pre-train a world model on video"
    parser = add_command(commands, "pretrain", _pretrain, text, PRETRAIN_EXAMPLE)
    named = CONFIG_HELP.replace("dreamerv3/catch", "ipv/ssv2")
    parser.add_argument("config", metavar="CONFIG", help=named)
    add_overrides(parser)
    _add_where(parser)
    _add_new_or_resumed(parser)


def _add_resume(commands: Commands) -> None:
    text = "resume a run from its latest checkpoint"
    parser = add_command(commands, "resume", _resume, text, "resume runs/first")
    parser.add_argument("run", metavar="RUN", help="run folder, e.g. runs/first")
    add_overrides(parser)
    _add_checkpoint(parser, "resume from this checkpoint; later ones go with the first new one")
    _add_where(parser)


def _add_eval(commands: Commands) -> None:
    text = "score the latest checkpoint of a run"
    parser = add_command(commands, "eval", _eval, text, "eval runs/first")
    parser.add_argument("run", metavar="RUN", help="run folder, e.g. runs/first")
    _add_checkpoint(parser, "score this checkpoint")
    parser.add_argument(
        "--episodes",
        type=at_least_one,
        help="number of episodes (default: the suite's protocol)",
    )
    parser.add_argument(
        "--mode",
        choices=["sample", "mode"],
        help="how to choose actions: `sample` from the policy, or its `mode`"
        " (default: the run's eval.mode, else the suite's protocol)",
    )
    parser.add_argument("--video", action="store_true", help="write an mp4 of the first episode")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_export(commands: Commands) -> None:
    text = "copy a run's policy with what acting needs (a few MB) into a folder of its own"
    parser = add_command(commands, "export", _export, text, "export runs/first robot")
    parser.add_argument("run", metavar="RUN", help="run folder, e.g. runs/first")
    parser.add_argument("folder", metavar="FOLDER", help="new folder, for reverie.load(FOLDER)")
    _add_checkpoint(parser, "export this checkpoint")


def _add_checkpoint(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--checkpoint", type=at_least_one, metavar="NUMBER", help=f"{text} (default: the latest)"
    )


def _add_describe(commands: Commands) -> None:
    text = "show what a configuration builds, without running it"
    parser = add_command(commands, "describe", _describe, text, "describe dreamerv3/catch")
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    add_overrides(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_doctor(commands: Commands) -> None:
    text = "check this machine: packages, GPU, graphics libraries, disk"
    parser = add_command(commands, "doctor", _doctor, text)
    parser.add_argument(
        "suite", metavar="SUITE", nargs="?", help="check only what this suite needs"
    )


def _add_where(parser: Parser) -> None:
    parser.add_argument("--local", action="store_true", help="run in one process, without Ray")
    parser.add_argument("--address", help="Ray cluster to join (auto or host:port)")


def _add_new_or_resumed(parser: Parser) -> None:
    parser.add_argument(
        "--resume",
        choices=["never", "auto"],
        default="never",
        help="auto: resume if run.dir has a checkpoint, otherwise start a new run there"
        " (default: never)",
    )


def _train(arguments: argparse.Namespace) -> int:
    _check_config_is_there(arguments, TRAIN_EXAMPLE)
    with StopSignals() as signals:
        config = load_config(arguments.config, arguments.overrides)
        return _run(config, arguments, signals, arguments.resume)


def _pretrain(arguments: argparse.Namespace) -> int:
    _check_config_is_there(arguments, PRETRAIN_EXAMPLE)
    with StopSignals() as signals:
        config = load_pretrain_config(arguments.config, arguments.overrides)
        return _run(config, arguments, signals, arguments.resume)


def _check_config_is_there(arguments: argparse.Namespace, example: str) -> None:
    if "=" in arguments.config and not place(arguments.config).exists():
        raise ConfigError(f"missing CONFIG before {arguments.config}, e.g. `reverie {example}`")


def _resume(arguments: argparse.Namespace) -> int:
    from reverie.policy import config_file

    overrides = [*arguments.overrides, f"run.dir={arguments.run}"]
    with StopSignals() as signals:
        config = load_run_experiment(config_file(arguments.run), overrides)
        return _run(config, arguments, signals, "must", arguments.checkpoint)


def _run(
    config: TrainConfig | PretrainConfig,
    arguments: argparse.Namespace,
    signals: StopSignals,
    resume: Resume,
    checkpoint: int | None = None,
) -> int:
    from reverie.cli.progress import ProgressLine, summary_text
    from reverie.settings import TrainConfig

    options: Options = {
        "local": arguments.local,
        "address": arguments.address,
        "resume": resume,
        "checkpoint": checkpoint,
        "signals": signals,
    }
    if isinstance(config, TrainConfig):
        from reverie.trainer import Trainer

        loop = Trainer(config, **options)
    else:
        from reverie.pretrainer import Pretrainer

        loop = Pretrainer(config, **options)
    print(f"run folder: {short(loop.folder)}", flush=True)
    with ProgressLine() as line:
        summary = loop.run(line.show)
    print(summary_text(summary), flush=True)
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from reverie.evaluate_checkpoint import evaluate_checkpoint
    from reverie.video import check_can_write

    if arguments.video:
        check_can_write(".mp4")

    def evaluate() -> JsonTree:
        return evaluate_checkpoint(
            place(arguments.run),
            arguments.episodes,
            arguments.mode,
            video=arguments.video,
            number=arguments.checkpoint,
        )

    if arguments.json:
        print_json(evaluate)
        return 0
    for key, value in evaluate().items():
        print(f"{key:24} {round(value, 3) if isinstance(value, float) else value}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from reverie.export import export

    number = export(arguments.run, arguments.folder, arguments.checkpoint)
    print(f"checkpoint {number} of {arguments.run} is in {arguments.folder}")
    return 0


def _describe(arguments: argparse.Namespace) -> int:
    from reverie.cli.describe import Description, PretrainDescription, describe, describe_text

    def found() -> Description | PretrainDescription:
        return describe(load_experiment(arguments.config, arguments.overrides))

    if arguments.json:
        print_json(found)
    else:
        print(describe_text(found()))
    return 0


def _algorithms(arguments: argparse.Namespace) -> int:
    from reverie.cli.describe import list_algorithms

    print(list_algorithms())
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from reverie.cli.doctor import check_machine, check_suite, report

    findings = check_suite(arguments.suite) if arguments.suite else check_machine()
    print(report(findings))
    return 2 if any(finding.severity == "broken" for finding in findings) else 0
