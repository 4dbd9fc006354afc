"""Checkpoints against crashes, full disks and damaged files."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import fs

from reverie.checkpoint import Checkpoint, CheckpointError, CheckpointStore, FileEntry
from reverie.storage import Storage


class FullDisk(Storage):
    """Writes `budget` bytes, then fails; deleting frees nothing."""

    budget = 10**12

    def write_atomic(self, name: str, data: bytes | memoryview) -> None:
        FullDisk.budget -= len(data)
        if FullDisk.budget < 0:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        super().write_atomic(name, data)


def state(number: int) -> dict[str, Any]:
    weight = torch.full((300,), float(number))
    return {"net": {"weight": weight, "steps": number}, "moments": [weight * 2, None, "adam"]}


def chunk_name(number: int) -> str:
    return f"replay/shard0-{number:06d}.arrow"


def save(store: CheckpointStore, storage: Storage, number: int, chunks: list[int]) -> None:
    """Save checkpoint `number`, whose newest chunk file is written just before."""
    storage.write_atomic(chunk_name(number), b"chunk %d" % number)
    files = [chunk_name(chunk) for chunk in chunks]
    store.save(number, {"learner": state(number)}, {"run": {"number": number}}, files)


def check(checkpoint: Checkpoint | None, number: int) -> None:
    assert checkpoint is not None
    assert checkpoint.number == number
    tensors = checkpoint.tensors("learner")
    assert torch.equal(tensors["net"]["weight"], state(number)["net"]["weight"])
    assert tensors["net"]["steps"] == number
    assert checkpoint.document("run") == {"number": number}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "run")


@pytest.fixture
def three(storage: Storage) -> Storage:
    """A run with checkpoints 1, 2, 3, each needing its own chunk file and those before."""
    store = CheckpointStore(storage, keep=3)
    for number in (1, 2, 3):
        save(store, storage, number, list(range(1, number + 1)))
    return storage


def part(number: int, name: str) -> str:
    return f"checkpoints/{number:08d}/{name}"


@pytest.mark.parametrize("remote", [False, True])
def test_what_is_saved_is_loaded(tmp_path: Path, remote: bool) -> None:
    storage = Storage("bucket/run", fs._MockFileSystem()) if remote else Storage(tmp_path)
    store = CheckpointStore(storage, keep=2)
    assert store.latest() is None
    assert store.next_number() == 1
    for number in (1, 2, 3):
        save(store, storage, number, [number])
    checkpoint = CheckpointStore(storage, keep=2).latest()
    check(checkpoint, 3)
    assert checkpoint is not None
    assert checkpoint.files == [chunk_name(3)]
    assert checkpoint.read_file(chunk_name(3)) == b"chunk 3"
    check(store.load(2), 2)
    assert store.numbers() == [2, 3]
    assert store.next_number() == 4


def test_manifest_lists_every_part(three: Storage) -> None:
    manifest = json.loads(three.read(part(3, "manifest.json")))
    assert manifest["format"] == 1
    for entry in manifest["parts"]:
        data = three.read(part(3, entry["name"]))
        assert (entry["size"], entry["crc32"]) == (len(data), zlib.crc32(data))
    assert {entry["name"] for entry in manifest["parts"]} == {"learner.pt", "run.json"}
    assert manifest["files"][2]["crc32"] == zlib.crc32(b"chunk 3")


def test_manifest_is_written_last(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Storage.write_atomic

    def record(self: Storage, name: str, data: bytes | memoryview) -> None:
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(Storage, "write_atomic", record)
    save(CheckpointStore(storage, 1), storage, 1, [1])
    assert written[-1] == part(1, "manifest.json")
    assert len(written) == 4


@pytest.mark.parametrize("name", ["learner", "nothing"])
def test_unknown_part_is_named(three: Storage, name: str) -> None:
    with pytest.raises(KeyError, match="learner"):
        CheckpointStore(three, 3).load(3).document(name)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"{}")


def leave_folder(path: Path) -> None:
    path.write_text(path.read_text().replace("learner.pt", "../../x.pt"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (part(3, "learner.pt"), truncate),
        (part(3, "learner.pt"), flip),
        (part(3, "learner.pt"), Path.unlink),
        (part(3, "run.json"), flip),
        (part(3, "manifest.json"), truncate),
        (part(3, "manifest.json"), empty),
        (part(3, "manifest.json"), leave_folder),
    ],
)
def test_damaged_checkpoint_falls_back_to_the_one_before(
    three: Storage, name: str, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert three.local_path is not None
    damage(three.local_path / name)
    with caplog.at_level(logging.ERROR):
        check(CheckpointStore(three, 3).latest(), 2)
    assert len(caplog.records) == 1
    assert name in caplog.text
    assert "checkpoint 3 is broken" in caplog.text
    assert "checkpoint 2 is used" in caplog.text


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip])
def test_a_damaged_replay_file_breaks_no_checkpoint(
    damage: Any, three: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    assert three.local_path is not None
    damage(three.local_path / chunk_name(3))
    check(CheckpointStore(three, 3).latest(), 3)
    assert not caplog.records


def test_only_the_parts_that_are_needed_are_verified(three: Storage) -> None:
    assert three.local_path is not None
    flip(three.local_path / part(3, "learner.pt"))
    found = CheckpointStore(three, 3).latest(["run.json"])
    assert found is not None
    assert found.document("run") == {"number": 3}
    check(CheckpointStore(three, 3).latest(), 2)
    with pytest.raises(CheckpointError, match=r"policy\.pt: no such part"):
        CheckpointStore(three, 3).latest(["policy.pt"])


def test_a_number_that_is_not_there_is_refused_with_those_that_are(three: Storage) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 7; there are \[1, 2, 3\]"):
        CheckpointStore(three, 3).load(7)


def test_what_is_set_aside_counts_no_longer_and_goes_with_the_next_save(three: Storage) -> None:
    store = CheckpointStore(three, keep=2)
    check(store.load(1), 1)
    assert store.set_aside(1) == [2, 3]
    check(store.latest(), 1)
    save(store, three, store.next_number(), [4])
    assert store.numbers() == [1, 4]
    assert not [name for name in three.list("checkpoints") if "0000003" in name]


def test_without_manifest_it_does_not_exist(
    three: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    three.delete(part(3, "manifest.json"))
    check(CheckpointStore(three, 3).latest(), 2)
    assert not caplog.records


def test_all_broken_names_every_file(three: Storage) -> None:
    assert three.local_path is not None
    for number, name in enumerate(("learner.pt", "run.json", "learner.pt"), 1):
        flip(three.local_path / part(number, name))
    with pytest.raises(CheckpointError) as caught:
        CheckpointStore(three, 3).latest()
    for name in (part(1, "learner.pt"), part(2, "run.json"), part(3, "learner.pt")):
        assert name in str(caught.value)


def test_file_damaged_after_verification_is_found(three: Storage) -> None:
    assert three.local_path is not None
    checkpoint = CheckpointStore(three, 3).load(3)
    flip(three.local_path / chunk_name(3))
    with pytest.raises(CheckpointError, match="crc32"):
        checkpoint.read_file(chunk_name(3))


def test_newer_format_is_refused(three: Storage) -> None:
    name = part(3, "manifest.json")
    three.write_atomic(name, three.read(name).replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(CheckpointError, match="expected format 1, got 2"):
        CheckpointStore(three, 3).load(3)


def test_old_checkpoints_and_unnamed_chunks_go(storage: Storage) -> None:
    store = CheckpointStore(storage, keep=2)
    for number in range(1, 5):
        save(store, storage, number, [max(1, number - 1), number])
    assert store.numbers() == [3, 4]
    assert storage.list("replay") == [chunk_name(2), chunk_name(3), chunk_name(4)]
    storage.write_atomic("metrics.jsonl", b"kept")
    save(store, storage, 5, [])
    save(store, storage, 6, [])
    assert storage.list("replay") == []
    assert storage.exists("metrics.jsonl")


def test_chunk_written_while_saving_stays(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(storage, keep=1)
    write = Storage.write_atomic

    def meanwhile(self: Storage, name: str, data: bytes | memoryview) -> None:
        write(self, name, data)
        if name.endswith(".pt"):
            write(self, chunk_name(9), b"for the next save")

    monkeypatch.setattr(Storage, "write_atomic", meanwhile)
    save(store, storage, 1, [1])
    assert storage.exists(chunk_name(9))


def test_broken_checkpoint_does_not_count_as_kept(three: Storage) -> None:
    assert three.local_path is not None
    flip(three.local_path / part(3, "learner.pt"))
    store = CheckpointStore(three, keep=2)
    check(store.latest(), 2)
    save(store, three, 4, [4])
    assert store.numbers() == [2, 3, 4]
    save(store, three, 5, [5])
    assert store.numbers() == [4, 5]


def test_broken_one_is_found_when_thinning_out_without_latest(three: Storage) -> None:
    assert three.local_path is not None
    truncate(three.local_path / part(3, "learner.pt"))
    store = CheckpointStore(three, keep=2)
    save(store, three, 4, [4])
    assert store.numbers() == [2, 3, 4]
    check(store.load(2), 2)


def test_taken_number_is_refused_but_a_broken_one_is_replaced(three: Storage) -> None:
    assert three.local_path is not None
    store = CheckpointStore(three, keep=3)
    with pytest.raises(ValueError, match="expected 4 or above"):
        save(store, three, 3, [1])
    flip(three.local_path / part(3, "learner.pt"))
    flip(three.local_path / part(2, "learner.pt"))
    check(store.latest(), 1)
    save(store, three, 2, [1])
    assert store.numbers() == [1, 2]
    check(CheckpointStore(three, keep=3).latest(), 2)


def test_abandoned_partial_folder_is_removed(storage: Storage) -> None:
    storage.write_atomic(part(1, "learner.pt"), b"half")
    store = CheckpointStore(storage, keep=2)
    assert store.latest() is None
    save(store, storage, store.next_number(), [])
    assert store.numbers() == [2]
    assert not storage.exists(part(1, "learner.pt"))


def test_leftovers_of_the_same_number_are_not_mixed_in(storage: Storage) -> None:
    storage.write_atomic(part(1, "old.pt"), b"half")
    save(CheckpointStore(storage, keep=2), storage, 1, [])
    assert not storage.exists(part(1, "old.pt"))


def test_partial_folder_that_cannot_be_removed_is_no_checkpoint(
    three: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(three, keep=3)
    write, delete = Storage.write_atomic, Storage.delete_folder
    failing = {"on": False}

    def fail_manifest(self: Storage, name: str, data: bytes | memoryview) -> None:
        if name.endswith("manifest.json"):
            failing["on"] = True
            raise OSError(errno.ENOSPC, "No space left on device", name)
        write(self, name, data)

    def fail_delete(self: Storage, name: str) -> None:
        if failing["on"]:
            raise OSError(errno.EIO, "disk gone", name)
        delete(self, name)

    monkeypatch.setattr(Storage, "write_atomic", fail_manifest)
    monkeypatch.setattr(Storage, "delete_folder", fail_delete)
    with pytest.raises(CheckpointError, match="No space left"):
        store.save(4, {"learner": state(4)}, {}, [])
    assert "partial folder left behind" in caplog.text
    monkeypatch.undo()
    assert store.numbers() == [1, 2, 3]
    check(store.latest(), 3)
    save(store, three, 5, [])
    assert store.numbers() == [2, 3, 5]
    assert three.list(part(4, "")) == []


def test_full_disk_keeps_what_was_saved(tmp_path: Path) -> None:
    storage = FullDisk(tmp_path)
    FullDisk.budget = 10**12
    store = CheckpointStore(storage, keep=1)
    save(store, storage, 1, [1])
    before = storage.list()
    parts = [len(storage.read(name)) for name in before if name.startswith("checkpoints")]
    for budget in range(0, sum(parts) - 300, 250):
        FullDisk.budget = budget
        with pytest.raises(CheckpointError, match="No space left") as caught:
            store.save(2, {"learner": state(2)}, {"run": {"number": 2}}, [])
        assert isinstance(caught.value.__cause__, OSError)
        assert storage.list() == before
        check(CheckpointStore(storage, keep=1).latest(), 1)
    FullDisk.budget = 10**12
    store.save(2, {"learner": state(2)}, {"run": {"number": 2}}, [])
    check(CheckpointStore(storage, keep=1).latest(), 2)


def test_missing_chunk_file_fails_the_save(three: Storage) -> None:
    store = CheckpointStore(three, keep=3)
    with pytest.raises(CheckpointError, match=chunk_name(7)):
        store.save(4, {}, {}, [chunk_name(7)])
    check(store.latest(), 3)


def test_crash_in_torch_leaves_no_partial_folder(
    three: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(torch, "save", fail)
    store = CheckpointStore(three, keep=3)
    with pytest.raises(RuntimeError, match="device lost"):
        save(store, three, 4, [])
    assert three.list(part(4, "")) == []
    assert store.numbers() == [1, 2, 3]


def test_chunk_files_are_read_for_their_crc_once(
    three: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(three, keep=3)
    store.latest()
    opened: list[str] = []
    open_input = Storage.open_input

    def record(self: Storage, name: str) -> Any:
        opened.append(name)
        return open_input(self, name)

    monkeypatch.setattr(Storage, "open_input", record)
    three.write_atomic("replay/told.arrow", b"xyz")
    told = FileEntry("replay/told.arrow", 3, zlib.crc32(b"xyz"))
    three.write_atomic(chunk_name(4), b"chunk 4")
    store.save(4, {}, {}, [*map(chunk_name, (1, 2, 3, 4)), told])
    assert [name for name in opened if name.startswith("replay")] == [chunk_name(4)]
    found = CheckpointStore(three, keep=3).latest()
    assert found is not None
    assert found.read_file("replay/told.arrow") == b"xyz"


def test_failed_save_does_not_remember_rewritten_chunks(tmp_path: Path) -> None:
    storage = FullDisk(tmp_path)
    FullDisk.budget = 500
    store = CheckpointStore(storage, keep=1)
    storage.write_atomic(chunk_name(1), b"first")
    with pytest.raises(CheckpointError):
        store.save(1, {"learner": state(1)}, {}, [chunk_name(1)])
    FullDisk.budget = 10**12
    storage.write_atomic(chunk_name(1), b"again")
    store.save(1, {"learner": state(1)}, {}, [chunk_name(1)])
    assert store.load(1).read_file(chunk_name(1)) == b"again"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, np.float64(1.0)]}, r"learner\.a\[1\].*numpy\.float64"),
        ({"a": {"b": np.zeros(2)}}, r"learner\.a\.b.*numpy\.ndarray"),
        ({"a": Path("x")}, r"learner\.a.*Path"),
        ({np.int64(1): 0}, r"learner: key .*numpy\.int64"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(storage: Storage, value: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        CheckpointStore(storage, 1).save(1, {"learner": value}, {})
    assert storage.list() == []


def test_what_json_cannot_hold_is_named(storage: Storage) -> None:
    with pytest.raises(TypeError, match="document 'run'"):
        CheckpointStore(storage, 1).save(1, {}, {"run": np.float32(1)})
    with pytest.raises(ValueError, match="manifest"):
        CheckpointStore(storage, 1).save(1, {}, {"manifest": 1})


def test_optimizer_and_generator_states_survive(storage: Storage) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    rng = np.random.Generator(np.random.PCG64(3)).bit_generator.state
    tensors = {
        "optimizer": optimizer.state_dict(),
        "module": torch.nn.BatchNorm1d(2).state_dict(),
        "generator": {"torch": torch.Generator().get_state()},
    }
    store = CheckpointStore(storage, 1)
    store.save(1, tensors, {"rng": rng})
    loaded = store.load(1)
    assert loaded.document("rng") == rng
    again = torch.optim.AdamW([weight])
    again.load_state_dict(loaded.tensors("optimizer"))
    assert torch.equal(again.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])
    torch.nn.BatchNorm1d(2).load_state_dict(loaded.tensors("module"))
    assert torch.equal(loaded.tensors("generator")["torch"], tensors["generator"]["torch"])


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle_was_executed",)


def test_nothing_is_unpickled(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore(storage, 1)
    buffer = io.BytesIO()
    torch.save({"x": Malicious()}, buffer)
    monkeypatch.setattr("reverie.checkpoint.encode_tensors", lambda _: buffer.getbuffer())
    store.save(1, {"learner": {}}, {})
    with pytest.raises(CheckpointError, match=r"00000001/learner\.pt: expected tensors"):
        store.load(1).tensors("learner")
    assert not (tmp_path / "pickle_was_executed").exists()


def test_documents_of_any_depth_are_not_decoded(storage: Storage) -> None:
    store = CheckpointStore(storage, 1)
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    store.save(1, {}, {"record": deep})
    with pytest.raises(CheckpointError, match=r"00000001/record\.json: .* 64 levels, got 101"):
        store.load(1).document("record")
    storage.write_atomic("checkpoints/00000001/manifest.json", b"[" * 100_000)
    with pytest.raises(CheckpointError, match=r"manifest\.json: no manifest: .* 64 levels"):
        CheckpointStore(storage, 1).load(1)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_not_finite_is_not_loaded(storage: Storage, value: float) -> None:
    store = CheckpointStore(storage, 1)
    moments = [{"exp_avg": torch.tensor([0.0, value])}]
    store.save(1, {"learner": {"net": torch.ones(2), "moments": moments}}, {})
    with pytest.raises(CheckpointError, match=r"learner/moments/0/exp_avg is NaN.*--checkpoint"):
        store.load(1).tensors("learner")


def test_what_is_saved_after_an_error_takes_no_good_one_s_place(three: Storage) -> None:
    store = CheckpointStore(three, keep=2)
    for number in (4, 5, 6):  # a job that is requeued and fails as soon
        store.save(number, {"learner": state(number)}, {"run": {}}, provisional=True)
        assert store.numbers() == [2, 3, number]
        store = CheckpointStore(three, keep=2)
    assert three.exists(chunk_name(3))
    save(store, three, 7, [7])
    assert store.numbers() == [3, 7]


def test_keep_must_be_positive(storage: Storage) -> None:
    with pytest.raises(ValueError, match="got 0"):
        CheckpointStore(storage, 0)


def test_reading_checkpoints_needs_no_torch(three: Storage) -> None:
    code = (
        "import sys; from reverie.checkpoint import CheckpointStore; "
        "from reverie.storage import Storage; "
        f"c = CheckpointStore(Storage({three.uri!r}), 1).latest(); "
        "assert c.document('run') == {'number': 3}; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


SAVER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from test_checkpoint import save
from reverie.checkpoint import CheckpointStore
from reverie.storage import Storage

storage = Storage(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        store = CheckpointStore(storage, keep=2)
        while True:
            number = store.next_number()
            save(store, storage, number, [number])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_killed_while_saving(storage: Storage) -> None:
    """A forked saver gets SIGKILL at a random moment, 15 times over."""
    rng = random.Random(0)
    command = [sys.executable, "-c", SAVER, storage.uri, str(Path(__file__).parent)]
    seen, partial = 0, 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        for _ in range(15):
            print(file=saver.stdin, flush=True)
            child = int(saver.stdout.readline())
            wait_for_checkpoint(storage, seen)
            time.sleep(rng.uniform(0, 0.03))
            os.kill(child, 9)
            assert saver.stdout.readline() == "dead\n"
            store = CheckpointStore(storage, keep=2)
            found = store.latest()
            assert found is not None
            check(found, found.number)
            assert found.read_file(chunk_name(found.number)) == b"chunk %d" % found.number
            partial += store.next_number() > found.number + 1
            assert found.number > seen
            seen = found.number
        saver.stdin.close()
    assert partial > 0, "no save was ever interrupted: the test did not test"


def wait_for_checkpoint(storage: Storage, above: int) -> None:
    store = CheckpointStore(storage, keep=2)
    for _ in range(2_000):
        if max(store.numbers(), default=0) > above:
            return
        time.sleep(0.005)
    raise TimeoutError(f"{storage}: no checkpoint above {above} in 10 s")
