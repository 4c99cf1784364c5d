"""The device's side of the engine: threads that run the model while images are prepared."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from embedders.kinds import DeviceEmbedder
from embedders.progress import Stop
from lake.errors import SurveyError

Owner = TypeVar("Owner")

#: Batches that may wait while one is computed, for each thread.
_AHEAD = 2
_TICK = 0.1
_TOO_SMALL = "the device has not enough memory for one image; take a smaller model, or --device cpu"


class Device(Generic[Owner]):
    """Gathers prepared images into batches and has `n_threads` threads compute their vectors.

    A device with arithmetic of its own needs one; cores are used best by one batch each.
    Batches mix partitions, so that only the last of a run is not full; that one is padded, since
    the last bits of a vector may depend on the shape of its batch but not on its neighbours.
    A batch for which memory is short is halved, and so are all after it.
    """

    def __init__(self, embedder: DeviceEmbedder, stop: Stop, n_threads: int = 1) -> None:
        self._embedder, self._stop = embedder, stop
        self._gathered: list[tuple[Owner, Any]] = []
        self._batches: queue.Queue[list[tuple[Owner, Any]] | None] = queue.Queue(_AHEAD * n_threads)
        self._results: queue.SimpleQueue[list[tuple[Owner, np.ndarray]] | Exception] = (
            queue.SimpleQueue()
        )
        self._n_waiting = 0
        self._threads = [
            threading.Thread(target=self._work, name="device", daemon=True)
            for _ in range(n_threads)
        ]

    def __enter__(self) -> Device[Owner]:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            while thread.is_alive():
                # What still waits is of no use any more: without it the threads end soon.
                with contextlib.suppress(queue.Empty):
                    while True:
                        self._batches.get_nowait()
                self._batches.put(None)
                thread.join(_TICK)

    @property
    def busy(self) -> bool:
        """Whether results are still to come for what was handed over."""
        return self._n_waiting > 0

    def put(self, owner: Owner, pixels: np.ndarray) -> None:
        """Prepare an image; it may be overwritten once this returns.

        Raises `SurveyError` when the device has not enough memory for it alone.
        """
        try:
            prepared = self._embedder.prepare(pixels)
        except MemoryError:
            self._batches.join()
            try:
                prepared = self._embedder.prepare(pixels)
            except MemoryError as error:
                raise SurveyError(_TOO_SMALL) from error
        self._gathered.append((owner, prepared))
        if len(self._gathered) >= self._embedder.batch_size:
            self.flush()

    def flush(self) -> None:
        """Hand over what has been gathered, full or not; waits for room."""
        while self._gathered and not self._stop.is_set():
            try:
                self._batches.put(self._gathered, timeout=_TICK)
            except queue.Full:
                continue
            self._n_waiting += 1
            self._gathered = []

    def results(self, timeout: float) -> Iterator[tuple[Owner, np.ndarray]]:
        """Yield the vectors that are ready, waiting for the first up to `timeout` seconds.

        Raises `SurveyError` when the device has not enough memory for a single image.
        """
        while self._n_waiting:
            try:
                result = (
                    self._results.get(timeout=timeout) if timeout else self._results.get_nowait()
                )
            except queue.Empty:
                return
            if isinstance(result, Exception):
                raise result
            self._n_waiting -= 1
            yield from result
            timeout = 0

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                owners = [owner for owner, _ in batch]
                vectors = self._embed([prepared for _, prepared in batch])
            except Exception as error:  # raised again where the results are awaited
                self._results.put(error)
                continue
            finally:
                self._batches.task_done()
            self._results.put(list(zip(owners, vectors, strict=True)))

    def _embed(self, prepared: Sequence[Any]) -> list[np.ndarray]:
        vectors: list[np.ndarray] = []
        while len(vectors) < len(prepared):
            size = self._embedder.batch_size
            batch = list(prepared[len(vectors) : len(vectors) + size])
            padding = [batch[-1]] * (size - len(batch))
            try:
                found = self._embedder.embed_prepared([*batch, *padding])
            except MemoryError as error:
                if size == 1:
                    raise SurveyError(_TOO_SMALL) from error
                # Another thread may have halved it already.
                self._embedder.batch_size = min(self._embedder.batch_size, size // 2)
            else:
                vectors.extend(found[: len(batch)])
        return vectors
