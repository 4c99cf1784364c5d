"""Simulate a survey: plan its exposures; write images, CCD table, lists and truth."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from lake.errors import BadInput, Conflict, SurveyError
from lake.outputs import write_output_text
from simulator.camera import CCDS
from simulator.conditions import Exposure, Settings, good_conditions, nights
from simulator.defects import inject
from simulator.files import Measured, read_measured, write_exposure
from simulator.lists import listed_classes, write_lists
from simulator.tables import ccd_table, write_ccd_table, write_truth

_OBSERVING_HOURS = 9.0
_RECORD = "simulation.json"
_VERSION = 1  # of the simulation itself; raised when the same settings give other pixels
_PROPOSAL = "2014B-0404"


@dataclass(frozen=True)
class SimulatedSurvey:
    """Where a simulated survey lies.

    Attributes
    ----------
    images
        The folder that ``image_filename`` of the CCD table is relative to.
    ccd_table
        ``survey-ccds-sim.fits.gz``.
    decam_list, delve_lists
        The lists, with their errors.
    truth, truth_exposures
        A row per CCD with a defect; a row per exposure, good ones included.
    """

    directory: Path
    images: Path
    ccd_table: Path
    decam_list: Path
    delve_lists: tuple[Path, ...]
    truth: Path
    truth_exposures: Path
    n_exposures: int
    n_ccds: int
    n_visible: int


def plan(settings: Settings, seed: int) -> list[Exposure]:
    """Decide everything about a survey's exposures but their pixels, in the order they are taken.

    Bad exposures are spread evenly over the nights; strengths are stratified, over all of them
    and within each class, so that small surveys too have weak and strong defects of every class.
    """
    if seed < 0:
        raise BadInput(f"cannot simulate with seed {seed}; give 0 or more")
    rng = np.random.default_rng([seed, 0])
    defects = _defects(settings, rng)
    exposures = []
    step = timedelta(hours=_OBSERVING_HOURS / settings.exposures_per_night)
    for night, start in enumerate(nights(settings, rng)):
        night_seeing, night_sky = np.clip(rng.standard_normal(2), -1.5, 1.5)
        for index in range(settings.exposures_per_night):
            number = night * settings.exposures_per_night + index
            band = settings.bands[index % len(settings.bands)]
            conditions = good_conditions(rng, band, night_seeing, night_sky, len(CCDS))
            date_obs = start + index * step + timedelta(seconds=float(rng.uniform(0, 10)))
            defect = None
            if number in defects:
                kind, strength = defects[number]
                conditions, defect = inject(conditions, kind, strength, rng, settings)
            exposures.append(
                Exposure(
                    expnum=settings.first_expnum + number + 60 * night,
                    night=(start - timedelta(days=1)).strftime("%Y%m%d"),
                    date_obs=date_obs,
                    ra=float(
                        np.round(
                            (
                                310
                                + 15 * _OBSERVING_HOURS * index / settings.exposures_per_night
                                + rng.uniform(-10, 10)
                            )
                            % 360,
                            6,
                        )
                    ),
                    dec=float(np.round(rng.uniform(-30, 15), 6)),
                    propid=_PROPOSAL,
                    ebv=float(
                        np.round(
                            0.04 * rng.beta(2, 2)
                            if rng.random() < 0.97
                            else rng.uniform(0.04, 0.1),
                            4,
                        )
                    ),
                    seed=int(rng.integers(2**62)),
                    conditions=conditions,
                    defect=defect,
                )
            )
    return exposures


def _defects(settings: Settings, rng: np.random.Generator) -> dict[int, tuple[str, float]]:
    """Index of exposure -> class and strength of its defect."""
    count = settings.n_nights * settings.exposures_per_night
    n_bad = round(count * settings.bad_fraction)
    if n_bad == 0:
        return {}
    # every night gets its share of the bad ones, in random places
    places: list[int] = []
    edges = np.round(np.linspace(0, n_bad, settings.n_nights + 1)).astype(int)
    for night, share in enumerate(np.diff(edges)):
        first = night * settings.exposures_per_night
        chosen = rng.permutation(settings.exposures_per_night)[:share]
        places.extend(first + int(place) for place in chosen)
    low, high = np.log(settings.strength_range)
    quantiles = (np.arange(n_bad) + rng.random(n_bad)) / n_bad
    strengths = np.exp(low + quantiles * (high - low))
    kinds: list[str] = []
    while len(kinds) < n_bad:
        kinds.extend(str(kind) for kind in rng.permutation(settings.classes))
    return {
        int(place): (kind, float(strength))
        for place, kind, strength in zip(rng.permutation(places), kinds, strengths, strict=False)
    }


def _write_one(images: Path, settings: Settings, exposure: Exposure) -> Measured:
    path = images / exposure.filename
    if path.exists():  # of this very survey, see _claim; files appear whole
        return read_measured(path)
    with threadpool_limits(1):
        return write_exposure(path, exposure, settings)


def _claim(directory: Path, settings: Settings, seed: int) -> None:
    """Record what the directory holds, and refuse one that holds something else."""
    record = directory / _RECORD
    mine = json.dumps({"version": _VERSION, "seed": seed, "settings": asdict(settings)}, indent=1)
    if record.exists():
        if record.read_text() != mine:
            raise Conflict(
                f"{directory} holds a survey that was simulated with other settings; "
                "choose another directory or delete this one"
            )
        return
    if any((directory / "images").iterdir()):
        raise BadInput(
            f"{directory / 'images'} is not empty and was not simulated here; "
            "choose another directory"
        )
    write_output_text(record, mine)


def _write_all(
    images: Path, exposures: Sequence[Exposure], settings: Settings, workers: int
) -> Iterator[Measured]:
    write = partial(_write_one, images, settings)
    if workers == 1:
        yield from map(write, exposures)
        return
    # spawned: forking a process that has run threads (torch, duckdb) can hang it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts)
    try:
        yield from pool.map(write, exposures)
    finally:
        # on an error or an interrupt, exposures that have not begun are not waited for
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def simulate(
    directory: Path,
    settings: Settings,
    seed: int,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedSurvey:
    """Write a simulated survey under a directory.

    The same settings and seed give the same bytes of images, whatever the number of workers.

    Parameters
    ----------
    directory
        Made where missing. Run again with the same settings and seed, images that are there stay;
        so an interrupted run goes on where it was.
    workers
        Processes that render exposures.
    progress
        Called with the number of exposures done and in all.

    Raises
    ------
    SurveyError
        For a directory that cannot be written or holds something else, less than one worker, or
        GalSim missing.
    """
    if workers < 1:
        raise BadInput(f"cannot simulate with {workers} workers; give at least 1")
    exposures = plan(settings, seed)
    images = directory / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
        _claim(directory, settings, seed)
        measured = []
        for result in _write_all(images, exposures, settings, workers):
            measured.append(result)
            if progress is not None:
                progress(len(measured), len(exposures))
        rng = np.random.default_rng([seed, 2])
        classes = listed_classes(exposures, settings, rng)
        listed, lists = write_lists(directory, exposures, classes, rng)
        table_path = directory / "survey-ccds-sim.fits.gz"
        write_ccd_table(table_path, ccd_table(exposures, measured, settings, seed))
        truth, truth_exposures = write_truth(directory, exposures, listed)
    except OSError as error:
        raise SurveyError(
            f"cannot write the simulated survey under {directory}: {error}"
        ) from error
    return SimulatedSurvey(
        directory=directory,
        images=images,
        ccd_table=table_path,
        decam_list=lists[0],
        delve_lists=tuple(lists[1:]),
        truth=truth,
        truth_exposures=truth_exposures,
        n_exposures=len(exposures),
        n_ccds=len(exposures) * len(CCDS),
        n_visible=sum(
            exposure.defect is not None and exposure.defect.visible for exposure in exposures
        ),
    )
