"""A command in a process of its own, and what can befall it: a kill, a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cli.main import run_arguments
from tests.campaign.world import CALLS

#: What changes a file system, as Python tells it.
_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
#: Seconds after which a command is taken to hang.
_PATIENCE = 300

#: ``kill``: after `at` seconds. ``kill at``: at the file operation `at`. ``full``: file operations
#: fail from `at` on, for want of space. ``short``: no file grows beyond `at` bytes.
Kind = Literal["none", "kill", "kill at", "full", "short"]


@dataclass(frozen=True)
class Fault:
    """What befalls a command."""

    kind: Kind = "none"
    at: float = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "none" else f"{self.kind} {self.at:.6g}"


NO_FAULT = Fault()


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes
    ----------
    status : exit status; the negative signal where it was killed.
    text : what it said on both streams.
    saved : what it told to be safe, line by line.
    seconds, operations : how long it took, and how many file operations.
    """

    status: int
    text: str
    saved: list[str]
    seconds: float
    operations: int

    @property
    def was_killed(self) -> bool:
        """Whether a kill reached it before it ended."""
        return self.status == -signal.SIGKILL


class Running:
    """A command that has begun."""

    def __init__(self, lake: Path, arguments: list[str], scratch: Path, fault: Fault) -> None:
        self._said = scratch / f"said-{os.getpid()}-{time.monotonic_ns()}"
        self._counted = self._said.with_suffix(".count")
        read, write = os.pipe()
        self._fault, self._began = fault, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _child(lake, arguments, self._said, self._counted, write, fault)
        os.close(write)
        self._pipe = read

    def wait(self) -> Ending:
        """Wait for the end, and bring it about where a kill is due."""
        if self._fault.kind == "kill":
            due = self._began + self._fault.at
            while time.monotonic() < due and not self._has_ended():
                time.sleep(min(0.002, max(due - time.monotonic(), 0)))
            self._kill()
        status = self._status()
        saved = self._read_saved()
        text = self._said.read_text(errors="replace") if self._said.exists() else ""
        # The kill may have come while the count was written.
        counted = self._counted.read_text() if self._counted.exists() else ""
        operations = int(counted or 0)
        self._said.unlink(missing_ok=True)
        self._counted.unlink(missing_ok=True)
        return Ending(status, text, saved, time.monotonic() - self._began, operations)

    def _has_ended(self) -> bool:
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return info is not None

    def _kill(self) -> None:
        # The group: its own processes die with it, as with a machine that stops.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _status(self) -> int:
        until = time.monotonic() + _PATIENCE
        while not self._has_ended():
            if time.monotonic() > until:
                self._kill()
                raise TimeoutError(f"a command did not end in {_PATIENCE} s")
            time.sleep(0.002)
        _, status = os.waitpid(self.pid, 0)
        self._kill()  # what it began and left
        return os.waitstatus_to_exitcode(status)

    def _read_saved(self) -> list[str]:
        os.set_blocking(self._pipe, False)
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                parts.append(part)
        os.close(self._pipe)
        lines = b"".join(parts).decode().splitlines(keepends=True)
        return [line.rstrip("\n") for line in lines if line.endswith("\n")]


def run(lake: Path, arguments: list[str], scratch: Path, fault: Fault = NO_FAULT) -> Ending:
    """Run a command on a lake to its end, whatever that is."""
    return Running(lake, arguments, scratch, fault).wait()


def _child(
    lake: Path, arguments: list[str], said: Path, counted: Path, pipe: int, fault: Fault
) -> None:
    """Run the command; never return."""
    status = 70
    try:
        os.setsid()
        stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.close(stream)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        hook = _Hook(lake.parent, fault)
        sys.addaudithook(hook)
        if fault.kind == "short":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.at), int(fault.at)))
        call = CALLS.get(arguments[0])
        if call is None:
            status = run_arguments(["--lake", str(lake), *arguments])
        else:
            call(lake, arguments[1], lambda line: _tell(pipe, line))
            status = 0
        hook.fault = NO_FAULT
        counted.write_text(str(hook.operations))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"ended by {type(error).__name__}: {error}\n")
        status = 71
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _tell(pipe: int, line: str) -> None:
    os.write(pipe, f"{line}\n".encode())


class _Hook:
    """Counts file operations below a folder, and lets one of them fail or be the last."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.folder, self.fault, self.operations = str(folder), fault, 0
        self._lock = threading.Lock()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS and not (event == "open" and _writes(arguments)):
            return
        if not str(arguments[0]).startswith(self.folder):
            return
        with self._lock:
            self.operations += 1
            at = self.operations
        if self.fault.kind == "kill at" and at == self.fault.at:
            os.killpg(0, signal.SIGKILL)
        if self.fault.kind == "full" and at >= self.fault.at and event not in _FREEING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


#: What a full disk lets one do.
_FREEING = ("os.remove", "os.rmdir", "os.truncate")


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))
