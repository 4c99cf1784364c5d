"""CCD tables (survey-ccds, ccds-annotated) into `ccds` and `exposures`.

A table is read once, in chunks of rows. Each chunk is cut by (camera, night) and spilled beside
the lake's tables; when the whole file has been read without fault, each night is gathered, joined
with what the lake has of it, and committed. A file that turns out truncated therefore leaves
the lake as it was, and memory does not depend on the size of the table. A CCD that a table no
longer has stays, until it is pruned.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.ccd_nights import Key, exposures_of, filled, latest_processing, locked
from ingest.ccd_spill import NEEDED, Progress, Spill, spill_folder
from ingest.fits_tables import constant, open_table
from ingest.row_failures import commit_failures, failure_subject
from ingest.sfd import fill_ebv
from lake import paths
from lake.errors import BadInput, Conflict
from lake.record import Record, digest, file_reference
from lake.store import Lake, file_stamp, write_text_atomically
from lake.tables import table

STAGE = "ingest-ccds"
#: Raise whenever the same tables give other rows.
ALGORITHM = 1


@dataclass
class CcdSummary:
    """What `ingest` did: rows = ccds + superseded + failed.

    `kept` CCDs are those that a table once had and no longer has; `pruned` those of them that went
    since that was asked.
    """

    files: int = 0
    unchanged_files: int = 0
    rows: int = 0
    ccds: int = 0
    partitions: int = 0
    unchanged_partitions: int = 0
    kept: int = 0
    pruned: int = 0
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
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> CcdSummary:
    """Read CCD tables into the release `release`.

    A row's night is the UTC date of ``mjd_obs - 0.5`` days. Where a CCD comes in several
    processings, within a file or across files, the latest wins (by ``procdate``, then ``plver``),
    of equal ones the one read last; the others are counted as superseded. What a table does not
    say of a CCD stays as a table before it said it of the same processing. Rows with exposure
    number 0, without a date or with a CCD name the camera does not have go to `failures`.

    Parameters
    ----------
    camera : camera of tables that have no such column, or of rows where it is blank.
    sfd_dir : folder of the SFD dust maps, for tables without ``ebv``.
    force : read files that did not change since they were last ingested.
    prune : remove the CCDs that came of an earlier edition of a table and are not in it any more;
        `announce` is told first how many these are.
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
            raise BadInput(f"{path}: {what}; name the CCD tables")
    for path in files:
        ledger = _Ledger(lake, release, settings)
        summary.files += 1
        known = ledger.find(path)
        if not (force or prune) and known is not None and _is_ingested(lake, release, known):
            summary.unchanged_files += 1
            continue
        with spill_folder(lake) as folder, open_table(path, folder, NEEDED[0]) as rows:
            spill = Spill(folder, path, camera)
            spill.read(rows, progress)
            with locked(lake, release):
                commit = _Commit(lake, release, path, spill, settings, ledger.former(path))
                before = ledger.nights(path)
                if prune:
                    commit.prune(before, summary, announce)
                # Should this run be killed, the next one still knows of all these nights.
                nights = sorted({*spill.nights, *before})
                ledger.write(path, nights)
                commit.run(sfd_dir, force, summary)
                commit.settle(before, summary)
                ledger.write(path, nights, is_whole=True)
    return summary


# What was ingested before ----------------------------------------------------------------------


class _Ledger:
    """What is known of the tables that a release was made from: a file each, beside the tables.

    It may go at any time: tables are then read again, and give what they gave.
    """

    def __init__(self, lake: Lake, release: str, settings: dict[str, Any]) -> None:
        self._folder = lake.root / paths.STATE / "ccds" / release
        self._former_folder = lake.root / "ccds" / f"release={release}" / "_files"
        self._settings = digest(settings)
        # As version 0.1.0 told one run from another.
        self._former_run = digest(["0.1.0", 1, STAGE, settings])
        self._known = {file.name: _read_json(file) for file in self._folder.glob("*.json")}
        self._content: dict[Path, str] = {}

    def find(self, path: Path) -> dict[str, Any] | None:
        """Return what is known of a table as it is: by its size and time, else by its content."""
        stamp, name = file_stamp(path), _ledger_name(path)
        known = self._known.get(name, {})
        if known.get("stamp") == stamp and self._is_same(known):
            return known
        former = _read_json(self._former_folder / name)
        if (former.get("fingerprint"), former.get("run")) == (stamp, self._former_run):
            return former
        content = self._content_of(path)
        for other in self._known.values():
            if other.get("content") == content and self._is_same(other):
                self._known[name] = {**other, "stamp": stamp, "path": str(path.resolve())}
                self._write(name)
                return other
        return None

    def nights(self, path: Path) -> list[Key]:
        """Return the nights that the lake may have of a table, in any edition."""
        name = _ledger_name(path)
        nights = [
            *self._known.get(name, {}).get("nights", []),
            *_read_json(self._former_folder / name).get("nights", []),
        ]
        for other in self._moved(path):
            nights += other["nights"]
        return sorted({(camera, night) for camera, night in nights})

    def former(self, path: Path) -> list[str]:
        """Return the paths at which a table lay that is no longer there: it may have moved."""
        return [str(other["path"]) for other in self._moved(path)]

    def write(self, path: Path, nights: Sequence[Key], is_whole: bool = False) -> None:
        """Note the nights of a table, and once they are all committed what the table was."""
        name = _ledger_name(path)
        self._known[name] = {"path": str(path.resolve()), "nights": list(nights)}
        if is_whole:
            self._known[name] |= {
                "stamp": file_stamp(path),
                "content": self._content_of(path),
                "settings": self._settings,
            }
        self._write(name)

    def _write(self, name: str) -> None:
        text = json.dumps(self._known[name], sort_keys=True)
        write_text_atomically(self._folder / name, text)

    def _is_same(self, known: dict[str, Any]) -> bool:
        return known.get("settings") == self._settings and "content" in known

    def _moved(self, path: Path) -> list[dict[str, Any]]:
        here = str(path.resolve())
        return [
            other
            for other in self._known.values()
            if Path(other.get("path", "")).name == path.name
            and other["path"] != here
            and not Path(other["path"]).exists()
        ]

    def _content_of(self, path: Path) -> str:
        if path not in self._content:
            with path.open("rb") as file:
                self._content[path] = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        return self._content[path]


def _ledger_name(path: Path) -> str:
    return f"{path.name}-{digest(str(path.resolve()))}.json"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "nights" in known else {}


def _is_ingested(lake: Lake, release: str, known: dict[str, Any]) -> bool:
    return all(
        lake.path(name, {"release": release, "camera": camera, "night": night}).exists()
        for camera, night in known["nights"]
        for name in ("ccds", "exposures")
    )


# Committing ------------------------------------------------------------------------------------


class _Commit:
    """The nights of a table on their way into the lake.

    `former` are paths at which the table lay before.
    """

    def __init__(
        self,
        lake: Lake,
        release: str,
        path: Path,
        spill: Spill,
        settings: dict[str, Any],
        former: Sequence[str],
    ) -> None:
        self.lake, self.release, self.path, self.spill = lake, release, path, spill
        self.settings = settings
        self.source = str(path.resolve())
        self.sources = pa.array([self.source, *former], pa.string())
        self._all_keys: np.ndarray | None = None

    def run(self, sfd_dir: Path | None, force: bool, summary: CcdSummary) -> None:
        """Commit every night of the file."""
        with ThreadPoolExecutor(2) as pool:
            done = pool.map(lambda key: self._night(key, sfd_dir, force), self.spill.nights)
            for n_rows, used, kept, written in done:
                summary.ccds += used
                summary.superseded += n_rows - used
                summary.kept += kept
                summary.partitions += written
                summary.unchanged_partitions += not written
        spill = self.spill
        summary.rows += spill.rows_read
        for failure in spill.failures:
            summary.unusable[failure.error.split(" (")[0]] += 1
        rows = [asdict(failure) for failure in spill.failures]
        inputs = {file_reference(self.source): digest(rows)}
        record = Record(STAGE, {"release": self.release}, inputs)
        subject = failure_subject(self.release, self.source)
        commit_failures(self.lake, subject, spill.failures, record)

    def prune(
        self, before: Sequence[Key], summary: CcdSummary, announce: Callable[[str], None] | None
    ) -> None:
        """Take the CCDs out of the lake that the table no longer has, having said how many."""
        gone = {key: n for key in before if (n := self._lost(key).num_rows)}
        if announce is not None:
            announce(
                f"{sum(gone.values()):,} CCDs of {len(gone):,} nights that {self.path.name} no "
                "longer has are removed"
            )
        for key in gone:
            self._drop(key, self._lost(key))
        summary.pruned += sum(gone.values())

    def settle(self, nights: Sequence[Key], summary: CcdSummary) -> None:
        """Take the CCDs out of nights that the table now gives another one, and count the kept."""
        for key in nights:
            lost = self._lost(key)
            moved = self._is_elsewhere(lost)
            if moved.any():
                self._drop(key, lost.filter(pa.array(moved)))
            if not self.spill.num_rows(key):
                summary.kept += int((~moved).sum())

    def _is_elsewhere(self, rows: pa.Table) -> np.ndarray:
        """Tell which CCDs the table has in another night than it once had."""
        if not rows.num_rows:
            return np.zeros(0, bool)
        if self._all_keys is None:
            parts = [_keys(self.spill.rows(key)) for key in self.spill.nights]
            self._all_keys = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return np.isin(_keys(rows), self._all_keys)

    def _drop(self, key: Key, lost: pa.Table) -> None:
        """Take CCDs out of a night."""
        keys = self._keys(key)
        stored, record = self.lake.read("ccds", keys), self.lake.record("ccds", keys)
        assert record is not None
        rows = stored.filter(pa.array(~np.isin(_keys(stored), _keys(lost))))
        if rows.num_rows:
            record = Record(STAGE, record.settings, record.inputs, algorithm=ALGORITHM)
            self.lake.write("exposures", keys, exposures_of(rows), record)
            self.lake.write("ccds", keys, rows, record)
        else:
            self.lake.remove("exposures", keys)
            self.lake.remove("ccds", keys)

    def _lost(self, key: Key) -> pa.Table:
        """Return the keys of a night's CCDs that came of the table and are not in it any more."""
        keys = self._keys(key)
        if not self.lake.path("ccds", keys).exists():
            return _NO_KEYS
        stored = self.lake.read("ccds", keys, ["expnum", "ccdnum", "table_file"])
        mine = stored.filter(pc.is_in(stored["table_file"], self.sources))
        if not self.spill.num_rows(key):
            return mine
        return mine.filter(pa.array(~np.isin(_keys(mine), _keys(self.spill.rows(key)))))

    def _keys(self, key: Key) -> dict[str, str]:
        return {"release": self.release, "camera": key[0], "night": key[1]}

    def _night(self, key: Key, sfd_dir: Path | None, force: bool) -> tuple[int, int, int, bool]:
        """Commit a night; return its rows in the file, CCDs used, CCDs kept, whether it changed."""
        lake, keys, n_rows = self.lake, self._keys(key), self.spill.num_rows(key)
        before, print_ = lake.record("ccds", keys), self.spill.fingerprint(key)
        known = {} if before is None else before.inputs
        is_there = print_ in known.values() and lake.path("exposures", keys).exists()
        is_same = before is not None and dict(before.settings) == self.settings
        if is_there and is_same and not force:
            stored = lake.read("ccds", keys, ["expnum", "ccdnum"])
            used = np.isin(_keys(stored), _keys(self.spill.rows(key)))
            return n_rows, int(used.sum()), 0, False
        rows = self.spill.rows(key)
        if sfd_dir is not None and "ebv" not in rows.column_names:
            rows = fill_ebv(rows, sfd_dir)
        source = constant(self.source, rows.num_rows).cast(pa.string())
        rows = given = rows.append_column("table_file", source)
        n_kept = 0
        if before is not None:
            lost = self._lost(key)
            n_kept = int((~self._is_elsewhere(lost)).sum())
            stored = lake.read("ccds", keys)
            try:
                rows = filled(rows, stored)
                rows = pa.concat_tables([stored, rows], promote_options="permissive")
            except pa.ArrowException as error:
                raise Conflict(
                    f"{self.path}: a column is of another kind than in the tables that release "
                    f"{self.release} has of night {key[1]} already ({error}); mend the table or "
                    "name another release"
                ) from error
        latest = table("ccds").conform(latest_processing(rows))
        inputs = {**known, file_reference(self.source): print_}
        record = Record(STAGE, self.settings, inputs, algorithm=ALGORITHM)
        lake.write("exposures", keys, exposures_of(latest), record)
        lake.write("ccds", keys, latest, record)
        return n_rows, self._used(latest, given), n_kept, True

    def _used(self, stored: pa.Table, given: pa.Table) -> int:
        """Return how many of the stored CCDs are those that the table gives."""
        mine = stored.filter(pc.is_in(stored["table_file"], self.sources))
        return int(np.isin(_keys(mine), _keys(given)).sum())


def _keys(rows: pa.Table) -> np.ndarray:
    """Return one integer for the exposure and CCD of each row."""
    return rows["expnum"].to_numpy() * 1000 + rows["ccdnum"].to_numpy()


_NO_KEYS = pa.table({"expnum": pa.array([], pa.int64()), "ccdnum": pa.array([], pa.int16())})
