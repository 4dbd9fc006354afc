"""`--json`: one JSON object on standard output and nothing else, whatever environments print."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from reverie.documents import json_text

STDOUT, STDERR = 1, 2


def print_json(make: Callable[[], Any]) -> None:
    """Print what `make` returns as JSON; what is printed meanwhile goes to standard error.

    So does what the process prints as it ends.

    Raises:
        ValueError: a number is not finite.
    """
    with _stdout_to_stderr():
        text = json_text(make(), indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    atexit.unregister(_divert)
    atexit.register(_divert)  # runs before what an environment registered, for that is older


@contextmanager
def _stdout_to_stderr() -> Generator[None]:
    """Send the output of Python, of C libraries and of child processes to standard error."""
    _flush()
    kept = os.dup(STDOUT)
    try:
        _divert()
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        os.dup2(kept, STDOUT)
        os.close(kept)


def _divert() -> None:
    _flush()
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:  # standard error is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)


def _flush() -> None:
    """Write out what Python and C hold back, where it belongs."""
    for stream in {sys.stdout, sys.__stdout__}:
        if stream is not None:
            with suppress(ValueError):  # it is closed
                stream.flush()
    ctypes.CDLL(None).fflush(None)
