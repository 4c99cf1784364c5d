"""Which images a night's CCD tables ask for, and in which files they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedders.job import Job
from embedders.tasks import Ccd, FileTask, Flaw, Key, MosaicTask, Task
from lake.cameras import is_by_camera
from lake.focal_plane import layout
from lake.shares import Night
from lake.store import Lake, Partition, read_file
from lake.versions import processing

#: What tells CCD images apart, and which processing of one is the latest.
_ORDER = ("expnum", "ccdnum", "procdate", "plver")
_COLUMNS = ("ccdname", "image_filename", "image_hdu")
#: How an image's mask and weights are called in its place; either may be compressed or not.
_BESIDE = ("_ood_", "_oow_")


def first_image(lake: Lake, job: Job, nights: Sequence[Night]) -> tuple[bool, int]:
    """Tell whether any image of some nights is there, and how many were looked for."""
    looked: set[str] = set()
    for night in nights:
        for part in ccd_sources(lake, job.releases, night):
            names = read_file(part.path, ["image_filename"])["image_filename"].unique()
            for name in names.to_pylist():
                name = (name or "").strip()
                if name and name not in looked:
                    looked.add(name)
                    if locate(job.images, name).is_file():
                        return True, len(looked)
    return False, len(looked)


def ccd_sources(lake: Lake, releases: Sequence[str], night: Night) -> list[Partition]:
    """Return the partitions of CCD rows of `night` that count."""
    return [
        partition
        for partition in lake.partitions("ccds", camera=night[0], night=night[1])
        if not releases or partition["release"] in releases
    ]


def draw(rows: list[dict[str, Any]], per_exposure: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the rows of `per_exposure` CCDs of each exposure, drawn by (seed, expnum) alone.

    CCDs are ranked by a hash, so that neither the order of the rows nor the other exposures
    matter, and a CCD that is added to the table displaces at most one.
    """
    if per_exposure is None:
        return rows
    exposures: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        exposures.setdefault(row["expnum"], []).append(row)

    def rank(row: dict[str, Any]) -> bytes:
        text = f"{seed}/{row['expnum']}/{row['ccdnum']}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    return [row for ccds in exposures.values() for row in sorted(ccds, key=rank)[:per_exposure]]


def tasks_of(
    job: Job, camera: str, rows: list[dict[str, Any]], per_exposure: int | None, seed: int
) -> tuple[list[Task], list[dict[str, Any]]]:
    """Return the files (or exposures) that `rows` name, and the failures of rows without any."""
    if job.view.mosaic:
        return _exposures(job, camera, rows, job.view.mosaic)
    files, nameless = _files(job, camera, draw(rows, per_exposure, seed))
    return list(files), nameless


def locate(folders: tuple[Path, ...], file: str) -> Path:
    paths = [folder / file for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _files(
    job: Job, camera: str, rows: list[dict[str, Any]]
) -> tuple[list[FileTask], list[dict[str, Any]]]:
    """Return the files that `rows` name, and the failures of rows that name none."""
    of = camera if is_by_camera(job.embedder) else None
    files: dict[str, list[Ccd]] = {}
    nameless = []
    for row in rows:
        file = (row["image_filename"] or "").strip()
        name = (row["ccdname"] or "").strip() or None
        ccd = Ccd(row["expnum"], row["ccdnum"], row["image_hdu"], name)
        if file:
            files.setdefault(file, []).append(ccd)
        else:
            nameless.append(_failure(ccd, "", "the CCD table names no image file"))
    tasks = []
    for file, ccds in sorted(files.items()):
        path = locate(job.images, file)
        mask, weight = (_beside(path, kind) if job.view.masked else None for kind in _BESIDE)
        tasks.append(FileTask(file, path, tuple(ccds), mask, weight, job.view.height, camera=of))
    return tasks, nameless


def _exposures(
    job: Job, camera: str, rows: list[dict[str, Any]], size: int
) -> tuple[list[Task], list[dict[str, Any]]]:
    """Return the focal planes of all exposures, and the failures of what has no place in them."""
    exposures: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        exposures.setdefault(row["expnum"], []).append(row)
    tasks: list[Task] = []
    failures = []
    for expnum, ccds in exposures.items():
        plane = layout(ccds)
        placed = [row for row in ccds if row["ccdnum"] not in plane.unplaced]
        files, nameless = _files(job, camera, placed)
        failures += nameless
        for row in ccds:
            if row["ccdnum"] in plane.unplaced:
                ccd = Ccd(expnum, row["ccdnum"], None, None)
                error = "the CCD table's size or astrometry gives it no place in the focal plane"
                failures.append(_failure(ccd, (row["image_filename"] or "").strip(), error))
        exposure = Ccd(expnum, 0, None, None)
        if files:
            tasks.append(MosaicTask(tuple(files), plane, size, (exposure,)))
        else:
            failures.append(_failure(exposure, "", "none of its CCDs has an image and a place"))
    return tasks, failures


def _beside(path: Path, kind: str) -> Path | None:
    """Return the mask or the weights of an image, None when there are none."""
    if "_ooi_" not in path.name:
        return None
    name = path.name.replace("_ooi_", kind)
    other = name.removesuffix(".fz") if name.endswith(".fz") else f"{name}.fz"
    return next((path.with_name(n) for n in (name, other) if path.with_name(n).is_file()), None)


def count_unmasked(tasks: list[Task]) -> int:
    files = [file for t in tasks for file in (t.files if isinstance(t, MosaicTask) else (t,))]
    return sum(len(file.ccds) for file in files if file.mask is None)


def latest(sources: Sequence[Partition], columns: tuple[str, ...]) -> dict[Key, dict[str, Any]]:
    """Return the CCD rows of some releases, the latest processing of each, sorted by key."""
    best: dict[Key, tuple[tuple[str, ...], dict[str, Any]]] = {}
    for source in sources:
        release = source["release"]
        for row in read_file(source.path, list(dict.fromkeys((*_ORDER, *columns)))).to_pylist():
            key = (row["expnum"], row["ccdnum"])
            rank = processing(row["procdate"], row["plver"], release)
            if key not in best or rank > best[key][0]:
                best[key] = (rank, row)
    return {key: row for key, (_, row) in sorted(best.items(), key=lambda item: item[0])}


def row_key(row: Mapping[str, Any]) -> Key:
    return row["expnum"], row["ccdnum"]


def _failure(ccd: Ccd, file: str, error: str) -> dict[str, Any]:
    return {"expnum": ccd.expnum, "ccdnum": ccd.ccdnum, "file": file, "error": error}


def failure(task: Task, ccd: Ccd, error: str) -> dict[str, Any]:
    """Return the row of ``failures`` for an image that could not be used."""
    return _failure(ccd, task.where(ccd), error)


def flaw_failure(flaw: Flaw) -> dict[str, Any]:
    """Return the row of ``failures`` for a CCD that its exposure's mosaic had to do without."""
    return _failure(flaw.ccd, flaw.file, flaw.error)
