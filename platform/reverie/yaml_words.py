"""Words that YAML reads as something else than text where they stand without quotes.

They are those of YAML 1.2, and numbers with underscores (1_000). PyYAML's own are those of YAML
1.1, which has dates, sexagesimal numbers (1:30), `off` as false, and 1e5 as text.
"""

# PyYAML's dumper has no types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re

import yaml

from reverie.types import JsonTree

PLAIN = tuple(
    (f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), first)
    for kind, pattern, first in (
        ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", "[-+]?[0-9][0-9_]*|0x[0-9a-fA-F_]+", list("-+0123456789")),
        (
            "float",
            r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
    )
)
"""Tag, pattern, and how such a word may begin."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that readers of YAML 1.1 or 1.2 would take for something else."""


for tag, pattern, first in PLAIN:
    _Dumper.add_implicit_resolver(tag, pattern, first)


def write_yaml(tree: JsonTree) -> str:
    """The tree as YAML, whose text stays text for every reader."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False)
