"""What `reverie` does in a terminal; may import every part, and no part imports it."""

from reverie.cli.commands import main

__all__ = ["main"]
