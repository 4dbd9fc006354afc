"""The process of an isolated environment, seen from here: start it, ask it, end it."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from reverie_envs import isolated_child as child
from reverie_envs.wrappers import WrongCode

UNFIT = 78
"""Exit status of an interpreter that cannot run the child (EX_CONFIG of sysexits.h)."""
BOOT = f"""
import sys
if sys.version_info < (3, 8):
    sys.stderr.write("an isolated environment needs Python 3.8 or newer; this is %s"
                     % sys.version.split()[0])
    sys.exit({UNFIT})
try:
    import numpy
except ImportError as error:
    sys.stderr.write("an isolated environment needs numpy (%s): %s -m pip install numpy"
                     % (error, sys.executable))
    sys.exit({UNFIT})
import runpy
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs even on Python 2, so that what is too old can say so. Given to `python -c`, it leaves the
current folder first in `sys.path`, and not the folder of this file."""
PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|LANG|LANGUAGE|LC_\w+|TMPDIR|TEMP|TMP|XDG_\w+"
    r"|LD_LIBRARY_PATH|LIBRARY_PATH|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY"
    r"|(CUDA|NVIDIA|HIP|ROCR|OMP|MKL|OPENBLAS|NUMEXPR|MUJOCO|PYOPENGL|EGL|LIBGL|MESA|GALLIUM"
    r"|VK|__GLX|__EGL|__GL|SDL|QT|MINERL|MINEDOJO|MALMO|ROBOSUITE|GYM|ALE)_\w+"
    r"|PYTHONHASHSEED|PYTHONDONTWRITEBYTECODE|SSL_CERT_FILE|SSL_CERT_DIR"
    r"|JAVA_HOME|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|MAX_THREADS|ASSET_PATH"
)
"""Names of the variables that the process inherits. None of them should hold a secret, nor lead the
other Python to the packages of this one."""
SECRET = re.compile(r"(?i)(^|_)(token|secret|passw(or)?d|api_?key|credentials?)(_|$)")
"""Names that are not passed on although `PASSED` would."""
CLOSE_S = 5.0
"""Seconds that an environment may take to close before it is killed."""
STACK_S = 0.5
"""Seconds given to a hanging process to write where it hangs."""
LOG_BYTES, TAIL_BYTES = 1 << 20, 2000
MAX_TEXT = 64 << 20
"""Bytes of text in one answer; bounds of a large space take a few million."""
GLANCE_S = 1.0
"""Seconds after which a wait looks whether what is printed fills the disk."""
SHRINK_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SHRINK") else 0
"""Keep the memory from being taken away: reading it then would end this process by SIGBUS."""
MAX_SHOWN = 20_000
"""Characters of a message of the environment that are shown."""
RAISES: dict[bytes, type[Exception]] = {}


class IsolatedFailed(RuntimeError):
    """The environment raised, its process died, or it did not answer in time."""


RAISES |= {
    child.RAISED: IsolatedFailed,
    child.BREACH: WrongCode,
    child.REFUSED: ValueError,
    child.MISSING: ImportError,
}


class Answer(NamedTuple):
    """What a request brought; the arrays lie in the shared memory."""

    text: str
    reward: float
    terminated: bool
    truncated: bool


class IsolatedProcess:
    """One process of another interpreter that serves one environment.

    It leads a process group of its own, so that what the environment starts ends with it. What it
    prints goes to a file without a name; its end is quoted when something fails.

    Args:
        python: interpreter, as `find_python` returns it.
        name: what error messages call the environment.
        answer_s: seconds any answer may take, from the request to its last byte.
        variables: of its surroundings, beside those that `PASSED` names.
    """

    def __init__(
        self, python: str, name: str, answer_s: float, variables: Mapping[str, str]
    ) -> None:
        self._python, self._name, self._answer_s = python, name, answer_s
        self._log = _nameless_file()
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)  # truncating it moves the writer back
        self._memory = _memory_file()
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        fds = (theirs_in, theirs_out, self._memory)
        try:
            self._process = self._start(fds, variables)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
            ours = (self._requests, self._answers, self._memory, self._log)
            started = getattr(self, "_process", None)
            self._end = weakref.finalize(self, _end, started, ours)
        os.set_blocking(self._requests, False)
        self._may_send, self._may_receive = select.poll(), select.poll()
        self._may_send.register(self._requests, select.POLLOUT)
        self._may_receive.register(self._answers, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone; it never comes back."""
        return not self._end.alive

    def ask(self, what: str, command: bytes, values: Mapping[str, Any] | None = None) -> Answer:
        """Send a request and wait for its answer, at most `answer_s` seconds.

        Args:
            what: word for it in messages, e.g. "step".
            command: `b` build, `r` reset, `s` step; see `isolated_child.Server`.
            values: arguments of the command, JSON-able.

        Raises:
            ContractError: an array of another shape or dtype than declared, no number as reward.
            ValueError: an environment or space that is not supported.
            ImportError: a module or package is missing there.
            IsolatedFailed: it raised, died or hung; after the latter two the process is ended.
        """
        if self.ended:
            raise IsolatedFailed(f"{self._name}: {what} was asked of a process that has ended")
        payload = json.dumps(values).encode() if values else b""
        deadline = time.monotonic() + self._answer_s
        try:
            self._send(child.REQUEST.pack(command, len(payload)) + payload, what, deadline)
            head = self._receive(child.ANSWER.size, what, deadline)
            status, size, reward, terminated, truncated = child.ANSWER.unpack(head)
            if size > MAX_TEXT or status not in (child.OK, *RAISES):
                raise self.nonsense(what, f"status {status!r} and {size} bytes of text")
            text = self._receive(size, what, deadline).decode()
        except UnicodeDecodeError:
            raise self.nonsense(what, "text that is not UTF-8") from None
        except (OSError, EOFError):
            raise self._death(what) from None
        if status != child.OK:
            raise RAISES[status](f"{self._name}: {_worded(status, what, text)}")
        return Answer(text, reward, terminated, truncated)

    def read_json(self, text: str, what: str) -> Any:
        """What an answer holds beside its arrays. Raises: IsolatedFailed where it is no JSON."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.nonsense(what, f"text that is no JSON ({error})") from None

    def map(self, size: int) -> mmap.mmap:
        """Map the shared memory once its size is known.

        Raises: IsolatedFailed, where there is less.
        """
        if SHRINK_SEALS:
            with suppress(OSError):  # sealed by the other side already, and perhaps otherwise
                fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, SHRINK_SEALS)
            if not fcntl.fcntl(self._memory, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise self.nonsense("building", "shared memory that can be taken away")
        if not 0 < size <= os.fstat(self._memory).st_size:
            raise self.nonsense("building", f"{size} bytes of shared memory that are not there")
        return mmap.mmap(self._memory, size)

    def trim_log(self) -> None:
        """Keep what the environment prints from filling the disk."""
        if os.fstat(self._log).st_size > LOG_BYTES:
            os.ftruncate(self._log, 0)

    def close(self) -> None:
        """Let the environment close itself, for at most `CLOSE_S` seconds; may be repeated."""
        if self.ended:
            return
        with suppress(OSError):
            child.write_all(self._requests, child.REQUEST.pack(b"q", 0))
        self._wait(self._may_receive, time.monotonic() + CLOSE_S)  # breaks at its end
        self._end()

    def kill(self) -> None:
        """End the process and everything it started, now."""
        self._end()

    def _start(self, fds: tuple[int, ...], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        inherited = {key: value for key, value in os.environ.items() if _is_passed(key)}
        numbers = [str(number) for number in (*fds, os.getpid())]
        try:
            return subprocess.Popen(
                [self._python, "-u", "-c", BOOT, str(Path(child.__file__)), *numbers],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                start_new_session=True,
                env={**inherited, **variables},
            )
        except OSError as error:
            raise ValueError(
                f"{self._name}: env.python={self._python!r} cannot be run ({error}); expected the"
                " path of a Python interpreter"
            ) from None

    def _send(self, data: bytes, what: str, deadline: float) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._requests, left) :]
            except BlockingIOError:  # nobody reads
                if not self._wait(self._may_send, deadline):
                    raise self._late(what) from None

    def _receive(self, size: int, what: str, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            if not self._wait(self._may_receive, deadline):
                raise self._late(what)
            part = os.read(self._answers, min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def _wait(self, poll: select.poll, deadline: float) -> bool:
        """Wait for a pipe to be ready or broken; False at the deadline (monotonic seconds)."""
        while True:
            left = max(0.0, deadline - time.monotonic())
            if poll.poll(min(left, GLANCE_S) * 1000):
                return True
            if not left:
                return False
            self.trim_log()

    def nonsense(self, what: str, got: str) -> IsolatedFailed:
        """End a process that does not keep to the protocol; returns what to raise."""
        tail = self._tail()
        self._end()
        return IsolatedFailed(
            f"{self._name}: {what} was answered with {got}, which no environment of ours sends;"
            f" the process was killed. It printed last:\n{tail}"
        )

    def _late(self, what: str) -> IsolatedFailed:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
        time.sleep(STACK_S)
        tail = self._tail()
        self._end()
        return IsolatedFailed(
            f"{self._name}: {what} did not return within env.answer_s={self._answer_s:g} s; the"
            f" process was killed. It printed last, with the place where it hung:\n{tail}"
        )

    def _death(self, what: str) -> ImportError | IsolatedFailed:
        tail = self._tail()
        self._end()
        status = self._process.returncode
        if status == UNFIT:
            return ImportError(f"{self._name}: env.python={self._python}: {tail}")
        return IsolatedFailed(
            f"{self._name}: its process ended during {what} ({_ending(status)}); env.python is"
            f" {self._python}. It printed last:\n{tail}"
        )

    def _tail(self) -> str:
        size = os.fstat(self._log).st_size
        data = os.pread(self._log, TAIL_BYTES, max(0, size - TAIL_BYTES))
        return data.decode(errors="replace").strip() or "(nothing)"


def find_python(python: str) -> str:
    """Return the path of the interpreter that `env.python` names; empty is this one.

    Raises:
        ValueError: there is none, with what lies near it.
    """
    if not python:
        return sys.executable
    path = Path(python).expanduser()
    if path.is_dir() and (path / "bin/python").exists():
        raise ValueError(f"env.python={python!r} is a folder; write {path / 'bin/python'}")
    found = shutil.which(path if len(path.parts) == 1 else path.absolute())
    if found is None:
        raise ValueError(
            f"env.python={python!r}: no such interpreter (seen from {Path.cwd()}); make one with"
            " python3.10 -m venv <folder> and write <folder>/bin/python"
        )
    return found


def _is_passed(name: str) -> bool:
    return PASSED.fullmatch(name) is not None and SECRET.search(name) is None


def _worded(status: bytes, what: str, text: str) -> str:
    shown = text[-MAX_SHOWN:]
    return f"{what} raised\n{shown}" if status == child.RAISED else shown


def _memory_file() -> int:
    """Memory without a name: gone with the last process that has it open, however that ended."""
    if not SHRINK_SEALS:
        return _nameless_file()
    return os.memfd_create("reverie-env", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _nameless_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _ending(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _end(process: subprocess.Popen[bytes] | None, fds: tuple[int, ...]) -> None:
    """Kill the group, then reap its leader: in this order its number cannot be another's yet."""
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for fd in fds:
        os.close(fd)
