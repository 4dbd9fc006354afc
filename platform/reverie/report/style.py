"""Style files: YAML with the fields of `Style`."""

from __future__ import annotations

import re
from pathlib import Path

from reverie.config_check import build
from reverie.config_tree import read_one_yaml
from reverie.errors import ConfigError
from reverie.report.study import Style

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def read_style(path: Path) -> Style:
    """Read a style.

    Raises:
        ConfigError: a key that there is not, or a value that does not fit, in one line.
        OSError: the file cannot be read.
    """
    try:
        style = build(Style, read_one_yaml(path), "style")
    except ConfigError as error:
        raise ConfigError("; ".join(f"{path}: {error}".splitlines())) from None
    for method, colour in style.colours.items():
        if not COLOUR.fullmatch(colour):
            raise ConfigError(f"{path}: colours: {method}: expected #rrggbb, got {colour!r}")
    if not 1 <= style.width <= 20 or not 4 <= style.font_size <= 24:
        raise ConfigError(
            f"{path}: expected width from 1 to 20 in and font_size from 4 to 24 points,"
            f" got {style.width:g} and {style.font_size:g}"
        )
    return style
