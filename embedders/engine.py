"""Embedding the CCD images of a lake: what to do, on which devices, and when to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from embedders import registry
from embedders.job import Job, check_settings
from embedders.kinds import DeviceEmbedder, Embedder
from embedders.neighbours import Pooled, pool_nights
from embedders.on_ray import Order, embed_on_ray
from embedders.parallel import DeviceTask, embed_side_by_side
from embedders.pipeline import embed_nights
from embedders.plan import plan
from embedders.progress import EmbedSummary, Event, Progress
from embedders.readers import cores
from embedders.registry import Options
from embedders.replacement import apart, promote
from embedders.wanted import first_image
from lake.errors import BadInput, NotFound
from lake.shares import Night, nights, select
from lake.store import Lake

__all__ = ["EmbedSummary", "Event", "Progress", "run"]


def run(
    lake: Lake,
    embedder: str | Embedder | DeviceEmbedder,
    images: Path | Sequence[Path],
    *,
    partitions: Sequence[str] = (),
    releases: Sequence[str] = (),
    ccds_per_exposure: int | None = None,
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    force: bool = False,
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> EmbedSummary:
    """Embed the CCD images of the lake's ``ccds`` into its ``embeddings``.

    An embedder that sees whole exposures (``focal-plane-…``) gives a row an exposure, ``ccdnum``
    0; a CCD that cannot be read is missing from its picture and a row of ``failures``. For
    ``….neighbours`` the vectors of the embedder before it are brought up to date first and then
    pooled; the summary counts their images and the pooled partitions.

    Vectors are added or made anew, and never go: those that the run does not ask for, or whose
    images are missing or cannot be read, are kept and counted. Where the lake has vectors of other
    settings, `force` makes new ones that wait beside them until all have theirs.

    Parameters
    ----------
    embedder : a name of `embedders.registry`, or an embedder.
    images : the folder that ``image_filename`` is relative to, or several of them.
    partitions, releases : which nights, as `lake.shares.select` takes them, of which releases
        (all); the latest processing of a CCD image counts.
    ccds_per_exposure : how many CCDs to draw of each exposure, by (`seed`, expnum) alone; does
        not apply to whole exposures, of which all CCDs are used.
    device : ``auto`` (all GPUs of the machine, else the cores), or devices as torch names them,
        joined by commas; each gets a process of its own and a share of the nights.
    workers : processes that read for each device, by default one a core; where the model itself
        runs on the cores, as many threads run it.
    engine : ``local``, or ``ray`` for the cluster at `ray_address` (by default the one that Ray
        finds by itself, else this machine).
    force : compute again what is current.
    prune : remove the vectors that would be kept; `announce` is told first how many these are. Of
        other settings, the new vectors take the place of the old ones as many as they are.
    stop : when set, the run ends soon and commits nothing that is not whole. SIGTERM and SIGINT
        set it too where `run` is called from the main thread.

    Raises
    ------
    SurveyError : nothing to embed, none of the images there, missing weights, vectors of other
        settings in the lake, a damaged partition, a full disk.
    """
    if ccds_per_exposure is not None and ccds_per_exposure < 1:
        raise BadInput(f"--ccds-per-exposure {ccds_per_exposure}: expected 1 or more, or all")
    folders = (images,) if isinstance(images, Path) else tuple(images)
    for folder in folders:
        if not folder.is_dir():
            raise NotFound(f"--images {folder}: no such folder")
    if workers is not None and workers < 1:
        raise BadInput(f"--workers {workers}: expected 1 or more")
    counts = nights(lake, releases)
    if not counts:
        which = f" of release {', '.join(releases)}" if releases else ""
        raise NotFound(f"lake {lake.root} has no CCDs{which}; run `survey-qa ingest ccds` first")
    if engine not in ("local", "ray"):
        raise BadInput(f"--engine {engine}: expected local or ray")
    devices = [device]
    make: Callable[[], Embedder | DeviceEmbedder]
    pooled = None
    if isinstance(embedder, str):
        weights = weights and weights.absolute()
        options = Options(embedder, device.split(",")[0], weights, precision, batch_size)
        found = registry.embedder(options)
        if isinstance(found, Pooled):
            pooled, found = found, found.base
            options = replace(options, name=found.name)
        embedder = found
        make = partial(registry.image_embedder, options)
        if isinstance(embedder, DeviceEmbedder):
            devices = embedder.devices(device)
    else:
        make = partial(_itself, embedder)
    view = registry.view(embedder)
    job = Job(
        name=embedder.name,
        embedder=dict(embedder.settings),
        dimension=embedder.dimension,
        notes=_notes(embedder),
        images=tuple(folder.absolute() for folder in folders),
        releases=tuple(releases),
        ccds_per_exposure=None if view.mosaic else ccds_per_exposure,
        seed=seed,
        force=force,
        prune=prune,
        view=view,
    )
    chosen = select(counts, partitions)
    job = apart(lake, job)
    _check_images(lake, job, chosen)
    if prune and announce is not None:
        _announce(lake, job, chosen, announce)
    with _stopping(stop or threading.Event()) as stopping:
        if engine == "ray":
            order = Order(lake.root.absolute(), job, make, workers)
            summary = embed_on_ray(order, chosen, ray_address, progress, stopping)
        elif len(devices) == 1:
            summary = embed_nights(lake, job, embedder, chosen, workers, progress, stopping)
        else:
            weight = {night: counts[night] for night in chosen}
            shares = [select(weight, [f"{n}/{len(devices)}"]) for n in range(1, len(devices) + 1)]
            if isinstance(embedder, DeviceEmbedder) and embedder.has_memory:
                workers = workers or max(cores() // len(devices), 1)
            tasks = [
                DeviceTask(
                    one,
                    lake.root,
                    job,
                    partial(registry.image_embedder, replace(options, device=one)),
                    tuple(share),
                    workers,
                )
                for one, share in zip(devices, shares, strict=True)
                if share
            ]
            summary = embed_side_by_side(tasks, progress, stopping)
        if job.is_apart and not summary.stopped:
            summary.n_apart, summary.n_behind = promote(lake, job, announce)
        if pooled is None or summary.n_behind:
            return summary
        its_job = replace(
            job,
            name=pooled.name,
            embedder=dict(pooled.settings),
            dimension=pooled.dimension,
            notes=pooled.notes,
            is_apart=False,
        )
        if not force:
            check_settings(lake, its_job)
        done = pool_nights(lake, its_job, job.name, chosen, progress, stopping)
        return replace(
            summary,
            n_partitions=done.n_partitions,
            n_skipped=done.n_skipped,
            stopped=done.stopped or summary.stopped,
            remaining=sorted({*summary.remaining, *done.remaining}),
        )


def _check_images(lake: Lake, job: Job, chosen: Sequence[Night]) -> None:
    """Raise `SurveyError` where the CCD tables name images and not one of them is there."""
    found, n_looked = first_image(lake, job, chosen)
    if n_looked and not found:
        folders = " or ".join(str(folder) for folder in job.images)
        raise BadInput(
            f"none of the {n_looked:,} images that the CCD table names is under {folders}: is it "
            "the folder that the table's image_filename is relative to, and mounted? Nothing was "
            "written"
        )


def _announce(
    lake: Lake, job: Job, chosen: Sequence[Night], announce: Callable[[str], None]
) -> None:
    """Say how many vectors go, before any does."""
    gone = [len(plan(lake, job, night).pruned) for night in chosen]
    announce(
        f"{sum(gone):,} vectors of {sum(map(bool, gone)):,} nights are removed: this run does not "
        "ask for them, or their images are missing"
    )


def _itself(embedder: Embedder | DeviceEmbedder) -> Embedder | DeviceEmbedder:
    return embedder


def _notes(embedder: Embedder | DeviceEmbedder) -> dict[str, Any]:
    """Return what readers of the vectors want to know: the names of the features, if any."""
    features = embedder.settings.get("features")
    return {"features": list(features)} if features else {}


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[threading.Event]:
    """Have SIGTERM and SIGINT set `stop`; a second one does what it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
