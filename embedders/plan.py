"""What a partition of vectors needs: which CCDs, from which files, and what can be kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedders.tasks import Ccd, FileTask, Key
from lake.errors import SurveyError
from lake.shares import Night
from lake.store import Lake, Partition, Record, digest, file_fingerprint, read_file

STAGE = "embed"
#: What stands for the fingerprint of an image file that does not exist.
MISSING = "missing"

_COLUMNS = ("expnum", "ccdnum", "ccdname", "image_filename", "image_hdu", "procdate", "plver")


@dataclass(frozen=True)
class Job:
    """What a run was asked for, apart from how fast it should be.

    `embedder` holds the settings that change the vectors; `images` the folders that
    ``image_filename`` is relative to, of which the first that has a file wins;
    `ccds_per_exposure` None takes all.
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
    tasks : the files to read.
    vectors, failures : what an earlier run found for files that have not changed since.
    """

    night: Night
    record: Record
    tasks: list[FileTask] = field(default_factory=list)
    vectors: dict[Key, np.ndarray] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``camera=…/night=…``, as ``--partition`` takes it."""
        return f"camera={self.night[0]}/night={self.night[1]}"


def plan(lake: Lake, job: Job, night: Night) -> Plan | None:
    """Return what the partition of `night` needs, or None when it is current.

    Raises `SurveyError` when a partition of CCD rows is damaged.
    """
    sources = [
        partition
        for partition in lake.partitions("ccds", camera=night[0], night=night[1])
        if not job.releases or partition["release"] in job.releases
    ]
    inputs = {f"ccds/{source['release']}": _fingerprint(source) for source in sources}
    rows = draw(_latest(sources), job.ccds_per_exposure, job.seed)

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
    tasks = [
        FileTask(file, _locate(job.images, file), tuple(ccds))
        for file, ccds in sorted(files.items())
    ]
    inputs |= {task.file: _drawn(task) for task in tasks}

    record = Record(STAGE, job.settings, inputs, {**job.notes, "dimension": job.dimension})
    if not job.force and lake.is_current("embeddings", job.keys(night), record):
        return None
    planned = Plan(night, record, tasks, failures=nameless)
    if not job.force:
        _reuse(lake, job, planned)
    return planned


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


def _fingerprint(partition: Partition) -> str:
    record = partition.record()
    return record.fingerprint if record else file_fingerprint(partition.path)


def _locate(folders: tuple[Path, ...], file: str) -> Path:
    paths = [folder / file for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _drawn(task: FileTask) -> str:
    """Fingerprint a file together with what is drawn from it."""
    try:
        version = file_fingerprint(task.path)
    except OSError:
        version = MISSING
    return f"{version}/{digest([[c.expnum, c.ccdnum, c.hdu, c.name] for c in task.ccds])}"


def _natural(text: str | None) -> tuple[tuple[int, str], ...]:
    """Order ``V4.9`` before ``V4.10``."""
    pieces = re.findall(r"\d+|\D+", text or "")
    return tuple((int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces)


def _latest(sources: list[Partition]) -> list[dict[str, Any]]:
    """Return the CCD rows of all releases, the latest processing of each, sorted by key."""
    best: dict[Key, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    for row, release in _rows(sources):
        key = (row["expnum"], row["ccdnum"])
        order = ((row["procdate"] or "").strip(), _natural(row["plver"]), _natural(release))
        if key not in best or order > best[key][0]:
            best[key] = (order, row)
    return [row for _, (_, row) in sorted(best.items(), key=lambda item: item[0])]


def _rows(sources: list[Partition]) -> Iterator[tuple[dict[str, Any], str]]:
    for source in sources:
        for row in read_file(source.path, list(_COLUMNS)).to_pylist():
            yield row, source["release"]


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
    table = lake.read("embeddings", keys)
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = dict(zip(_keys(table), flat.reshape(table.num_rows, -1), strict=True))
    failures = _old_failures(lake, job, planned.night, old)

    remaining = []
    for task in planned.tasks:
        unchanged = old.inputs.get(task.file) == planned.record.inputs[task.file]
        if unchanged and all(ccd.key in vectors or ccd.key in failures for ccd in task.ccds):
            for ccd in task.ccds:
                if ccd.key in vectors:
                    planned.vectors[ccd.key] = vectors[ccd.key]
                else:
                    planned.failures.append(failures[ccd.key])
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
    return dict(zip(_keys(table), table.to_pylist(), strict=True))


def _keys(table: pa.Table) -> list[Key]:
    expnums, ccdnums = (table[name].to_pylist() for name in ("expnum", "ccdnum"))
    return list(zip(expnums, ccdnums, strict=True))


def _failure(ccd: Ccd, file: str, error: str) -> dict[str, Any]:
    return {"expnum": ccd.expnum, "ccdnum": ccd.ccdnum, "file": file, "error": error}


def failure(task: FileTask, ccd: Ccd, error: str) -> dict[str, Any]:
    """Return the row of ``failures`` for a CCD that could not be used."""
    where = ccd.name if ccd.name is not None else ccd.hdu
    return _failure(ccd, f"{task.file}[{where}]", error)
