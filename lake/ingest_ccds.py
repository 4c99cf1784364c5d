"""CCD tables (survey-ccds, ccds-annotated) into `ccds` and `exposures`.

A table is read once, in chunks of rows. Each chunk is cut by (camera, night) and spilled beside
the lake's tables; when the whole file has been read without fault, each night is gathered, joined
with what other files said of it, and committed. A file that turns out truncated therefore leaves
the lake as it was, and memory does not depend on the size of the table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake import paths
from lake.ccd_nights import Key, exposures_of, latest_processing, locked
from lake.ccd_spill import NEEDED, Progress, Spill, spill_folder
from lake.errors import SurveyError
from lake.fits_tables import constant, open_table
from lake.row_failures import commit_failures, failure_subject
from lake.sfd import fill_ebv
from lake.store import Lake, Record, digest, file_fingerprint, write_text_atomically
from lake.tables import table

STAGE = "ingest-ccds"


@dataclass
class CcdSummary:
    """What `ingest` did: rows = ccds + superseded + failed.

    `withdrawn_partitions` are those that lost rows of a table which no longer has their night.
    """

    files: int = 0
    unchanged_files: int = 0
    rows: int = 0
    ccds: int = 0
    partitions: int = 0
    unchanged_partitions: int = 0
    withdrawn_partitions: int = 0
    superseded: int = 0
    unusable: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Rows that could not be used; each is in the table `failures`."""
        return sum(self.unusable.values())


def ingest(
    lake: Lake,
    files: Sequence[Path],
    release: str,
    *,
    camera: str | None = None,
    sfd_dir: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CcdSummary:
    """Read CCD tables into the release `release`.

    A row's night is the UTC date of ``mjd_obs - 0.5`` days. Where a CCD comes in several
    processings, within a file or across files, the latest wins (by ``procdate``, then ``plver``);
    the others are counted as superseded. Rows with exposure number 0, without a date or with a CCD
    name the camera does not have go to `failures`.

    Parameters
    ----------
    camera : camera of tables that have no such column, or of rows where it is blank.
    sfd_dir : folder of the SFD dust maps, for tables without ``ebv``.
    force : read files that did not change since they were last ingested.
    progress : called with (rows read, rows in all) of the file at hand.

    Raises
    ------
    SurveyError : a file that is missing, not FITS, truncated, lacks a needed column, holds values
        that do not fit theirs, or is of another camera. Files before it in `files` are then
        ingested, it and those after it are not.
    """
    paths.check_name("release", release)
    camera = camera.lower() if camera else None
    summary = CcdSummary()
    settings = {"release": release, "camera": camera, "sfd": sfd_dir is not None}
    for path in files:
        if not path.is_file():
            what = "not a plain file" if path.exists() else "no such file"
            raise SurveyError(f"{path}: {what}; name the CCD tables")
    for path in files:
        ledger = _ledger(lake, release, path)
        known = _read_ledger(ledger)
        state = {
            "fingerprint": file_fingerprint(path),
            "run": Record(STAGE, settings).run,
        }
        summary.files += 1
        if not force and _is_ingested(lake, release, known, state):
            summary.unchanged_files += 1
            continue
        with spill_folder(lake) as folder, open_table(path, folder, NEEDED[0]) as rows:
            spill = Spill(folder, path, camera)
            spill.read(rows, progress)
            with locked(lake, release):
                nights = spill.keys()
                gone = sorted({(camera, night) for camera, night in known["nights"]} - {*nights})
                # Should this run be killed, the next one still knows of all these nights.
                _write_ledger(ledger, {"nights": [*nights, *gone]})
                _commit(lake, release, path, spill, settings, sfd_dir, force, summary)
                _withdraw(lake, release, str(path.resolve()), gone, summary)
                _write_ledger(ledger, {**state, "nights": nights})
    return summary


# What was ingested before ----------------------------------------------------------------------


def _ledger(lake: Lake, release: str, path: Path) -> Path:
    name = f"{path.name}-{digest(str(path.resolve()))}.json"
    return lake.root / "ccds" / f"release={release}" / "_files" / name


def _read_ledger(ledger: Path) -> dict[str, Any]:
    """Return what a ledger says: the nights that the lake may hold of a table, and its state."""
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"nights": []}
    return known if isinstance(known, dict) and "nights" in known else {"nights": []}


def _write_ledger(ledger: Path, known: dict[str, Any]) -> None:
    write_text_atomically(ledger, json.dumps(known, sort_keys=True))


def _is_ingested(lake: Lake, release: str, known: dict[str, Any], state: dict[str, str]) -> bool:
    return all(known.get(name) == value for name, value in state.items()) and all(
        lake.path(name, {"release": release, "camera": camera, "night": night}).exists()
        for camera, night in known["nights"]
        for name in ("ccds", "exposures")
    )


# Committing ------------------------------------------------------------------------------------


def _commit(
    lake: Lake,
    release: str,
    path: Path,
    spill: Spill,
    settings: dict[str, Any],
    sfd_dir: Path | None,
    force: bool,
    summary: CcdSummary,
) -> None:
    """Commit every night of a file."""
    source = str(path.resolve())

    def one(key: Key) -> tuple[int, int, bool]:
        keys = {"release": release, "camera": key[0], "night": key[1]}
        before = lake.record("ccds", keys)
        inputs = {**(before.inputs if before else {}), source: spill.fingerprint(key)}
        record = Record(STAGE, settings, inputs)
        if not force and record.matches(before) and lake.path("exposures", keys).exists():
            kept = lake.read("ccds", keys, ["table_file"])["table_file"]
            used = int(pc.sum(pc.equal(kept, source)).as_py() or 0)
            return spill.num_rows(key), used, False
        rows = spill.rows(key)
        if sfd_dir is not None and "ebv" not in rows.column_names:
            rows = fill_ebv(rows, sfd_dir)
        rows = rows.append_column("table_file", constant(source, rows.num_rows).cast(pa.string()))
        if before is not None:
            kept = lake.read("ccds", keys)
            others = kept.filter(pc.not_equal(kept["table_file"], source))
            try:
                rows = pa.concat_tables([others, rows], promote_options="permissive")
            except pa.ArrowException as error:
                raise SurveyError(
                    f"{path}: a column is of another kind than in the tables that release "
                    f"{release} has of night {key[1]} already ({error}); mend the table or name "
                    "another release"
                ) from error
        latest = table("ccds").conform(latest_processing(rows))
        lake.write("exposures", keys, exposures_of(latest), record)
        lake.write("ccds", keys, latest, record)
        used = int(pc.sum(pc.equal(latest["table_file"], source)).as_py() or 0)
        return spill.num_rows(key), used, True

    with ThreadPoolExecutor(2) as pool:
        for n_rows, used, written in pool.map(one, spill.keys()):
            summary.ccds += used
            summary.superseded += n_rows - used
            summary.partitions += written
            summary.unchanged_partitions += not written
    summary.rows += spill.rows_read
    for failure in spill.failures:
        summary.unusable[failure.error.split(" (")[0]] += 1
    rows = [asdict(failure) for failure in spill.failures]
    record = Record(STAGE, {"release": release}, {source: digest(rows)})
    commit_failures(lake, failure_subject(release, source), spill.failures, record)


def _withdraw(
    lake: Lake, release: str, source: str, nights: Sequence[Key], summary: CcdSummary
) -> None:
    """Take the rows of a table out of the nights that it no longer has."""
    for camera, night in nights:
        keys = {"release": release, "camera": camera, "night": night}
        before = lake.record("ccds", keys)
        if before is None or source not in before.inputs:
            continue
        kept = lake.read("ccds", keys)
        kept = kept.filter(pc.not_equal(kept["table_file"], source))
        if kept.num_rows:
            inputs = {name: value for name, value in before.inputs.items() if name != source}
            record = Record(before.stage, before.settings, inputs)
            lake.write("exposures", keys, exposures_of(kept), record)
            lake.write("ccds", keys, kept, record)
        else:
            lake.remove("exposures", keys)
            lake.remove("ccds", keys)
        summary.withdrawn_partitions += 1
