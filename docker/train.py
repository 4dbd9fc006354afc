"""`docker/command.py train ...`, by its former name."""

from __future__ import annotations

import sys

from command import main

if __name__ == "__main__":
    sys.exit(main(["train", *(sys.argv[1:] or ["--help"])]))
