"""Several devices at once: a process for each, which embeds a share of the nights by itself."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from embedders.job import Job
from embedders.kinds import DeviceEmbedder, Embedder
from embedders.pipeline import embed_nights
from embedders.progress import EmbedSummary, Event, Progress, Stop
from lake.errors import SurveyError
from lake.shares import Night
from lake.store import Lake


@dataclass(frozen=True)
class DeviceTask:
    """What one device is to do: the job and a share of the nights.

    `make` (which must be picklable) makes the embedder where it is used.
    """

    device: str
    lake: Path
    job: Job
    make: Callable[[], Embedder | DeviceEmbedder]
    nights: tuple[Night, ...]
    workers: int | None


_TICK = 0.1


class _Halt:
    """Set when the run is stopped, and when the process that started it is gone."""

    def __init__(self, event: Any) -> None:
        self._event, self._parent = event, multiprocessing.parent_process()

    def is_set(self) -> bool:
        return self._event.is_set() or not (self._parent and self._parent.is_alive())


def embed_side_by_side(
    tasks: Sequence[DeviceTask], progress: Progress | None, stop: Stop
) -> EmbedSummary:
    """Have each device do its task in a process of its own.

    Raises `SurveyError` when a process fails, once the others have been stopped.
    """
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    running: dict[Connection, tuple[str, BaseProcess]] = {}
    for task in tasks:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_embed, args=(theirs, task, halt))
        process.start()
        theirs.close()
        running[ours] = (task.device, process)

    total, settled = EmbedSummary(), 0
    of_partitions = sum(len(task.nights) for task in tasks)
    failure: SurveyError | None = None
    while running:
        if stop.is_set():
            halt.set()
        ready = wait(list(running), _TICK)
        for pipe in [pipe for pipe in running if pipe in ready]:
            message = _receive(pipe, *running[pipe])
            if isinstance(message, Event):
                settled += message.kind != "images"
                if progress is not None:
                    progress(replace(message, n_partitions=settled, of_partitions=of_partitions))
                continue
            if isinstance(message, EmbedSummary):
                total += message
            else:
                failure = failure or message
                halt.set()
            running.pop(pipe)[1].join()
            pipe.close()
    if failure is not None:
        raise failure
    return total


def _receive(
    pipe: Connection, device: str, process: BaseProcess
) -> Event | EmbedSummary | SurveyError:
    try:
        message: Event | EmbedSummary | SurveyError = pipe.recv()
    except EOFError:
        process.join()
        return SurveyError(
            f"the process of device {device} died (exit code {process.exitcode}); what it "
            "committed is safe: run again to go on"
        )
    return message


def _embed(pipe: Connection, task: DeviceTask, halt: Any) -> None:
    # Whoever started the run decides when it ends; a signal to the whole group is for them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        summary = embed_nights(
            Lake(task.lake),
            task.job,
            task.make(),
            task.nights,
            task.workers,
            pipe.send,
            _Halt(halt),
        )
        pipe.send(summary)
    except SurveyError as error:
        pipe.send(error)
