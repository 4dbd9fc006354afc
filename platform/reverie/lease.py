"""One writer per run folder: a lease that ends with its owner, on local disks and on NFS.

The lease is a file that only its owner has: it comes to be by a hard link, which succeeds for one
of any number of claimants and needs no lock. Its owner counts up a beat in it every few seconds. On
the owner's machine a lease ends with the owner's process; elsewhere, once its beat has stood still.
Clocks of machines are never compared.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reverie.documents import from_json, json_text, parse
from reverie.errors import DocumentError, RunError
from reverie.storage import naming

log = logging.getLogger(__name__)

LEASE_FILE = "run.lease"
BEAT_S = 4.0
"""Seconds between two beats."""
STALE_S = 20.0
"""Seconds without a beat after which an owner on another machine counts as gone."""
POLL_S = 0.5
"""Seconds between two looks at another's beat."""


class FolderTaken(RunError):
    """Another process writes this run folder; the message names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who holds a lease."""

    id: str
    host: str
    machine: str
    """Boot and process namespace: where it is equal, `pid` means the same process."""
    pid: int
    start: int
    """When the process started, in clock ticks since boot; 0 where that is not known."""
    since: str
    """Local time at which the lease was taken; for people."""
    beat: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


class Lease:
    """The right to write `folder`, held until `release` or the end of this process.

    Waits up to `STALE_S` seconds where an owner on another machine may be gone.

    Raises:
        FolderTaken: another process holds it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEASE_FILE
        self._owner = _this_process()
        self._lost: str | None = None
        _take(self._path, self._owner)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises: FolderTaken, if another process has taken the folder meanwhile."""
        if self._lost is not None:
            raise FolderTaken(self._lost)

    def release(self) -> None:
        """Give the folder back."""
        self._end.set()
        self._thread.join()
        found = _read(self._path)
        if found is not None and found.id == self._owner.id:
            self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._end.wait(BEAT_S):
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            try:
                self._beat()
            except OSError as error:
                # A full or slow disk: the next beat tries again; others wait for several.
                log.warning("%s: no beat: %s", self._path, error)

    def _beat(self) -> None:
        """Write into the file that is open: whatever takes the name meanwhile stays untouched."""
        with contextlib.suppress(FileNotFoundError), self._path.open("r+b") as file:
            found = _parse(file.read())
            if found is None or found.id == self._owner.id:
                file.seek(0)
                file.write(_encode(self._owner))
                file.flush()
                os.fsync(file.fileno())
                return
            self._lost = f"{self._path.parent}: {found} has taken this run folder"
            return
        self._lost = f"{self._path.parent}: the run folder or its {LEASE_FILE} is gone"


def holder(folder: Path) -> Owner | None:
    """Who writes `folder` now; None: nobody. Waits as `Lease` does."""
    owner = _read(folder / LEASE_FILE)
    return owner if owner is not None and _lives(folder / LEASE_FILE, owner) else None


def holders(folders: Iterable[Path], look_in: Path) -> dict[Path, Owner]:
    """Who writes which of `folders` now, without waiting for any of them.

    Where an owner is on another machine, the age of its last beat decides, told by one clock: that
    of the file system, from a file that is made in `look_in` and removed. If that folder cannot be
    written, this waits a little more than `BEAT_S` once, to see which beats go on.
    """
    here = _machine()
    leases = {folder: folder / LEASE_FILE for folder in folders}
    found = {folder: owner for folder, path in leases.items() if (owner := _read(path))}
    near = {folder: owner for folder, owner in found.items() if owner.machine == here}
    far = {folder: owner for folder, owner in found.items() if owner.machine != here}
    live = {folder: owner for folder, owner in near.items() if _lives(leases[folder], owner)}
    if not far:
        return live
    now = _file_system_time(look_in)
    if now is None:
        time.sleep(BEAT_S + 1)
        later = {folder: _read(leases[folder]) for folder in far}
        return live | {k: o for k, o in far.items() if (new := later[k]) and new.beat != o.beat}
    return live | {k: o for k, o in far.items() if now - _written(leases[k]) < STALE_S}


def _file_system_time(folder: Path) -> float | None:
    """What a file that is made now is dated; None where none can be made."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.") as file:
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _written(path: Path) -> float:
    """When a lease was last written; long ago where it is gone."""
    try:
        with path.open("rb") as file:  # on NFS opening asks the server
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return -math.inf


def _take(path: Path, owner: Owner) -> None:
    tmp = path.with_name(f".{path.name}.{owner.id}")
    try:
        with naming(path):
            tmp.write_bytes(_encode(owner))
        while True:
            try:
                os.link(tmp, path)
                return
            except FileExistsError:
                if _inherit(path, owner, tmp):
                    return
    finally:
        tmp.unlink(missing_ok=True)


def _inherit(path: Path, owner: Owner, tmp: Path) -> bool:
    """Put the lease `tmp` in the place of one whose owner is gone; False: look again.

    Of several claimants one becomes the heir, by a lease of its own that is named after the dead
    one: nobody else may replace that, so nobody's living lease is ever replaced.

    Raises:
        FolderTaken: the owner is not gone, or another claimant is the heir.
    """
    found = _read(path)
    if found is not None and _lives(path, found):
        raise FolderTaken(
            f"{path.parent}: {found} writes this run folder; wait for it, end it, or choose"
            " another run.dir"
        )
    dead = None if found is None else found.id
    heir = path.with_name(f".{path.name}.{dead}.heir")
    _take(heir, replace(owner, id=uuid.uuid4().hex))
    try:
        now = _read(path)
        if not path.exists() or dead != (None if now is None else now.id):
            return False
        tmp.replace(path)
        return True
    finally:
        heir.unlink(missing_ok=True)


def _lives(path: Path, owner: Owner) -> bool:
    here = _this_process()
    if owner.machine == here.machine:
        start = _start_of(owner.pid)
        return start is not None and owner.start in (0, start)
    log.info("%s: waiting for a sign of life of %s", path, owner)
    end = time.monotonic() + STALE_S
    while time.monotonic() < end:
        time.sleep(POLL_S)
        found = _read(path)
        if found is None:
            return False
        if (found.id, found.beat) != (owner.id, owner.beat):
            return True
    return False


def _this_process() -> Owner:
    return Owner(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        start=_start_of(os.getpid()) or 0,
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
    )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> int | None:
    """When a process of this machine started, in ticks; None: it has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() or not _exists(pid) else 0
    return None if fields[0] in "ZX" else int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> Owner | None:
    """What a lease says; None where there is none, or it was never written whole."""
    for _ in range(3):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if (owner := _parse(data)) is not None:
            return owner
        time.sleep(0.05)  # perhaps it was just being written
    return None


def _parse(data: bytes) -> Owner | None:
    try:
        return parse(Owner, from_json(data), LEASE_FILE)
    except (ValueError, DocumentError):
        return None


def _encode(owner: Owner) -> bytes:
    """Of equal length from beat to beat, so that it is written over in place."""
    return json_text(asdict(owner)).encode().ljust(512) + b"\n"
