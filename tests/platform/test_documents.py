"""What is read from JSON is checked where it comes in."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from reverie.documents import (
    MAX_BYTES,
    MAX_DEPTH,
    from_json,
    json_text,
    parse,
    read_json,
    with_nulls,
)
from reverie.errors import DocumentError
from reverie.types import ActionSpec, ArraySpec, Spaces
from tests.conftest import ROOT


class Pair(NamedTuple):
    first: int
    second: str


@dataclass(frozen=True, slots=True)
class Saved:
    pairs: list[Pair]
    count: int = 3
    names: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


def test_plain_values_become_what_was_asked_for() -> None:
    text = json.dumps({"pairs": [[1, "a"]], "names": {"x": [4, 5]}, "unknown": 0})
    assert parse(Saved, json.loads(text), "run") == Saved([Pair(1, "a")], 3, {"x": (4, 5)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, r"run\.pairs: .*required"),
        ({"pairs": [[1, "a"], ["b", "c"]]}, r"run\.pairs\.1\.0: .*integer.*, got 'b'"),
        ({"pairs": [], "count": 0.5}, r"run\.count: .*got 0\.5"),
        ([], r"run: .*got \[\]"),
    ],
)
def test_what_does_not_belong_there_is_named(value, message) -> None:
    with pytest.raises(DocumentError, match=message):
        parse(Saved, value, "run")


def test_spaces_come_back_from_json() -> None:
    obs = {"image": ArraySpec((64, 64, 3), "uint8"), "proprio": ArraySpec((5,), "float32")}
    for action in (ActionSpec("box", width=2), ActionSpec("multidiscrete", (3, 4))):
        spaces = Spaces(obs, action)
        assert Spaces.from_json(json.loads(json.dumps(spaces.to_json()))) == spaces


def test_spaces_of_another_kind_are_refused() -> None:
    tree = Spaces({}, ActionSpec("box", width=2)).to_json()
    tree["action"] = {"kind": "text", "num": [], "width": 2}
    with pytest.raises(DocumentError, match=r"spaces\.action\.kind: .*got 'text'"):
        Spaces.from_json(tree)


def test_json_is_read_as_deep_as_it_may_be(tmp_path: Path) -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    value = {"text": '[[[\\"{{{\\\\', "more": [{"a": "]"}] * 3, "ü": None}
    for text in (deep, json.dumps(value), json.dumps(value, ensure_ascii=False)):
        (tmp_path / "a.json").write_text(text)
        assert read_json(tmp_path / "a.json") == json.loads(text)
    with pytest.raises(ValueError, match="Expecting"):
        from_json(b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "at most 64 levels, got 100000"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "at most 64 levels, got 65"),
        (b'["' + b"[" * 100 + b'",' + b"[" * 70 + b"]" * 71, "at most 64 levels, got 71"),
        (b'["\\\\", ' + b"[" * 70 + b"]" * 71, "at most 64 levels, got 71"),
        (b" " * (MAX_BYTES + 1), f"at most {MAX_BYTES} bytes"),
    ],
    ids=["open", "objects", "beside text", "behind a backslash", "long"],
)
def test_json_that_is_too_deep_or_too_long_is_not_decoded(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(data)


def test_of_a_file_that_is_too_long_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse: takes no room
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES} bytes"):
        read_json(path)


def test_json_never_holds_what_json_does_not_have(caplog: pytest.LogCaptureFixture) -> None:
    figures = {"score": math.inf, "returns": [1.0, math.nan], "fine": {"deep": (2, None, "NaN")}}
    with pytest.raises(ValueError, match="score: expected a number that JSON has, got inf"):
        json_text(figures)
    nulled = with_nulls(figures, "summary.json")
    assert json.loads(json_text(nulled)) == {
        "score": None,
        "returns": [1.0, None],
        "fine": {"deep": [2, None, "NaN"]},
    }
    assert "summary.json: not finite and written as null: score=inf, returns.1=nan" in caplog.text
    assert with_nulls({"score": 1.0}, "x") == {"score": 1.0}
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text({"x": object()})


def test_there_is_one_writer() -> None:
    """Of what pydantic reads next there is another."""
    found = {
        path.relative_to(ROOT / "platform/reverie").as_posix()
        for path in (ROOT / "platform/reverie").rglob("*.py")
        if re.search(r"json\.dumps?\(", path.read_text())
    }
    assert found == {"documents.py", "config_check.py"}
