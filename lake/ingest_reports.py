"""Bad-exposure lists into the table ``reports``: what each line says, word for word.

All lists of a source share one file, ``reports/source=…/part-0.parquet``: a few tens of thousands
of rows. Its record holds the fingerprint of every list that is in it, so that a list that has not
changed costs nothing, and a list that has changed replaces its own rows only. Two processes that
ingest lists of one source take turns (an advisory lock on a hidden file of the lake), so that
neither loses the other's rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake.cameras import check_camera
from lake.errors import SurveyError
from lake.list_delve import parse_delve_text, parse_fits_list
from lake.list_inspection import parse_inspection_table, read_inspection_csv
from lake.lists import (
    ParsedList,
    check_text,
    decode,
    parse_bad_list,
    read_bad_list,
    read_content,
)
from lake.store import Lake, Record, digest, hold
from lake.tables import table
from lake.vocabulary import Vocabulary

STAGE = "reports"
#: What ``--source`` takes.
SOURCES = ("decals", "des", "delve", "inspection")

_ENDINGS = {
    "decals": (".txt",),
    "des": (".txt", ".fits", ".fits.gz", ".fits.fz"),
    "delve": (".txt", ".fits", ".fits.gz", ".fits.fz"),
    "inspection": (".csv",),
}
_FITS = (".fits", ".fits.gz", ".fits.fz", ".fit")


@dataclass
class FileSummary:
    """What became of one list; the line counts add up to `lines`.

    `reports` counts rows of the table; `unmapped` counts, among its bad ones, those whose reason
    has no class, by reason. `unchanged`: the list was in the lake already, as it is; `skipped`
    then lists nothing and `n_skipped` still counts. `error` says why a list could not be used.
    """

    file: str
    round: str
    lines: int = 0
    entries: int = 0
    comments: int = 0
    blank: int = 0
    headers: int = 0
    n_skipped: int = 0
    reports: int = 0
    unmapped: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    unchanged: bool = False
    error: str = ""


@dataclass
class ReportsSummary:
    """What `ingest_reports` did, file by file."""

    source: str
    files: list[FileSummary]

    @property
    def lines(self) -> int:
        """Lines read, of all files."""
        return sum(file.lines for file in self.files)

    @property
    def entries(self) -> int:
        """Lines that made reports."""
        return sum(file.entries for file in self.files)

    @property
    def skipped(self) -> list[tuple[str, int, str]]:
        """(file, line, why) of the lines that could not be read, of the files read in this run."""
        return [(file.file, line, why) for file in self.files for line, why in file.skipped]

    @property
    def n_skipped(self) -> int:
        """Lines that could not be read, unchanged files included."""
        return sum(file.n_skipped for file in self.files)

    @property
    def failed(self) -> list[tuple[str, str]]:
        """(file, error) of the lists that could not be used; the lake keeps what it had of them."""
        return [(file.file, file.error) for file in self.files if file.error]

    @property
    def unmapped(self) -> dict[str, int]:
        """Reports of each reason that has no class, most frequent first."""
        counts: Counter[str] = Counter()
        for file in self.files:
            counts.update(file.unmapped)
        return dict(counts.most_common())

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return all(file.unchanged for file in self.files)


def ingest_reports(
    lake: Lake,
    files: Sequence[Path],
    source: str,
    round: str | None = None,
    camera: str = "decam",
    force: bool = False,
    vocabulary: Vocabulary | None = None,
) -> ReportsSummary:
    """Read lists into ``reports/source=<source>``.

    Parameters
    ----------
    files : lists, and folders whose lists are all taken.
    source : ``decals`` (lists that legacypipe reads), ``des`` and ``delve`` (text and FITS),
        ``inspection`` (CSV).
    round : name of the round of inspection or edition of the list; by default the file's stem.
    camera : whose exposure numbers the lists hold.
    force : read lists again that have not changed.
    vocabulary : what the words mean, by default the lake's; when it has changed since, the reports
        of the source that are already in the lake are classified anew.

    Raises
    ------
    SurveyError : an unknown source or camera, a file that is missing or comes twice, or no list
        at all that could be used (binary, of another form); the lake is then as it was. Of
        several lists, one that cannot be used is told in the summary and the others go on.
    """
    if source not in SOURCES:
        raise SurveyError(f"--source {source}: the sources are {', '.join(SOURCES)}")
    check_camera(camera)
    vocabulary = vocabulary or Vocabulary.of_lake(lake.root)
    lists = _named(_expand(files, source), round)
    keys = {"source": source}
    settings = {"vocabulary": digest(vocabulary.to_json())}
    old = lake.record("reports", keys)
    known = old if old and not force and old.matches(Record(STAGE, settings, old.inputs)) else None
    summaries: dict[str, FileSummary] = {}
    parsed: dict[str, pa.Table] = {}
    fingerprints: dict[str, str] = {}
    for name, path in lists.items():
        edition = _round(path, round)
        try:
            content = read_content(path)  # once: a pipe does not give it twice
            fingerprints[name] = _fingerprint(content, camera)
            if known and known.inputs.get(name) == fingerprints[name]:
                summaries[name] = FileSummary(**known.notes[name], unchanged=True)
                continue
            rows, summary = _rows(path, content, edition, source, camera, vocabulary)
        except SurveyError as error:
            if len(lists) == 1:
                raise
            summaries[name] = FileSummary(path.name, edition, error=str(error))
            continue
        parsed[name], summaries[name] = rows, summary
    if all(summary.error for summary in summaries.values()):
        first = next(iter(summaries.values()))
        raise SurveyError(f"none of the {len(lists)} lists can be used; the first: {first.error}")
    if parsed:
        notes = {name: _note(summaries[name]) for name in parsed}
        inputs = {name: fingerprints[name] for name in parsed}
        with hold(lake.root / f".reports-{source}.lock"):
            _commit(lake, keys, parsed, Record(STAGE, settings, inputs, notes), vocabulary)
    return ReportsSummary(source, list(summaries.values()))


def _commit(
    lake: Lake,
    keys: dict[str, str],
    parsed: dict[str, pa.Table],
    record: Record,
    vocabulary: Vocabulary,
) -> None:
    """Put lists in the place of what the lake has of them; the others stay, in today's words.

    `record` is that of the lists in `parsed` alone.
    """
    parts = list(parsed.values())
    old = lake.record("reports", keys)
    if old:
        kept = _kept(lake, keys, parsed)
        notes = dict(old.notes)
        if not old.matches(Record(STAGE, record.settings, old.inputs)):
            kept = _classify(kept, keys["source"], vocabulary)
            for name, counts in _unmapped(kept).items():
                notes[name] = {**notes[name], "unmapped": counts}
        parts.insert(0, kept)
        record = replace(
            record, inputs={**old.inputs, **record.inputs}, notes={**notes, **record.notes}
        )
    lake.write("reports", keys, pa.concat_tables(parts), record)


def _expand(files: Sequence[Path], source: str) -> list[Path]:
    """Return the lists among `files`, each folder replaced by the lists in it."""
    found: list[Path] = []
    for path in files:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.name.lower().endswith(_ENDINGS[source])
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not inside:
            raise SurveyError(f"{path}: no {' or '.join(_ENDINGS[source])} file in this folder")
        found += inside
    if not found:
        raise SurveyError("no list to ingest: name files or folders")
    for path in found:
        if not path.exists():
            raise SurveyError(f"{path}: no such file")
    return list(dict.fromkeys(found))


def _round(path: Path, name: str | None) -> str:
    if name is not None:
        return name
    stem = path.name
    for ending in (".gz", ".fz"):
        stem = stem.removesuffix(ending)
    return Path(stem).stem


def _named(paths: list[Path], name: str | None) -> dict[str, Path]:
    """Return ``<round>/<file name>`` -> path: what a list is known by in the lake."""
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(f"{_round(path, name)}/{path.name}", path)
        if other != path:
            raise SurveyError(
                f"{other} and {path} have one name and would be one list: ingest them under two "
                "--round names"
            )
    return named


def _fingerprint(content: bytes, camera: str) -> str:
    """Return a hash of a list (a list is small) and of the camera it is read for."""
    return hashlib.sha256(content + camera.encode()).hexdigest()[:16]


def _parse(path: Path, content: bytes, source: str, camera: str) -> ParsedList:
    if path.name.lower().endswith(_FITS) and source in ("des", "delve"):
        return parse_fits_list(path, camera)
    content = check_text(path, content)
    if source == "inspection":
        return parse_inspection_table(read_inspection_csv(content, str(path)), camera)
    if source == "decals":
        return parse_bad_list(read_bad_list(content), camera)
    return parse_delve_text(decode(content)[0], path.stem, camera)


def _rows(
    path: Path, content: bytes, round: str, source: str, camera: str, vocabulary: Vocabulary
) -> tuple[pa.Table, FileSummary]:
    """Return the rows that a list makes, classified, and the account of its lines."""
    parsed = _parse(path, content, source, camera)
    if parsed.skipped and not parsed.entries and not parsed.headers:
        first = parsed.skipped[0]
        raise SurveyError(
            f"{path}, line {first.line}: {first.why}; none of its {parsed.lines} lines is an entry "
            f"of a list of source {source}"
        )
    reports = parsed.reports
    number = len(reports)
    rows = pa.table(
        {
            "expnum": pa.array([report.expnum for report in reports], pa.int64()),
            "ccdname": pa.array([report.ccdname for report in reports], pa.string()),
            "ccdnum": pa.array([report.ccdnum for report in reports], pa.int16()),
            "reason": pa.array([_clean(report.reason) for report in reports], pa.string()),
            "is_bad": pa.array([report.is_bad for report in reports], pa.bool_()),
            "analyst": pa.array([report.analyst for report in reports], pa.string()),
            "round": pa.array([round] * number, pa.string()),
            "file": pa.array([path.name] * number, pa.string()),
            "line": pa.array([report.line for report in reports], pa.int32()),
            "camera": pa.array([camera] * number, pa.string()),
        }
    )
    rows = _classify(rows, source, vocabulary)
    return rows, FileSummary(
        path.name,
        round,
        parsed.lines,
        parsed.entries,
        parsed.comments,
        parsed.blank,
        parsed.headers,
        len(parsed.skipped),
        number,
        _unmapped(rows).get(f"{round}/{path.name}", {}),
        [(line.line, line.why) for line in parsed.skipped],
    )


def _unmapped(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Return, for each list (``<round>/<file>``), its bad reports without class, by reason."""
    columns = ("round", "file", "reason", "classes", "is_bad")
    counts: dict[str, Counter[str]] = {}
    for round, file, reason, classes, is_bad in zip(
        *(rows[name].to_pylist() for name in columns), strict=True
    ):
        of_list = counts.setdefault(f"{round}/{file}", Counter())
        if is_bad and not classes:
            of_list[reason] += 1
    return {name: dict(found) for name, found in counts.items()}


def _clean(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8; no decoder here makes one, a FITS string might.
    return text.encode("utf-8", "replace").decode("utf-8")


def _classify(rows: pa.Table, source: str, vocabulary: Vocabulary) -> pa.Table:
    """Return `rows` with their classes, and for free-text lists their verdicts, as of today."""
    reasons = rows["reason"].to_pylist()
    known = {reason: vocabulary.classes_of(source, reason) for reason in set(reasons)}
    classes = pa.array([known[reason] for reason in reasons], pa.list_(pa.string()))
    rows = _with(rows, "classes", classes)
    if source == "decals":
        bad = {reason: vocabulary.is_bad(source, reason) for reason in known}
        verdicts = pa.array([bad[reason] for reason in reasons], pa.bool_())
        rows = _with(rows, "is_bad", verdicts)
    return rows.select([column.name for column in table("reports").columns])


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, values)
    return rows.append_column(name, values)


def _kept(lake: Lake, keys: dict[str, str], replaced: dict[str, Any]) -> pa.Table:
    """Return the rows that the lake has of lists other than `replaced`."""
    rows = lake.read("reports", keys).replace_schema_metadata(None)
    names = zip(rows["round"].to_pylist(), rows["file"].to_pylist(), strict=True)
    kept = [f"{round}/{file}" not in replaced for round, file in names]
    return rows.filter(pa.array(kept, pa.bool_()))  # an empty list has no type of its own


def _note(summary: FileSummary) -> dict[str, Any]:
    """Return what the record keeps of a list: its counts, by which a later run still accounts."""
    return {
        "file": summary.file,
        "round": summary.round,
        "lines": summary.lines,
        "entries": summary.entries,
        "comments": summary.comments,
        "blank": summary.blank,
        "headers": summary.headers,
        "n_skipped": summary.n_skipped,
        "reports": summary.reports,
        "unmapped": summary.unmapped,
    }
