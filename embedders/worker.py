"""A reading process: decodes CCD images, and measures them where the embedder needs no device.

Imports as little as possible (torch never), because every reader pays for it at its start.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any, Protocol, cast

import fitsio
import numpy as np

from embedders.mosaic import LEVEL, Mosaic
from embedders.sources import content_of
from embedders.tasks import Ccd, FileTask, Flaw, MosaicTask, Task
from images.damage import plain_words
from images.pixels import open_images, read_ccd
from lake.cameras import CAMERAS
from lake.errors import BadInput, NotFound, SurveyError
from lake.paths import shortened

#: Characters that say what is wrong with an image, at most.
_LONGEST = 290


class Measure(Protocol):
    """An embedder that works on the core that decoded the image."""

    def embed(self, images: list[np.ndarray]) -> np.ndarray:
        """Return one vector an image."""


class MeasureByCamera(Protocol):
    """One to which the constants of the camera count (`kinds.is_by_camera`)."""

    def embed(self, images: list[np.ndarray], camera: str) -> np.ndarray:
        """Return one vector an image of `camera`."""


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
        self._tasks: deque[tuple[int, Task]] = deque()
        self._slots = deque(range(n_slots))

    def task(self) -> tuple[int, Task]:
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

    Messages in: ``("task", number, Task)`` and ``("free", slot)``. Messages out: first
    ``("content", number, identity)``; then, unless that is the one that is known, for each image
    ``("vector", number, index, flaws, array)``, ``("pixels", number, index, flaws, slot, shape)``
    or ``("error", number, index, flaws, text)``; and ``("done", number)`` at the end of the task.
    `flaws` are the CCDs that the image had to do without.
    """
    # Whoever started the run decides when it ends; a signal to the whole group is for them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    slots, inbox = Slots(shared), _Inbox(pipe, len(shared))
    try:
        while True:
            number, task = inbox.task()
            content = content_of(task)
            pipe.send(("content", number, content))
            if content and content == task.known:
                pipe.send(("done", number))
                continue
            for index, flaws, outcome in _outcomes(task, measure):
                if isinstance(outcome, str):
                    pipe.send(("error", number, index, flaws, outcome))
                elif measure is not None:
                    pipe.send(("vector", number, index, flaws, outcome))
                else:
                    slot = inbox.slot()
                    slots.view(slot, outcome.shape, grow=True)[...] = outcome
                    pipe.send(("pixels", number, index, flaws, slot, outcome.shape))
            pipe.send(("done", number))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the run is over


#: An image or a vector, or what is wrong with it.
_Outcome = np.ndarray | str


def _outcomes(
    task: Task, measure: Measure | None
) -> Iterator[tuple[int, tuple[Flaw, ...], _Outcome]]:
    """Yield for each image of the task its pixels or vector, or what is wrong with it."""
    if isinstance(task, MosaicTask):
        flaws, plane = _mosaic(task)
        yield 0, flaws, _measured(plane, measure, task.files[0])
    else:
        for index, pixels in _images(task):
            yield index, (), _measured(pixels, measure, task)


def _mosaic(task: MosaicTask) -> tuple[tuple[Flaw, ...], _Outcome]:
    """Return the focal plane, whose CCDs are decoded and binned one by one, and those it lacks."""
    mosaic, flaws, n_ccds = Mosaic(task.layout, task.size), [], 0
    for file in task.files:
        for index, pixels in _images(file):
            ccd, n_ccds = file.ccds[index], n_ccds + 1
            error = pixels if isinstance(pixels, str) else _put(mosaic, ccd, pixels, file)
            if error is not None:
                flaws.append(Flaw(ccd, file.where(ccd), error))
    if len(flaws) == n_ccds:
        return tuple(flaws), f"none of its {n_ccds} CCD images could be used"
    if not np.isfinite(mosaic.planes[LEVEL]).any():
        return tuple(flaws), "no part of its CCD images is free of bad pixels"
    return tuple(flaws), mosaic.planes


def _put(mosaic: Mosaic, ccd: Ccd, pixels: np.ndarray, file: FileTask) -> str | None:
    """Put a CCD into its place; return what is wrong with it, if anything."""

    def put() -> np.ndarray:
        mosaic.put(ccd.ccdnum, pixels)
        return pixels

    outcome = _attempt(put, file)
    return outcome if isinstance(outcome, str) else None


def _measured(image: _Outcome, measure: Measure | None, task: FileTask) -> _Outcome:
    if measure is None or isinstance(image, str):
        return image
    if task.camera is None:
        return _attempt(lambda: measure.embed([image])[0], task)
    camera, by_camera = task.camera, cast(MeasureByCamera, measure)
    return _attempt(lambda: by_camera.embed([image], camera)[0], task)


def _images(task: FileTask) -> Iterator[tuple[int, _Outcome]]:
    """Yield the pixels of each CCD of a file, or what is wrong with it."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_images(task.path))
            planes = [
                (stack.enter_context(open_images(path)), path, good)
                for path, good in ((task.mask, _unmasked), (task.weight, _weighted))
                if path is not None
            ]
            scale = _adu(file, task)
        except SurveyError as error:
            for index in range(len(task.ccds)):
                yield index, _named(error, task)
            return
        for index, ccd in enumerate(task.ccds):

            def read(ccd: Ccd = ccd) -> np.ndarray:
                pixels = read_ccd(file, task.path, ccd.hdu, ccd.name, task.height)
                for plane, path, good in planes:
                    values = read_ccd(plane, path, ccd.hdu, ccd.name, task.height)
                    if values.shape != pixels.shape:
                        raise BadInput(f"{path.name}: {values.shape} is not the image's shape")
                    pixels[~good(values)] = np.nan
                # A few rows nearly always settle it, at a fraction of the cost.
                if not (np.isfinite(pixels[::64]).any() or np.isfinite(pixels).any()):
                    raise NotFound("the image is empty or has no finite pixel")
                return pixels if scale is None else pixels * np.float32(scale)

            yield index, _attempt(read, task)


def _adu(file: fitsio.FITS, task: FileTask) -> float | None:
    """Return what turns a file's pixels into ADU where its camera's constants count.

    None where they are in ADU. Raises `SurveyError` when the exposure time is needed and missing.
    """
    camera = CAMERAS.get(task.camera or "")
    if camera is None or not camera.is_per_second:
        return None
    exptime = file[0].read_header().get("EXPTIME")
    if not isinstance(exptime, int | float) or not 0 < exptime < np.inf:
        raise BadInput(
            f"{task.path}: {camera.name} counts electrons per second, but EXPTIME is {exptime!r}"
        )
    return float(exptime) / camera.gain


def _unmasked(mask: np.ndarray) -> np.ndarray:
    return mask == 0


def _weighted(weight: np.ndarray) -> np.ndarray:
    return weight > 0


def _attempt(work: Callable[[], np.ndarray], task: FileTask) -> _Outcome:
    """Return what `work` does, or what is wrong: one image must not end a run of days."""
    try:
        return work()
    except SurveyError as error:
        return _named(error, task)
    except Exception as error:
        return f"cannot be used ({plain_words(error)})"


def _named(error: SurveyError, task: FileTask) -> str:
    """Return the message without the file it begins with, which the row of failures names."""
    where, _, what = str(error).partition(": ")
    text = what if where.startswith(str(task.path)) else str(error)
    return shortened(text, _LONGEST)
