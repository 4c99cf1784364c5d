"""A reading process: decodes CCD images, and measures them where the embedder needs no device.

Imports as little as possible (torch never), because every reader pays for it at its start.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any, Protocol

import numpy as np

from embedders.tasks import FileTask
from lake.errors import SurveyError
from lake.images import open_images, read_ccd


class Measure(Protocol):
    """An embedder that works on the core that decoded the image."""

    def embed(self, images: list[np.ndarray]) -> np.ndarray:
        """Return one vector an image."""


class Descriptor:
    """A file descriptor that reaches a process that is being started."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.number),)


def _received(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


class Slots:
    """Shared memory for pixels: a file without a name for each slot, which grows on demand.

    Nothing is left behind when a process dies: the memory lives as long as a process has the
    file open. Both sides map it for themselves.
    """

    def __init__(self, descriptors: list[Descriptor]) -> None:
        self._descriptors = descriptors
        self._maps: list[mmap.mmap | None] = [None] * len(descriptors)

    def view(self, slot: int, shape: tuple[int, ...], grow: bool = False) -> np.ndarray:
        """Return float32 pixels of `shape` in `slot`; the writing side may `grow` the file."""
        count = int(np.prod(shape))
        descriptor, mapped = self._descriptors[slot].number, self._maps[slot]
        if mapped is None or len(mapped) < 4 * count:
            if grow and os.fstat(descriptor).st_size < 4 * count:
                os.ftruncate(descriptor, 4 * count)
            # The older map goes when no array refers to it any more.
            mapped = self._maps[slot] = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        return np.frombuffer(mapped, np.float32, count=count).reshape(shape)


class _Inbox:
    """What the run sends: tasks, and slots that are free again, in any order."""

    def __init__(self, pipe: Connection, n_slots: int) -> None:
        self._pipe = pipe
        self._tasks: deque[tuple[int, FileTask]] = deque()
        self._slots = deque(range(n_slots))

    def task(self) -> tuple[int, FileTask]:
        """Wait for the next task and return its number and itself."""
        while not self._tasks:
            self._receive()
        return self._tasks.popleft()

    def slot(self) -> int:
        """Wait for a slot that nobody reads from."""
        while not self._slots:
            self._receive()
        return self._slots.popleft()

    def _receive(self) -> None:
        message = self._pipe.recv()
        if message[0] == "task":
            self._tasks.append(message[1:])
        else:
            self._slots.append(message[1])


def serve(pipe: Connection, measure: Measure | None, shared: list[Descriptor]) -> None:
    """Answer the tasks that come through `pipe` until it closes.

    Messages in: ``("task", number, FileTask)`` and ``("free", slot)``. Messages out: for each
    CCD ``("vector", number, index, array)``, ``("pixels", number, index, slot, shape)`` or
    ``("error", number, index, text)``, and ``("done", number)`` at the end of the task.
    """
    # Whoever started the run decides when it ends; a signal to the whole group is for them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    slots, inbox = Slots(shared), _Inbox(pipe, len(shared))
    try:
        while True:
            number, task = inbox.task()
            for index, outcome in _outcomes(task, measure):
                if isinstance(outcome, str):
                    pipe.send(("error", number, index, outcome))
                elif measure is not None:
                    pipe.send(("vector", number, index, outcome))
                else:
                    slot = inbox.slot()
                    slots.view(slot, outcome.shape, grow=True)[...] = outcome
                    pipe.send(("pixels", number, index, slot, outcome.shape))
            pipe.send(("done", number))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the run is over


def _outcomes(task: FileTask, measure: Measure | None) -> Iterator[tuple[int, np.ndarray | str]]:
    """Yield for each CCD of the file its pixels or vector, or what is wrong with it."""
    try:
        with open_images(task.path) as file:
            for index, ccd in enumerate(task.ccds):
                try:
                    pixels = read_ccd(file, task.path, ccd.hdu, ccd.name)
                    # A few rows nearly always settle it, at a fraction of the cost.
                    if not (np.isfinite(pixels[::64]).any() or np.isfinite(pixels).any()):
                        raise SurveyError("the image is empty or has no finite pixel")
                    yield index, pixels if measure is None else measure.embed([pixels])[0]
                except SurveyError as error:
                    yield index, _named(error, task)
                except Exception as error:  # one image must not end a run of days
                    yield index, f"{type(error).__name__}: {error}"
    except SurveyError as error:
        for index in range(len(task.ccds)):
            yield index, _named(error, task)


def _named(error: SurveyError, task: FileTask) -> str:
    """Return the message without the file it begins with, which the row of failures names."""
    where, _, what = str(error).partition(": ")
    return what if where.startswith(str(task.path)) else str(error)
