"""Turns names that users chose into identifiers of libraries: files, tags, modules."""

from __future__ import annotations


def identifier(name: str, *, plain: str = "_-", only: str | None = None, mark: str = "%") -> str:
    """A form of `name` for where not every character may stand; other names get other forms.

    Letters, digits and the characters of `plain` stay (with `only`: all but those of `only`).
    Each other one becomes, byte by byte of its UTF-8, `mark` and two hex digits, and so does
    `mark` itself; the empty name becomes `mark`.
    """

    def stays(char: str) -> bool:
        if char == mark:
            return False
        return char not in only if only is not None else char.isalnum() or char in plain

    parts = [
        char if stays(char) else "".join(f"{mark}{byte:02X}" for byte in char.encode())
        for char in name
    ]
    return "".join(parts) or mark
