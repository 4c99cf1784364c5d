"""Drawing exposures in processes of their own, the one that somebody waits for first.

Everything here runs on the server's event loop; only decoding (processes) and drawing (threads) do
not. Saving verdicts shares none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import os
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Set
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from images.stretch import STRETCHES, Stretch
from inspector.cache import ImageCache
from inspector.focal_plane import Layout, Place
from inspector.mosaic import compose
from inspector.pixels import draw_whole, live_with, read_binned, to_jpeg
from lake.errors import SurveyError
from lake.store import file_stamp

#: CCDs that one task reads: few, so that they appear one after another; a file is opened for each.
CCDS_PER_TASK = 6
#: Tasks that may wait; beyond, those that were asked for first are given up.
MAX_WAITING = 600
#: Exposures whose pixels are kept in memory, for another stretch.
MAX_KEPT = 6
#: Drawings that may be asked for at once.
MAX_DRAWING = 200
#: Processes that a file may kill before its CCDs are no longer tried.
MAX_DEATHS = 3
_VERSION = 3
_LOG = logging.getLogger(__name__)
#: What is said of a CCD whose reading has killed a process; it may be the machine's memory.
_DIED = "the process that read this image has died: is the file damaged?"

Pixels = NDArray[np.float32]


class Busy(Exception):  # noqa: N818
    """Too much is waiting; ask again later."""


class NoImage(Exception):  # noqa: N818
    """There is no image, and why, in one line that names no folder of the machine.

    `status` is that of the answer: 404 where there is nothing, 422 where it cannot be drawn.
    """

    def __init__(self, why: str, status: int = 404) -> None:
        super().__init__(why)
        self.status = status


@dataclass(eq=False)
class _Task:
    """Work for a process; `level` 0 is waited for, 1 is ahead of need.

    `batch` counts what was asked for, `number` the tasks.
    """

    level: int
    batch: int
    number: int
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: asyncio.Future[Any]
    #: The file that is read, and its version.
    file: tuple[str, str]

    def parts(self) -> list[_Task]:
        """Return the task as several, of a CCD each."""
        if self.work is not read_binned:
            return [self]
        path, wanted, binning = self.arguments
        return [replace(self, arguments=(path, [each], binning)) for each in wanted]

    def joined(self, results: list[Any]) -> Any:
        """Return the result of the task from those of its parts."""
        if self.work is not read_binned:
            return results[0]
        return {number: each for result in results for number, each in result.items()}

    def failed(self, why: str) -> Any:
        """Return what stands for the result where there is none: why."""
        if self.work is not read_binned:
            return why
        return {ccdnum: why for ccdnum, *_ in self.arguments[1]}

    @property
    def rank(self) -> tuple[int, int, int]:
        """What comes first: of what is waited for the latest, a person may have moved on; of what
        is ahead of need the nearest."""
        return self.level, self.batch if self.level else -self.batch, self.number


@dataclass(eq=False)
class Exposure:
    """The binned CCDs of an exposure, as they come."""

    layout: Layout
    binning: int
    tasks: list[_Task] = field(default_factory=list)
    ccds: dict[int, asyncio.Future[dict[int, Pixels | str]]] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether all CCDs have come."""
        return all(future.done() for future in self.ccds.values())

    @property
    def is_lost(self) -> bool:
        """Whether it is worth reading again: something was given up, or a process has died."""
        if any(future.cancelled() for future in self.ccds.values()):
            return True
        return self.is_done and any(
            isinstance(each, str) and each == _DIED for each in self.come().values()
        )

    def come(self) -> dict[int, Pixels | str]:
        """Return the CCDs that have come so far by their numbers, or what is wrong with them."""
        found: dict[int, Pixels | str] = {}
        for future in self.ccds.values():
            if future.done() and not future.cancelled():
                found |= future.result()
        return found


class Renderer:
    """Draws exposures, CCDs and thumbnails as JPEG.

    Parameters
    ----------
    images : the folder that image files are relative to; nothing outside it is read.
    workers : processes that decode.
    """

    def __init__(self, images: Path, cache: ImageCache, workers: int = 2) -> None:
        self.images = images.resolve()
        self.cache = cache
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._threads = ThreadPoolExecutor(2, "draw")
        self._waiting: list[_Task] = []
        self._wake = asyncio.Condition()
        self._batches = itertools.count()
        self._numbers = itertools.count()
        self._kept: OrderedDict[str, Exposure] = OrderedDict()
        self._drawing: dict[str, asyncio.Task[bytes]] = {}
        self._apart = asyncio.Lock()
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the processes."""
        self._pool = self._new_pool(self.workers)
        for _ in range(self.workers):  # a process starts with its first task
            self._pool.submit(os.getpid)
        self._loops = [asyncio.create_task(self._work()) for _ in range(self.workers)]

    async def stop(self) -> None:
        """End the processes; what is waiting is given up."""
        for loop in (*self._loops, *self._drawing.values()):
            loop.cancel()
        for task in self._waiting:
            task.done.cancel()
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def is_ready(self, layout: Layout, size: int, stretch: Stretch) -> bool:
        """Tell whether `mosaic` would answer at once."""
        with contextlib.suppress(NoImage):
            return self.cache.has(self._key(layout, size, stretch))
        return False

    async def mosaic(
        self, layout: Layout, size: int, stretch: Stretch, ahead: bool = False
    ) -> bytes:
        """Return all CCDs of `layout` as one JPEG whose longer side has about `size` pixels.

        Raises
        ------
        NoImage : not one CCD can be read.
        Busy : too much is waiting.
        """
        key = self._key(layout, size, stretch)
        return await self._once(key, lambda: self._mosaic(key, layout, size, stretch, ahead))

    async def partial(self, layout: Layout, size: int, stretch: Stretch) -> bytes:
        """Return a mosaic of the CCDs that have come so far, waiting for the first of them.

        Raises as `mosaic`.
        """
        exposure = self._exposure(layout, size, ahead=False)
        pending = set(exposure.ccds.values())
        while pending and all(isinstance(each, str) for each in exposure.come().values()):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return await _reported(self._draw(exposure, stretch))

    async def whole(self, layout: Layout, ccdnum: int, stretch: Stretch) -> bytes:
        """Return one CCD at full resolution; raises as `mosaic`."""
        place = _place(layout, ccdnum)
        path = self._path(place.file)
        version = _fingerprint(path)
        wanted = (place.ccdnum, place.ccdname, place.hdu)
        key = ImageCache.key(_VERSION, "whole", path, version, wanted, stretch)

        async def draw() -> bytes:
            task = self._submit(
                0, next(self._batches), version, draw_whole, str(path), wanted, place.turn, stretch
            )
            image = await task.done
            if isinstance(image, str):
                raise NoImage(self._plain(image), 422)
            self.cache.put(key, image)
            return image

        return await self._once(key, draw)

    async def _once(self, key: str, draw: Callable[[], Awaitable[bytes]]) -> bytes:
        """Draw what is not in the cache, once however many ask."""
        image = self.cache.get(key)
        if image is not None:
            return image
        if key not in self._drawing:
            if len(self._drawing) >= MAX_DRAWING:
                raise Busy
            task = asyncio.create_task(_reported(draw()))
            self._drawing[key] = task
            task.add_done_callback(lambda _: self._drawing.pop(key, None))
            # Nobody may be left to hear of a failure.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await _shielded(self._drawing[key])

    async def _mosaic(
        self, key: str, layout: Layout, size: int, stretch: Stretch, ahead: bool
    ) -> bytes:
        exposure = self._exposure(layout, size, ahead)
        for future in list(exposure.ccds.values()):
            await _shielded(future)
        image = await self._draw(exposure, stretch)
        if not exposure.is_lost:
            self.cache.put(key, image)
        return image

    async def _draw(self, exposure: Exposure, stretch: Stretch) -> bytes:
        """Draw the CCDs that have come; those that cannot be read are crossed out."""
        found = exposure.come()
        ccds = {number: each for number, each in found.items() if not isinstance(each, str)}
        problems = [each for each in found.values() if isinstance(each, str)]
        if not found:
            raise Busy
        if not ccds:
            raise NoImage(self._plain(problems[0]), 422)
        unreadable = found.keys() - ccds.keys()
        return await self._in_thread(_draw_mosaic, exposure, ccds, unreadable, stretch)

    def _exposure(self, layout: Layout, size: int, ahead: bool) -> Exposure:
        """Return the exposure being read, having asked for it where it was not."""
        level = 1 if ahead else 0
        key = self._key(layout, size, STRETCHES[0])
        exposure = self._kept.get(key)
        if exposure is not None and not exposure.is_lost:
            for task in exposure.tasks:
                task.level = min(task.level, level)
            self._kept.move_to_end(key)
            return exposure
        exposure = Exposure(layout, layout.binning(size))
        order = next(self._batches)
        files: dict[str, list[Place]] = {}
        for place in layout.places:
            files.setdefault(place.file, []).append(place)
        for name, places in files.items():
            try:
                path = self._path(name)
                version = _fingerprint(path)
            except NoImage as error:
                told = asyncio.get_running_loop().create_future()
                told.set_result({place.ccdnum: str(error) for place in places})
                exposure.ccds |= {place.ccdnum: told for place in places}
                continue
            for batch in _outwards(places, CCDS_PER_TASK):
                wanted = [(place.ccdnum, place.ccdname, place.hdu) for place in batch]
                task = self._submit(
                    level, order, version, read_binned, str(path), wanted, exposure.binning
                )
                exposure.tasks.append(task)
                exposure.ccds |= {place.ccdnum: task.done for place in batch}
        self._kept[key] = exposure
        done = [other for other, each in self._kept.items() if each.is_done and other != key]
        for done_key in done[: max(0, len(self._kept) - MAX_KEPT)]:
            del self._kept[done_key]
        return exposure

    def _submit(
        self, level: int, batch: int, version: str, work: Callable[..., Any], *arguments: Any
    ) -> _Task:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        file = str(arguments[0])
        task = _Task(level, batch, next(self._numbers), work, arguments, done, (file, version))
        self._waiting.append(task)
        while len(self._waiting) > MAX_WAITING:
            given_up = max(self._waiting, key=lambda each: each.rank)
            self._waiting.remove(given_up)
            given_up.done.cancel()
        asyncio.ensure_future(self._notify())  # noqa: RUF006
        return task

    async def _notify(self) -> None:
        async with self._wake:
            self._wake.notify()

    async def _work(self) -> None:
        """Give one process after another task to do, by rank."""
        while True:
            async with self._wake:
                await self._wake.wait_for(lambda: self._waiting)
                task = min(self._waiting, key=lambda each: each.rank)
                self._waiting.remove(task)
            result = await self._result(task)
            if not task.done.done():
                task.done.set_result(result)

    async def _result(self, task: _Task) -> Any:
        """Have a process do a task; what goes wrong is told in the place of what is read."""
        pool = self._pool
        try:
            if self._deaths[task.file] >= MAX_DEATHS:
                return task.failed(_DIED)
            return await asyncio.get_running_loop().run_in_executor(
                pool, task.work, *task.arguments
            )
        except BrokenProcessPool:
            if self._pool is pool:  # the first to notice
                self._pool = self._new_pool(self.workers)
        except Exception as error:
            _LOG.exception("%s", task.work.__name__)
            return task.failed(f"the image cannot be read ({type(error).__name__})")
        # All that its processes had under way is lost when one dies: what kills a process again
        # that does nothing else is to blame, and the others have come to no harm.
        async with self._apart:
            return await self._one_by_one(task)

    async def _one_by_one(self, task: _Task) -> Any:
        """Have a process of its own do a task, CCD by CCD, so that one costs no other."""
        results = []
        pool: ProcessPoolExecutor | None = None
        try:
            for part in task.parts():
                if self._deaths[task.file] >= MAX_DEATHS:
                    results.append(part.failed(_DIED))
                    continue
                pool = pool or self._new_pool(1)
                try:
                    results.append(
                        await asyncio.get_running_loop().run_in_executor(
                            pool, part.work, *part.arguments
                        )
                    )
                except BrokenProcessPool:
                    self._deaths[task.file] += 1
                    pool = None
                    results.append(part.failed(_DIED))
        finally:
            if pool is not None:
                pool.shutdown(wait=False)
        return task.joined(results)

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        # Spawned: forking a process that runs threads can hang the child.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            workers, mp_context=context, initializer=live_with, initargs=(os.getpid(),)
        )

    async def _in_thread(self, work: Callable[..., bytes], *arguments: Any) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _path(self, name: str) -> Path:
        """Return an image's file; raises `NoImage` for one that is not in the image folder."""
        shown = repr(name) if name else "the CCD table"
        try:
            path = (self.images / name).resolve()
            inside = bool(name) and path.is_relative_to(self.images)
            found = inside and path.is_file()
            readable = found and os.access(path, os.R_OK)
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a circle of links
            reason = (error.strerror if isinstance(error, OSError) else None) or "not a file's name"
            raise NoImage(f"{shown}: names no file ({reason})") from error
        if not inside:
            raise NoImage(f"{shown} names no file in the image folder")
        if not found:
            raise NoImage(f"{shown}: no such file in the image folder")
        if not readable:
            raise NoImage(f"{shown}: may not be read by who runs the server")
        return path

    def _plain(self, text: str) -> str:
        """Return text without the folder that the images are in: nobody's business on the page."""
        return text.replace(f"{self.images}{os.sep}", "").replace(str(self.images), "the folder")

    def _key(self, layout: Layout, size: int, stretch: Stretch) -> str:
        """Return the key of a mosaic; raises `NoImage` where there is not one of its files."""
        prints, missing = [], []
        for name in sorted({place.file for place in layout.places}):
            try:
                path = self._path(name)
                prints.append((str(path), _fingerprint(path)))
            except NoImage as error:
                missing.append(error)
                prints.append((name, "missing"))
        if len(missing) == len(prints):
            raise missing[0]
        return ImageCache.key(_VERSION, prints, layout.places, layout.binning(size), stretch)


def _fingerprint(path: Path) -> str:
    try:
        return file_stamp(path)
    except OSError as error:
        raise NoImage(str(SurveyError(f"{path.name}: {error.strerror}"))) from error


def _place(layout: Layout, ccdnum: int) -> Place:
    for place in layout.places:
        if place.ccdnum == ccdnum:
            return place
    raise NoImage(f"the exposure has no CCD {ccdnum}")


async def _reported(drawing: Awaitable[bytes]) -> bytes:
    """Wait for a drawing; a defect of ours is logged, and no image for who asked."""
    try:
        return await drawing
    except (NoImage, Busy):
        raise
    except Exception as error:
        _LOG.exception("drawing")
        raise NoImage(f"this image cannot be drawn ({type(error).__name__})", 422) from error


async def _shielded(future: asyncio.Future[Any]) -> Any:
    """Wait for work that goes on when the one who waits goes away."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if future.cancelled():
            raise Busy from None
        raise


def _outwards(places: list[Place], size: int) -> list[list[Place]]:
    """Split CCDs into batches, from the middle of the focal plane outwards."""
    ordered = sorted(
        places,
        key=lambda p: (p.left + p.width / 2 - 0.5) ** 2 + (p.top + p.height / 2 - 0.5) ** 2,
    )
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _draw_mosaic(
    exposure: Exposure, ccds: dict[int, Pixels], unreadable: Set[int], stretch: Stretch
) -> bytes:
    return to_jpeg(compose(exposure.layout, exposure.binning, ccds, unreadable, stretch))
