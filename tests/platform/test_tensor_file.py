"""Files of tensors that ask for more than they hold."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch._utils import _rebuild_tensor_v2

from reverie.checkpoint_format import CheckpointError, decode_tensors, encode_tensors
from reverie.tensor_file import MAX_DEPTH, check_tensor_file

TB = 10**12


class Stored:
    """A reference to record `key` of the archive as a storage of so many elements."""

    def __init__(self, elements: int, kind: Any = torch.FloatStorage, key: str = "0") -> None:
        self.pid = ("storage", kind, key, "cpu", elements)


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Stored) else None


def tensor(elements: int, shape: Any, stride: Any, offset: int = 0, kind: Any = None) -> Call:
    storage = Stored(elements, kind or torch.FloatStorage)
    return Call(_rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def written(value: Any, compression: int = zipfile.ZIP_STORED, protocol: int = 2) -> bytes:
    """A file of one record of 16 float32 zeros and a pickle of `value`."""
    document, file = io.BytesIO(), io.BytesIO()
    Pickler(document, protocol).dump(value)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", document.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(64))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def test_what_is_saved_passes_and_comes_back() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    kinds = ["float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "bool", "uint8"]
    state = {
        "whole": whole,
        "turned": whole.t(),
        "part": whole[1:, 2:],
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.0),
        "parameter": torch.nn.Parameter(whole),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "plain": [1, 300, 70_000, 2**40, -(2**80), None, True, 0.5, "x" * 300, b"\xff", (1, 2, 3)],
        "names": [torch.float32, torch.device("cpu"), torch.Size([2, 1])],
        "ordered": OrderedDict(a={"b": ()}),
        "module": torch.nn.Linear(2, 2).state_dict(),  # with an attribute, `_metadata`
        **{kind: torch.zeros(3, dtype=getattr(torch, kind)) for kind in kinds},
        **{f"many{index}": torch.zeros(1) for index in range(300)},
    }
    found = decode_tensors(bytes(encode_tensors(state)), "state", "cpu")
    assert found.keys() == state.keys()
    assert torch.equal(found["turned"], whole.t())
    assert found["plain"] == state["plain"]


def test_the_crafted_files_are_otherwise_as_they_should_be() -> None:
    found = decode_tensors(written({"a": tensor(16, (2, 7), (8, 1), 1)}), "x", "cpu")
    assert found["a"].shape == (2, 7)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (tensor(16, (TB,), (0,)), "storage of 16 elements, got shape .1000000000000,."),
        (tensor(16, (TB,), (1,)), "storage of 16 elements"),
        (tensor(16, (4,), (5,), 1), "storage of 16 elements"),
        (tensor(16, (4,), (-1,), 3), "storage of 16 elements"),
        (tensor(16, (-1,), (1,)), "storage of 16 elements"),
        (tensor(TB, (TB,), (1,)), "64 bytes in record '0', got one of 4000000000000 bytes"),
        (tensor(16, (16,), (1,), kind=torch.DoubleStorage), "got one of 128 bytes"),
        (Call(torch.Tensor, 10**6, 10**6), "got torch.Tensor"),
        (Call(bytearray, TB), r"got (builtins|__builtin__).bytearray"),
        (Call(torch.FloatStorage, TB), "not callable"),
        (Call(torch.Size, 5), "not iterable"),
        (Call(eval, "1"), r"got (builtins|__builtin__).eval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_take_more_than_the_file_holds_is_refused(value: Any, words: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"^run/policy.pt: expected tensors .*{words}"
    ) as got:
        decode_tensors(written({"a": value}), "run/policy.pt", "cpu")
    assert "\n" not in str(got.value)


def laughing(levels: int) -> Any:
    value: Any = [0] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def dressed() -> Any:
    value: Any = OrderedDict()
    value.note = 1
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (laughing(9), "more than 1000000 values"),
        (nested(MAX_DEPTH), "more than 64 dicts and lists"),
        (endless(), "more than 64 dicts and lists"),
        (dressed(), r"attributes \['note'\]"),
    ],
)
def test_values_that_are_no_state_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_tensor_file(written(value))


def archive(**records: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as found:
        for name, record in records.items():
            found.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), record)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (written({}, zipfile.ZIP_DEFLATED), r"not compressed, got 'archive/data\.pkl'"),
        (written({"a": "long enough for a frame"}, protocol=4), "pickle opcode FRAME"),
        (b"\x80\x02}.", r"an archive that torch\.save wrote"),
        (archive(), r"one data\.pkl in the archive, got 0"),
        (archive(a__data_pkl=b"\x80\x02}r\xff\xff\xff\xff."), "got place 4294967295"),
        (archive(a__data_pkl=b"\x80\x02}r"), "."),
    ],
)
def test_archives_are_as_torch_writes_them(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_tensor_file(data)


def test_a_record_that_claims_to_be_larger_than_the_file_is_refused() -> None:
    data = bytearray(written({}))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    for place in (20, 24):  # compressed and uncompressed size in the archive's directory
        data[entry + place : entry + place + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"within the \d+ bytes of the file, got 2147\d+"):
        check_tensor_file(bytes(data))
