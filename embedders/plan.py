"""What a partition of vectors needs: which CCDs, from which files, and what can be kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embedders.tasks import CCD_BY_CCD, Ccd, FileTask, Flaw, Key, MosaicTask, Task, View
from embedders.vectors import read_vectors, row_keys
from lake.errors import SurveyError
from lake.focal_plane import COLUMNS, Layout, layout
from lake.shares import Night
from lake.store import Lake, Partition, Record, digest, file_fingerprint, read_file
from lake.versions import natural

STAGE = "embed"
#: What stands for the fingerprint of an image file that does not exist.
MISSING = "missing"

#: What tells CCD images apart, and which processing of one is the latest.
_ORDER = ("expnum", "ccdnum", "procdate", "plver")
_COLUMNS = ("ccdname", "image_filename", "image_hdu")
#: How the files beside an image are called in its place; either may be compressed or not.
_BESIDE = {"mask": "_ood_", "weight": "_oow_"}


@dataclass(frozen=True)
class Job:
    """What a run was asked for, apart from how fast it should be.

    `embedder` holds the settings that change the vectors; `images` the folders that
    ``image_filename`` is relative to, of which the first that has a file wins;
    `ccds_per_exposure` None takes all; `view` is what the embedder is shown.
    """

    name: str
    embedder: Mapping[str, Any]
    dimension: int
    notes: Mapping[str, Any]
    images: tuple[Path, ...]
    releases: tuple[str, ...] = ()
    ccds_per_exposure: int | None = None
    seed: int = 0
    force: bool = False
    view: View = CCD_BY_CCD

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that go into the record of each partition."""
        return {
            "embedder": dict(self.embedder),
            "ccds_per_exposure": self.ccds_per_exposure,
            "seed": None if self.ccds_per_exposure is None else self.seed,
        }

    def keys(self, night: Night) -> dict[str, str]:
        """Return the keys of the partition of vectors of `night`."""
        return {"embedder": self.name, "camera": night[0], "night": night[1]}


@dataclass
class Plan:
    """The work that one partition needs.

    Attributes
    ----------
    record : what the partition will carry in its footer.
    tasks : the files (or exposures) to read.
    vectors, failures : what an earlier run found for files that have not changed since.
    n_unmasked : CCD images, read now or before, that should be masked and have no mask.
    """

    night: Night
    record: Record
    tasks: list[Task] = field(default_factory=list)
    vectors: dict[Key, np.ndarray] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    n_unmasked: int = 0

    @property
    def name(self) -> str:
        """``camera=…/night=…``, as ``--partition`` takes it."""
        return f"camera={self.night[0]}/night={self.night[1]}"


def plan(lake: Lake, job: Job, night: Night) -> Plan | None:
    """Return what the partition of `night` needs, or None when it is current.

    Raises `SurveyError` when a partition of CCD rows is damaged.
    """
    sources = ccd_sources(lake, job, night)
    inputs = {f"ccds/{source['release']}": source.fingerprint for source in sources}
    mosaic = job.view.mosaic
    rows = latest(sources, _COLUMNS + (COLUMNS if mosaic else ()))
    if mosaic:
        tasks, failures = _exposures(job, rows, mosaic)
    else:
        files, failures = _files(job, draw(rows, job.ccds_per_exposure, job.seed))
        tasks = list(files)
    inputs |= {task.input: _drawn(task) for task in tasks}

    notes = {**job.notes, "dimension": job.dimension}
    n_unmasked = _count_unmasked(tasks) if job.view.masked else 0
    if job.view.masked:
        notes["n_unmasked"] = n_unmasked
    record = Record(STAGE, job.settings, inputs, notes)
    if not job.force and lake.is_current("embeddings", job.keys(night), record):
        return None
    planned = Plan(night, record, tasks, failures=failures, n_unmasked=n_unmasked)
    if not job.force:
        _reuse(lake, job, planned)
    return planned


def ccd_sources(lake: Lake, job: Job, night: Night) -> list[Partition]:
    """Return the partitions of CCD rows of `night` that count for `job`."""
    return [
        partition
        for partition in lake.partitions("ccds", camera=night[0], night=night[1])
        if not job.releases or partition["release"] in job.releases
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


def check_settings(lake: Lake, job: Job, spared: frozenset[Night]) -> None:
    """Raise `SurveyError` when the lake holds vectors of other settings under the same name.

    Partitions of `spared` are about to be made anew and do not count.
    """
    for partition in lake.partitions("embeddings", embedder=job.name):
        record = partition.record()
        theirs = {} if record is None else record.settings.get("embedder", {})
        if theirs == dict(job.embedder) or (partition["camera"], partition["night"]) in spared:
            continue
        names = sorted(theirs.keys() | job.embedder.keys())
        differences = ", ".join(
            f"{name} {theirs.get(name)!r} there, {job.embedder.get(name)!r} now"
            for name in names
            if theirs.get(name) != job.embedder.get(name)
        )
        raise SurveyError(
            f"{partition.path}: its vectors were made with other settings ({differences}); use "
            "the same settings, or make every partition anew with --force"
        )


def _locate(folders: tuple[Path, ...], file: str) -> Path:
    paths = [folder / file for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _files(job: Job, rows: list[dict[str, Any]]) -> tuple[list[FileTask], list[dict[str, Any]]]:
    """Return the files that `rows` name, and the failures of rows that name none."""
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
        path = _locate(job.images, file)
        beside = {kind: _beside(path, kind) for kind in _BESIDE} if job.view.masked else {}
        tasks.append(FileTask(file, path, tuple(ccds), height=job.view.height, **beside))
    return tasks, nameless


def _exposures(
    job: Job, rows: list[dict[str, Any]], size: int
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
        files, nameless = _files(job, placed)
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
    name = path.name.replace("_ooi_", _BESIDE[kind])
    other = name.removesuffix(".fz") if name.endswith(".fz") else f"{name}.fz"
    return next((path.with_name(n) for n in (name, other) if path.with_name(n).is_file()), None)


def _count_unmasked(tasks: list[Task]) -> int:
    files = [file for t in tasks for file in (t.files if isinstance(t, MosaicTask) else (t,))]
    return sum(len(file.ccds) for file in files if file.mask is None)


def _drawn(task: Task) -> str:
    """Fingerprint the files of a task together with what is drawn from them."""
    if isinstance(task, MosaicTask):
        return digest([[file.file, _drawn(file)] for file in task.files] + [_geometry(task.layout)])
    versions = [_version(path) for path in (task.path, task.mask, task.weight) if path is not None]
    ccds = [[c.expnum, c.ccdnum, c.hdu, c.name] for c in task.ccds]
    return f"{'/'.join(versions)}/{digest(ccds)}"


def _version(path: Path) -> str:
    try:
        return file_fingerprint(path)
    except OSError:
        return MISSING


def _geometry(plane: Layout) -> list[list[Any]]:
    return [
        [p.ccdnum, round(p.x, 2), round(p.y, 2), p.width, p.height, str(p.turn)]
        for p in plane.places
    ]


def latest(sources: list[Partition], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the CCD rows of all releases, the latest processing of each, sorted by key."""
    best: dict[Key, tuple[dict[str, Any], str]] = {}
    for source in sources:
        release = source["release"]
        for row in read_file(source.path, list(dict.fromkeys((*_ORDER, *columns)))).to_pylist():
            key = (row["expnum"], row["ccdnum"])
            if key not in best or _order(row, release) > _order(*best[key]):
                best[key] = (row, release)
    return [row for _, (row, _) in sorted(best.items(), key=lambda item: item[0])]


def _order(row: dict[str, Any], release: str) -> tuple[Any, ...]:
    return (row["procdate"] or "").strip(), natural(row["plver"] or ""), natural(release)


def _reuse(lake: Lake, job: Job, planned: Plan) -> None:
    """Move to `planned` what an earlier run found in files that have not changed since."""
    keys = job.keys(planned.night)
    old = lake.record("embeddings", keys)
    if (
        old is None
        or old.version != planned.record.version
        or old.settings.get("embedder") != planned.record.settings["embedder"]
    ):
        return
    vectors = read_vectors(lake, keys)
    failures = _old_failures(lake, job, planned.night, old)

    remaining = []
    for task in planned.tasks:
        unchanged = old.inputs.get(task.input) == planned.record.inputs[task.input]
        if unchanged and all(ccd.key in vectors or ccd.key in failures for ccd in task.ccds):
            planned.vectors |= {key: vectors[key] for key in task.covered if key in vectors}
            planned.failures += [failures[key] for key in task.covered if key in failures]
        else:
            remaining.append(task)
    planned.tasks = remaining


def _old_failures(lake: Lake, job: Job, night: Night, old: Record) -> dict[Key, dict[str, Any]]:
    """Return the failures that belong to the vectors of the record `old`, by key."""
    where = {"stage": STAGE, "camera": night[0], "night": night[1]}
    record = lake.record("failures", where, job.name)
    if record is None or record.fingerprint != old.fingerprint:
        return {}
    table = lake.read("failures", where, part=job.name)
    return dict(zip(row_keys(table), table.to_pylist(), strict=True))


def _failure(ccd: Ccd, file: str, error: str) -> dict[str, Any]:
    return {"expnum": ccd.expnum, "ccdnum": ccd.ccdnum, "file": file, "error": error}


def failure(task: Task, ccd: Ccd, error: str) -> dict[str, Any]:
    """Return the row of ``failures`` for an image that could not be used."""
    return _failure(ccd, task.where(ccd), error)


def flaw_failure(flaw: Flaw) -> dict[str, Any]:
    """Return the row of ``failures`` for a CCD that its exposure's mosaic had to do without."""
    return _failure(flaw.ccd, flaw.file, flaw.error)
