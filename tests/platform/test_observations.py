"""What a policy takes as an observation, and what it refuses to guess."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reverie.native_spaces import NativeAction, NativeObs, NativeSpaces
from reverie.observations import ObservationReader, check_native
from reverie.types import ActionSpec, ArraySpec, Spaces

ACTION = NativeAction("discrete", (), "int64", start=(5,))
SPACES = Spaces(
    {
        "image": ArraySpec((8, 9, 1), "uint8"),
        "arm_q": ArraySpec((4,), "float32"),
        "place": ArraySpec((3,), "float32"),
    },
    ActionSpec("discrete", (2,)),
    NativeSpaces(
        {
            "image": NativeObs(("image",), (8, 9), "uint8"),
            "arm_q": NativeObs(("arm", "q"), (2, 2), "float64"),
            "place": NativeObs(("place",), (), "int64", first=-1),
        },
        ACTION,
    ),
)
IMAGE = np.arange(72, dtype=np.uint8).reshape(8, 9)
NATIVE = {"image": IMAGE, "arm": {"q": np.array([[0.5, 1], [2, 3]])}, "place": np.int64(1)}
SEEN = {
    "image": IMAGE[..., None],
    "arm_q": np.array([0.5, 1, 2, 3], np.float32),
    "place": np.array([0, 0, 1], np.float32),
}


def one(shape: tuple[int, ...], dtype: str, value: Any) -> Any:
    """What is read of the only key, which the environment declares like that."""
    size = (int(np.prod(shape)),)
    spec = ArraySpec(shape, dtype) if len(shape) == 3 else ArraySpec(size, "float32")
    native = NativeSpaces({"x": NativeObs((), shape, dtype)}, ACTION)
    rows, _ = ObservationReader(Spaces({"x": spec}, SPACES.action, native)).read(value)
    return rows["x"]


@pytest.mark.parametrize("obs", [NATIVE, SEEN, NATIVE | {"more": "left aside"}])
def test_what_the_environment_gives_and_what_the_agent_saw_are_the_same(obs: Any) -> None:
    rows, single = ObservationReader(SPACES).read(obs)
    assert single
    assert list(rows) == list(SEEN)
    for key, value in rows.items():
        np.testing.assert_array_equal(value, SEEN[key][None])
        assert value.dtype == SPACES.obs[key].dtype


def test_a_batch_of_either_is_a_batch() -> None:
    for arm in ({"arm": {"q": np.zeros((5, 2, 2))}}, {"arm_q": np.zeros((5, 4), np.float32)}):
        obs = {"image": np.stack([IMAGE] * 5), "place": np.array([-1, 0, 1, 1, 0]), **arm}
        rows, single = ObservationReader(SPACES).read(obs)
        assert not single
        assert rows["image"].shape == (5, 8, 9, 1)
        assert rows["place"].argmax(1).tolist() == [0, 1, 2, 2, 1]


def test_a_flipped_picture_can_be_given_to_torch() -> None:
    rows, _ = ObservationReader(SPACES).read(NATIVE | {"image": IMAGE[::-1, ::-1]})
    assert torch.from_numpy(rows["image"])[0, 0, 0] == IMAGE[-1, -1]


def test_as_many_discrete_numbers_as_there_are_choices_are_a_batch() -> None:
    native = NativeSpaces({"x": NativeObs((), (), "int64", first=0)}, ACTION)
    reader = ObservationReader(Spaces({"x": ArraySpec((3,), "float32")}, SPACES.action, native))
    rows, single = reader.read(np.array([0, 0, 1]))
    assert (single, rows["x"].argmax(1).tolist()) == (False, [0, 0, 1])
    rows, single = reader.read(np.array([0.0, 0.0, 1.0]))
    assert (single, rows["x"].tolist()) == (True, [[0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": IMAGE / np.float32(255)}, "'image': expected uint8 .*float32 .*np.rint"),
        ({"image": np.zeros((8, 9))}, "'image': expected uint8 .*float64"),
        ({"image": np.full((8, 9), 256)}, "'image': expected uint8 .*from 256 to 256"),
        ({"image": np.full((8, 9), -1)}, "'image': expected uint8"),
        ({"image": np.ones((8, 9), bool)}, "'image': expected uint8 .*bool"),
        ({"image": np.zeros((9, 8), np.uint8)}, r"expected \(8, 9\) or \[N, \*\(8, 9\)\], got"),
        ({"arm": {"q": np.array([["a", "b"]] * 2)}}, "'arm_q': expected float64"),
        ({"arm": {"q": np.full((2, 2), 1e39)}}, "'arm_q' is not finite as float32"),
        ({"place": np.int64(2)}, "'place': expected whole numbers from -1 to 1, got int64"),
        ({"place": 0.5}, "'place': expected int64"),
        ({"arm": {}}, r"lacks \['arm_q'\], got \['arm', 'image', 'place'\]; give it as"),
        ({"image": np.stack([IMAGE] * 2)}, r"differ in their batch axes, got .*\(2,\)"),
    ],
)
def test_what_would_lose_something_is_refused(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ObservationReader(SPACES).read(NATIVE | change)


def test_an_array_for_many_keys_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a dict with the keys .*got ndarray"):
        ObservationReader(SPACES).read(IMAGE)


def test_numbers_may_be_written_in_another_width_or_as_integers() -> None:
    assert one((3,), "float32", [1, 2, 3]).tolist() == [[1, 2, 3]]
    assert one((3,), "float32", np.zeros(3)).dtype == np.float32
    assert one((8, 8, 3), "uint8", np.full((8, 8, 3), 200)).dtype == np.uint8
    assert one((), "float32", 0.5).tolist() == [[0.5]]
    with pytest.raises(ValueError, match=r"expected float32 .*uint8"):
        one((8, 8, 1), "float32", np.zeros((8, 8, 1), np.uint8))


def test_a_picture_of_floats_that_was_learned_as_bytes_is_scaled() -> None:
    native = NativeSpaces({"x": NativeObs((), (8, 8), "float32", brightest=1.0)}, ACTION)
    spaces = Spaces({"x": ArraySpec((8, 8, 1), "uint8")}, SPACES.action, native)
    check_native(spaces)
    reader = ObservationReader(spaces)
    for count in ((), (3,)):
        rows, _ = reader.read(np.full((*count, 8, 8), 0.5, np.float32))
        assert rows["x"].shape == (*(count or (1,)), 8, 8, 1)
        assert (rows["x"].dtype, set(rows["x"].flat)) == (np.uint8, {128})
    assert reader.read(np.full((8, 8, 1), 7, np.uint8))[0]["x"].max() == 7
    with pytest.raises(ValueError, match="'x' is not finite"):
        reader.read(np.full((8, 8), np.nan, np.float32))


@pytest.mark.parametrize("count", [(), (3,)])
def test_a_picture_is_resized_as_in_training(count: tuple[int, ...]) -> None:
    pytest.importorskip("cv2")
    native = NativeSpaces({"x": NativeObs((), (8, 16), "float32", None, 1.0, 4)}, ACTION)
    spaces = Spaces({"x": ArraySpec((4, 4, 1), "uint8")}, SPACES.action, native)
    check_native(spaces)
    picture = np.zeros((*count, 8, 16), np.float32)
    picture[..., :6] = 1.0
    rows, _ = ObservationReader(spaces).read(picture)
    assert rows["x"].shape == (*(count or (1,)), 4, 4, 1)
    assert rows["x"][0, 0, :, 0].tolist() == [255, 128, 0, 0]
    small = np.full((*count, 4, 4, 1), 7, np.uint8)
    assert ObservationReader(spaces).read(small)[0]["x"].max() == 7


@pytest.mark.parametrize(
    ("obs", "action", "words"),
    [
        ({"arm_q": None}, {}, r"native.obs: expected \['arm_q', 'image', 'place'\]"),
        ({"image": NativeObs(("image",), (7, 9), "uint8")}, {}, "expected 72 numbers"),
        ({"image": NativeObs(("image",), (-8, -9), "uint8")}, {}, "expected 72 numbers"),
        ({"image": NativeObs(("image",), (8, 9), "float32", None, 0.0)}, {}, "brightness above"),
        ({"image": NativeObs(("image",), (8, 9), "uint8", size=8)}, {}, "expected a picture"),
        ({"image": NativeObs(("image",), (8, 9), "object")}, {}, "a dtype of numbers"),
        ({"place": NativeObs(("place",), (3,), "int64", 0)}, {}, "expected 1 numbers"),
        ({}, {"start": (1, 2)}, "native.action: expected a space of"),
        ({}, {"dtype": "O"}, "a dtype of numbers"),
        ({}, {"kind": "box"}, "native.action: expected a space of"),
    ],
)
def test_a_native_side_that_cannot_belong_to_the_agent_is_refused(
    obs: Any, action: Any, words: str
) -> None:
    assert SPACES.native
    check_native(SPACES)
    forms = {key: form for key, form in (SPACES.native.obs | obs).items() if form}
    broken = NativeSpaces(forms, replace(ACTION, **action))
    with pytest.raises(ValueError, match=words):
        check_native(replace(SPACES, native=broken))


def test_both_sides_survive_a_file() -> None:
    assert Spaces.from_json(SPACES.to_json()).native == SPACES.native
