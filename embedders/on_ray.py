"""A Ray cluster: actors that each hold an embedder and take one night after the other.

A night is embedded and committed as everywhere else, so that it does no harm when Ray gives it to
another actor because the first one died: what was committed is skipped, the rest is done again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedders.job import Job
from embedders.kinds import DeviceEmbedder, Embedder
from embedders.pipeline import embed_nights
from embedders.progress import EmbedSummary, Event, Progress, Stop
from lake.errors import BadInput
from lake.extras import import_extra
from lake.shares import Night
from lake.store import Lake

#: How often Ray may start an actor again, and give a night to another try.
_RETRIES = 5
_TICK = 0.5


@dataclass(frozen=True)
class Order:
    """What each actor is to do; `make` makes its embedder, `workers` read for it."""

    lake: Path
    job: Job
    make: Callable[[], Embedder | DeviceEmbedder]
    workers: int | None


class _Actor:
    """Embeds nights; the embedder is made once."""

    def __init__(self, order: Order) -> None:
        self._order, self._embedder = order, order.make()

    def embed(self, night: Night) -> EmbedSummary:
        """Embed and commit one night."""
        order = self._order
        if dict(self._embedder.settings) != dict(order.job.embedder):
            raise BadInput(
                "the embedder of a Ray node has other settings than that of the node that asks; "
                "name --device and --precision"
            )
        return embed_nights(
            Lake(order.lake),
            order.job,
            self._embedder,
            [night],
            order.workers,
            None,
            threading.Event(),
        )


def embed_on_ray(
    order: Order,
    nights: Sequence[Night],
    address: str | None,
    progress: Progress | None,
    stop: Stop,
) -> EmbedSummary:
    """Have the actors of a Ray cluster embed `nights`, an actor for each GPU (else each core).

    Raises `SurveyError` when Ray is not installed, cannot be reached, or an actor fails.
    """
    ray = import_extra("ray", "ray", "--engine ray")
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(
                address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInput(f"--engine ray: no cluster at {address} ({error})") from error
    try:
        return _embed(order, nights, progress, stop)
    finally:
        if started:
            ray.shutdown()


def _embed(
    order: Order, nights: Sequence[Night], progress: Progress | None, stop: Stop
) -> EmbedSummary:
    import ray

    resources = ray.cluster_resources()
    n_gpus, n_cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    # An actor's readers are its own processes: its cores are reserved for them.
    readers = order.workers or (max(n_cores // n_gpus, 1) if n_gpus else 1)
    order = replace(order, workers=readers)
    options: dict[str, Any] = {
        "num_gpus": 1 if n_gpus else 0,
        "num_cpus": min(readers, n_cores),
        "max_restarts": _RETRIES,
        "max_task_retries": _RETRIES,
    }
    actor: Any = ray.remote(**options)(_Actor)
    idle = [
        actor.remote(order) for _ in range(min(n_gpus or max(n_cores // readers, 1), len(nights)))
    ]

    waiting = list(reversed(nights))
    running: dict[Any, tuple[Any, Night]] = {}
    total, settled = EmbedSummary(), 0
    while (waiting or running) and not stop.is_set():
        while waiting and idle:
            one, night = idle.pop(), waiting.pop()
            running[one.embed.remote(night)] = (one, night)
        done, _ = ray.wait(list(running), timeout=_TICK)
        for reference in done:
            try:
                summary = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise BadInput(f"--engine ray: {error.cause}") from error
            except ray.exceptions.RayError as error:
                raise BadInput(f"--engine ray: an actor was lost ({error})") from error
            one, night = running.pop(reference)
            idle.append(one)
            total, settled = total + summary, settled + 1
            if progress is not None:
                progress(_event(night, summary, settled, len(nights)))
    total.stopped = stop.is_set()
    left = [*waiting, *(night for _, night in running.values())]
    total.remaining = sorted(f"camera={night[0]}/night={night[1]}" for night in left)
    return total


def _event(night: Night, summary: EmbedSummary, settled: int, of_partitions: int) -> Event:
    return Event(
        "skipped" if summary.n_skipped else "committed",
        f"camera={night[0]}/night={night[1]}",
        summary.n_images + summary.n_reused,
        summary.n_failed,
        settled,
        of_partitions,
    )
