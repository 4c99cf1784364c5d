"""The reading processes: they decode files side by side, and one that dies is replaced.

Decoding needs processes: fitsio holds the interpreter's lock while it decompresses. Pixels come
back through shared memory, a fixed number of slots for each process, so that memory is bounded
whatever a partition holds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from embedders.tasks import Ccd, Flaw, Task
from embedders.worker import Descriptor, Measure, Slots, serve
from lake.errors import BadInput

#: Images that a process may have decoded ahead of those that use them.
SLOTS = 3
#: Tasks that a process has at hand, so that it need not wait for the next.
AHEAD = 2
#: How often a task is tried whose process dies (killed for its memory, say).
TRIES = 3

Owner = TypeVar("Owner")
_starting = threading.Lock()


@dataclass
class Read(Generic[Owner]):
    """What came of one image: its vector, its pixels, or an error; or the content of its files.

    Pixels are a view of shared memory and must not be used after `release`. `flaws` are the CCDs
    that an exposure's image had to do without. `content` comes before all else of a task, without
    a CCD; where it is the one that the task knows, nothing else comes.
    """

    owner: Owner
    task: Task
    ccd: Ccd | None = None
    flaws: tuple[Flaw, ...] = ()
    vector: np.ndarray | None = None
    pixels: np.ndarray | None = None
    error: str | None = None
    content: str | None = None
    release: Callable[[], None] = field(default=lambda: None)


@dataclass
class _Assignment(Generic[Owner]):
    owner: Owner
    task: Task
    waiting: set[int]
    tries: int = 0


class _Reader(Generic[Owner]):
    """One process, its pipe, and the tasks it has been given (the first is being read)."""

    def __init__(self, measure: Measure | None) -> None:
        self._shared = [Descriptor(_memory()) for _ in range(0 if measure else SLOTS)]
        self._slots = Slots(self._shared)
        self.tasks: dict[int, _Assignment[Owner]] = {}
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, measure, self._shared), daemon=True
        )
        with _one_thread():
            self._process.start()
        theirs.close()

    def give(self, number: int, assignment: _Assignment[Owner]) -> None:
        """Hand over a task; one that cannot be sent is found again when the process is buried."""
        left = tuple(assignment.task.ccds[index] for index in sorted(assignment.waiting))
        self.tasks[number] = _Assignment(
            assignment.owner,
            replace(assignment.task, ccds=left),
            set(range(len(left))),
            assignment.tries,
        )
        self._send(("task", number, self.tasks[number].task))

    def receive(self) -> Iterator[Read[Owner]]:
        """Yield what the next message holds; raises `EOFError` when the process is gone."""
        kind, number, *rest = self.pipe.recv()
        if kind == "done":
            del self.tasks[number]
            return
        assignment = self.tasks[number]
        if kind == "content":
            yield Read(assignment.owner, assignment.task, content=rest[0])
            return
        index, flaws, *found = rest
        assignment.waiting.discard(index)
        read = Read(assignment.owner, assignment.task, assignment.task.ccds[index], flaws)
        if kind == "vector":
            read.vector = found[0]
        elif kind == "error":
            read.error = found[0]
        else:
            slot, shape = found
            read.pixels = self._slots.view(slot, shape)
            read.release = lambda: self._send(("free", slot))
        yield read

    def bury(self) -> int | None:
        """Wait for a process that closed its pipe and return its exit code."""
        self._process.join(5)
        self.end()
        return self._process.exitcode

    def end(self) -> None:
        """Stop the process at once and give its memory back."""
        # Killed rather than told, since a process that winds up by itself takes a while.
        self._process.kill()
        self._process.join()
        self.pipe.close()
        for descriptor in self._shared:
            os.close(descriptor.number)
        self._shared = []

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self.pipe.send(message)
        except OSError:  # it has died, which `receive` finds out
            return


class Readers(Generic[Owner]):
    """Up to `workers` processes that read files; start with ``with``.

    `measure` (which must be picklable) turns pixels into vectors where they were decoded;
    without it the pixels come back. `Owner` is whatever the caller wants to find again.
    """

    def __init__(self, workers: int, measure: Measure | None = None) -> None:
        self._workers, self._measure = workers, measure
        self._readers: list[_Reader[Owner]] = []
        self._queue: deque[_Assignment[Owner]] = deque()
        self._failed: deque[Read[Owner]] = deque()
        self._number = 0

    def __enter__(self) -> Readers[Owner]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for reader in self._readers:
            reader.end()

    @property
    def hungry(self) -> bool:
        """Whether another task can be submitted without piling up."""
        given = sum(len(reader.tasks) for reader in self._readers)
        return len(self._queue) + given < AHEAD * self._workers

    @property
    def busy(self) -> bool:
        """Whether anything is still to come."""
        return bool(self._queue or self._failed or any(reader.tasks for reader in self._readers))

    def submit(self, owner: Owner, task: Task) -> None:
        """Have a file or an exposure read."""
        self._queue.append(_Assignment(owner, task, set(range(len(task.ccds)))))
        self._assign()

    def poll(self, timeout: float) -> Iterator[Read[Owner]]:
        """Yield what has been read, waiting for the first of it up to `timeout` seconds."""
        while self._failed:
            yield self._failed.popleft()
        by_pipe = {reader.pipe: reader for reader in self._readers if reader.tasks}
        for pipe in wait(list(by_pipe), timeout):
            reader = by_pipe[pipe]  # type: ignore[index]
            try:
                yield from reader.receive()
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                self._replace(reader)
        self._assign()

    def _assign(self) -> None:
        """Give the waiting tasks to the readers with the fewest, starting readers as needed."""
        while self._queue:
            reader = min(self._readers, key=lambda reader: len(reader.tasks), default=None)
            if (reader is None or reader.tasks) and len(self._readers) < self._workers:
                reader = _Reader(self._measure)
                self._readers.append(reader)
            if reader is None or len(reader.tasks) >= AHEAD:
                return
            self._number += 1
            reader.give(self._number, self._queue.popleft())

    def _replace(self, reader: _Reader[Owner]) -> None:
        """Take the tasks of a process that died back; the one it was reading may be at fault."""
        code = reader.bury()
        self._readers.remove(reader)
        if code == 1:  # not a fault of a file: those are caught one by one
            raise BadInput(
                "a reading process could not start or failed (its traceback is above); a script "
                'that embeds needs its work under `if __name__ == "__main__":`'
            )
        tasks = list(reader.tasks.values())
        if tasks:
            tasks[0].tries += 1
            if tasks[0].tries >= TRIES:
                self._give_up(tasks.pop(0), code)
        self._queue.extendleft(reversed(tasks))

    def _give_up(self, assignment: _Assignment[Owner], code: int | None) -> None:
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        for index in sorted(assignment.waiting):
            self._failed.append(
                Read(
                    assignment.owner,
                    assignment.task,
                    assignment.task.ccds[index],
                    error=f"the process that read it died {TRIES} times ({name})",
                )
            )


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _memory() -> int:
    """Return the descriptor of an empty file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("survey-qa-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have processes that are started here use one thread each: there is one for each core."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    with _starting:
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(names, "1"))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
