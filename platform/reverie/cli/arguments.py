"""What the commands of `commands` and `env_commands` are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, Protocol

MISSING = "the following arguments are required: "
"""How argparse begins where an argument is missing."""


class Parser(argparse.ArgumentParser):
    """Names the first argument that is missing, with the example of its command."""

    example = ""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        if message.startswith(MISSING):
            message = f"missing {message.removeprefix(MISSING).split(', ')[0]}{self.example}"
        super().error(message)


class Commands(Protocol):
    """What `Parser.add_subparsers` returns; argparse has no public name for it."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str | None = None,
        epilog: str | None = None,
        formatter_class: type[argparse.HelpFormatter] = argparse.HelpFormatter,
    ) -> Parser: ...


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    example: str = "",
    epilog: str | None = None,
) -> Parser:
    """Add the command `name`, which calls `run` with its arguments; `text` says what it does and
    `example` how it is called.
    """
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    parser.set_defaults(command=run)
    parser.example = f", e.g. `reverie {example}`" if example else ""
    return parser


def add_overrides(parser: Parser) -> None:
    """Let the command take dotted overrides."""
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, e.g. seed=3"
    )


def at_least_one(text: str) -> int:
    """Type of an argument that counts something."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """Type of an argument such as a seed."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
    return number
