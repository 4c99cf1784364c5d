"""Bad-exposure lists into the table ``reports``: what each line says, word for word.

All lists of a source share one file, ``reports/source=…/part-0.parquet``: a few tens of thousands
of rows an edition. Every edition stays; which one counts is decided by what it says
(`ingest.editions`), and its rows are marked. Two processes that ingest lists of one source take
turns (an advisory lock on a hidden file of the lake), so that neither loses the other's rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from badlist.format import (
    ParsedList,
    check_text,
    decode,
    parse_bad_list,
    read_bad_list,
    read_content,
)
from ingest.delve_lists import parse_delve_text, parse_fits_list, reason_of_file
from ingest.editions import Edition, Editions, Line, Placing
from ingest.inspection_tables import parse_inspection_table, read_inspection_csv
from lake import cameras
from lake.errors import BadInput, Damaged, NotFound, SurveyError
from lake.paths import check_name
from lake.record import Record, digest, file_reference, split_reference
from lake.report_words import STAGE, classified, with_column
from lake.store import Lake
from lake.tables import table
from lake.vocabulary import Vocabulary

#: Sources whose lists have a form of their own; a survey names further ones.
SOURCES = ("decals", "des", "delve", "inspection")

_ENDINGS = {
    "decals": (".txt",),
    "des": (".txt", ".fits", ".fits.gz", ".fits.fz"),
    "delve": (".txt", ".fits", ".fits.gz", ".fits.fz"),
    "inspection": (".csv",),
}
_FITS = (".fits", ".fits.gz", ".fits.fz", ".fit")

#: Told, before it is done, what ``prune`` takes away.
Announce = Callable[[str], None]


@dataclass
class FileSummary:
    """What became of one list; the line counts add up to `lines`.

    `reports` counts rows of the table; `unmapped` counts, among its bad ones, those whose reason
    has no class, by reason; `own` those that this program wrote into the list, by origin.
    `placing` tells whether the list is there already, as it is (`skipped` then lists nothing and
    `n_skipped` still counts), and which edition counts. `error` says why it could not be used.
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
    own: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    placing: Placing = field(default_factory=lambda: Placing("added"))
    pruned: bool = False
    error: str = ""

    @property
    def unchanged(self) -> bool:
        """Whether the list is in the lake already, and counts."""
        return not self.error and self.placing.outcome == "same"

    @property
    def counts(self) -> bool:
        """Whether what the list says counts."""
        return not self.error and (self.placing.counts or self.pruned)


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

    @property
    def set_aside(self) -> list[FileSummary]:
        """Lists that were kept and do not count, since an edition before says more."""
        return [file for file in self.files if not file.error and not file.counts]


def ingest_reports(
    lake: Lake,
    files: Sequence[Path],
    source: str,
    round: str | None = None,
    camera: str = "decam",
    force: bool = False,
    vocabulary: Vocabulary | None = None,
    form: str | None = None,
    prune: bool = False,
    announce: Announce | None = None,
) -> ReportsSummary:
    """Read lists into ``reports/source=<source>``.

    Parameters
    ----------
    files : lists, and folders whose lists are all taken.
    source : ``decals`` (lists that legacypipe reads), ``des`` and ``delve`` (text and FITS),
        ``inspection`` (CSV), or a name of the survey's own.
    round : name of the round of inspection or edition of the list; by default the file's stem.
    camera : whose exposure numbers the lists hold.
    force : read lists again that have not changed.
    vocabulary : what the words mean, by default the lake's.
    form : the source of `SOURCES` whose form and words the lists of another source have; by
        default what their endings say.
    prune : let an edition count though it lacks more than a tenth of the one before it, or came
        before that one; `announce` is told first how many reports no longer count.

    Raises
    ------
    SurveyError : an unknown form or camera, a name that cannot stand or is a round's, a file that
        is missing, or no list at all that could be used (binary, of another form); the lake is
        then as it was. Of several lists, one that cannot be used is told in the summary and the
        others go on.
    """
    _check_source(lake, source, form)
    cameras.camera(camera)
    vocabulary = vocabulary or Vocabulary.of_lake(lake.root)
    paths = _expand(files, source, form)
    _check_rounds(lake, [_round(path, round) for path in paths])
    parsed: list[_List] = []
    failed: list[FileSummary] = []
    for path in paths:
        try:
            parsed.append(_read(path, source, round, camera, form))
        except SurveyError as error:
            if len(paths) == 1:
                raise
            failed.append(FileSummary(path.name, _round(path, round), error=str(error)))
    if not parsed:
        raise BadInput(f"none of the {len(paths)} lists can be used; the first: {failed[0].error}")
    with lake.lock(f"reports-{source}"):
        summaries = _commit(
            lake, source, parsed, vocabulary, round is not None, force, prune, announce
        )
    return ReportsSummary(source, [*summaries, *failed])


def _check_source(lake: Lake, source: str, form: str | None) -> None:
    """Raise `SurveyError` for a source that nobody knows: a new one is begun by its lists' form."""
    check_name("source", source)
    if form is not None and (form not in SOURCES or source in SOURCES):
        raise BadInput(
            f"form {form}: a source of your own may have the form of {', '.join(SOURCES)}; these "
            "have their own"
        )
    known = [*SOURCES, *(part["source"] for part in lake.partitions("reports"))]
    if form is None and source not in known:
        raise NotFound(
            f"no source {source!r}; the sources are {', '.join(dict.fromkeys(known))}: to begin "
            "one of your own, say with --form whose form its lists have"
        )


@dataclass(frozen=True)
class _List:
    """A list as it was read; `former_id` is what version 0.1.0 would know its content by."""

    edition: Edition
    parsed: ParsedList
    lines: frozenset[Line]
    former_id: str


def _read(path: Path, source: str, round: str | None, camera: str, form: str | None) -> _List:
    content = read_content(path)  # once: a pipe does not give it twice
    form = form or (source if source in SOURCES else _form_of(path))
    parsed = _parse(path, content, form, camera)
    if parsed.skipped and not parsed.entries and not parsed.headers:
        first = parsed.skipped[0]
        raise BadInput(
            f"{path}, line {first.line}: {first.why}; none of its {parsed.lines} lines is an entry "
            f"of a list of the form of {form}"
        )
    former = hashlib.sha256(content + camera.encode()).hexdigest()[:16]
    # What DELVE's lists say depends on their names.
    said = reason_of_file(path.stem) if form in ("des", "delve") else ""
    edition = Edition(
        digest([former, said]) if said else former,
        path.name,
        _round(path, round),
        camera,
        str(path.resolve()) if path.is_file() else "",
        form,
        parsed.lines,
        parsed.entries,
        parsed.comments,
        parsed.blank,
        parsed.headers,
        len(parsed.skipped),
        len(parsed.reports),
    )
    lines = frozenset(
        ((report.expnum, report.ccdname, report.analyst), _clean(report.reason))
        for report in parsed.reports
    )
    return _List(edition, parsed, lines, former)


def _form_of(path: Path) -> str:
    """Return whose form a list of a survey's own source has, by its ending."""
    if path.name.lower().endswith(_FITS):
        return "des"
    return "inspection" if path.suffix.lower() == ".csv" else "decals"


def _parse(path: Path, content: bytes, form: str, camera: str) -> ParsedList:
    if path.name.lower().endswith(_FITS) and form in ("des", "delve"):
        return parse_fits_list(path, camera)
    content = check_text(path, content)
    if form == "inspection":
        return parse_inspection_table(read_inspection_csv(content, str(path)), camera)
    if form == "decals":
        return parse_bad_list(read_bad_list(content), camera)
    return parse_delve_text(decode(content)[0], path.stem, camera)


def _check_rounds(lake: Lake, names: Sequence[str]) -> None:
    """Raise `SurveyError` where a list would have the name of a round of inspection."""
    rounds = {partition["round"] for partition in lake.partitions("rounds")}
    for name in names:
        if name in rounds:
            raise BadInput(
                f"{name} is a round of inspection of this lake, whose verdicts a list would mix "
                "with; give the list another --round"
            )


# Committing -------------------------------------------------------------------------------------


def _commit(
    lake: Lake,
    source: str,
    lists: Sequence[_List],
    vocabulary: Vocabulary,
    is_named: bool,
    force: bool,
    prune: bool,
    announce: Announce | None,
) -> list[FileSummary]:
    """Put lists beside what the lake has of the source, all words in the meaning of today."""
    rows, editions = _stored(lake, source)
    before = list(editions.known.values())
    parts = {edition.id: rows.filter(pc.equal(rows["edition"], edition.id)) for edition in before}
    summaries = []
    for read in lists:
        edition = _known_as(read, editions, is_named)
        placing = editions.place(edition, read.lines, is_named)
        is_pruned = prune and not placing.counts
        if is_pruned and announce is not None:
            announce(
                f"{edition.file}: {placing.n_lost:,} of the {placing.n_before:,} entries of the "
                "edition before no longer count"
            )
        if placing.outcome != "same" or force:
            editions.take(edition, read.lines, placing, prune)
            parts[edition.id] = _rows(read, edition)
        summaries.append(_summary(read, edition, placing, is_pruned, source, vocabulary))
    settings = {"vocabulary": digest(vocabulary.to_json())}
    stored = lake.record("reports", {"source": source})
    is_current = stored is not None and dict(stored.settings) == settings
    if force or not is_current or list(editions.known.values()) != before:
        known = editions.known.values()
        record = Record(
            STAGE,
            settings,
            {file_reference(edition.id): edition.id for edition in known},
            {"editions": [edition.to_note() for edition in known]},
        )
        whole = _whole(parts, editions, source, vocabulary)
        lake.write("reports", {"source": source}, whole, record)
    return summaries


def _known_as(read: _List, editions: Editions, is_named: bool) -> Edition:
    """Return the edition under the id that it has in the lake, or is to have."""
    edition = read.edition
    former = editions.known.get(read.former_id)
    if former is not None and former.file == edition.file:
        edition = replace(edition, id=read.former_id)
    there = editions.known.get(edition.id)
    if not is_named and there is not None:
        # Nobody has named it now: it is called as it was.
        return replace(edition, round=there.round, file=there.file)
    if is_named and there is not None and there.round != edition.round:
        edition = replace(edition, id=digest([edition.id, edition.round]))
    return edition


def _stored(lake: Lake, source: str) -> tuple[pa.Table, Editions]:
    """Return the rows that the lake has of a source, and their editions."""
    keys = {"source": source}
    record = lake.record("reports", keys)
    if record is None:
        path = lake.path("reports", keys)
        if path.exists():
            raise Damaged(
                f"{path}: another program has written it, from lists that are not known; "
                "move it away and ingest the lists again, or restore it from a copy"
            )
        return _EMPTY, Editions()
    rows = lake.read("reports", keys).replace_schema_metadata(None)
    if record.format == 1:
        rows, known = _of_first_format(rows, record, source)
    else:
        known = {note["id"]: Edition(**note) for note in record.notes["editions"]}
    current = [edition.id for edition in known.values() if edition.is_current]
    lines: dict[str, set[Line]] = {id: set() for id in current}
    columns = ("edition", "expnum", "ccdname", "analyst", "reason")
    counting = rows.filter(pc.is_in(rows["edition"], pa.array(current, pa.string())))
    for id, expnum, ccdname, analyst, reason in zip(
        *(counting[name].to_pylist() for name in columns), strict=True
    ):
        lines[id].add(((expnum, ccdname, analyst), reason))
    return rows, Editions(known, dict(lines))


def _of_first_format(
    rows: pa.Table, record: Record, source: str
) -> tuple[pa.Table, dict[str, Edition]]:
    """Return the rows of version 0.1.0, which knew a list by its round and name, as editions."""
    known: dict[str, Edition] = {}
    editions = {}
    for reference, id in record.inputs.items():
        name = split_reference(reference)[1]
        note = {key: value for key, value in record.notes[name].items() if key != "unmapped"}
        mine = pc.and_(pc.equal(rows["round"], note["round"]), pc.equal(rows["file"], note["file"]))
        cameras = rows.filter(mine)["camera"].unique().to_pylist()
        # Equal lists of two names were two lists.
        id = digest([id, name]) if id in known else id
        known[id] = Edition(id, camera=cameras[0] if cameras else "decam", form=source, **note)
        editions[note["round"], note["file"]] = id
    of_rows = zip(rows["round"].to_pylist(), rows["file"].to_pylist(), strict=True)
    rows = with_column(rows, "edition", pa.array([editions[key] for key in of_rows], pa.string()))
    return rows, known


def _rows(read: _List, edition: Edition) -> pa.Table:
    """Return the rows that a list makes."""
    reports = read.parsed.reports
    number = len(reports)
    return pa.table(
        {
            "expnum": pa.array([report.expnum for report in reports], pa.int64()),
            "ccdname": pa.array([report.ccdname for report in reports], pa.string()),
            "ccdnum": pa.array([report.ccdnum for report in reports], pa.int16()),
            "reason": pa.array([_clean(report.reason) for report in reports], pa.string()),
            "is_bad": pa.array([report.is_bad for report in reports], pa.bool_()),
            "analyst": pa.array([report.analyst for report in reports], pa.string()),
            "quality": pa.array([report.quality for report in reports], pa.float32()),
            "comment": pa.array([report.comment for report in reports], pa.string()),
            "round": pa.array([edition.round] * number, pa.string()),
            "file": pa.array([edition.file] * number, pa.string()),
            "line": pa.array([report.line for report in reports], pa.int32()),
            "camera": pa.array([edition.camera] * number, pa.string()),
            "edition": pa.array([edition.id] * number, pa.string()),
        }
    )


def _whole(
    parts: dict[str, pa.Table], editions: Editions, source: str, vocabulary: Vocabulary
) -> pa.Table:
    """Return the rows of all editions, classified, each marked whether it counts."""
    whole = [_EMPTY]
    for edition in editions.known.values():
        rows = parts[edition.id]
        marks = pa.array([edition.is_current] * rows.num_rows, pa.bool_())
        rows = with_column(rows, "is_current", marks)
        whole.append(classified(rows, source, edition.form, vocabulary))
    return pa.concat_tables(whole, promote_options="default")


def _summary(
    read: _List,
    edition: Edition,
    placing: Placing,
    is_pruned: bool,
    source: str,
    vocabulary: Vocabulary,
) -> FileSummary:
    unmapped: Counter[str] = Counter()
    own: Counter[str] = Counter()
    rows = classified(_rows(read, edition), source, edition.form, vocabulary)
    columns = ("reason", "classes", "is_bad", "origin")
    for reason, classes, is_bad, origin in zip(
        *(rows[name].to_pylist() for name in columns), strict=True
    ):
        if origin is not None:
            own[origin] += 1
        elif is_bad and not classes:
            unmapped[reason] += 1
    is_new = placing.outcome != "same"
    return FileSummary(
        edition.file,
        edition.round,
        edition.lines,
        edition.entries,
        edition.comments,
        edition.blank,
        edition.headers,
        edition.n_skipped,
        edition.reports,
        dict(unmapped),
        dict(own),
        [(line.line, line.why) for line in read.parsed.skipped] if is_new else [],
        placing,
        is_pruned,
    )


def _clean(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8; no decoder here makes one, a FITS string might.
    return text.encode("utf-8", "replace").decode("utf-8")


# Which files ------------------------------------------------------------------------------------


def _expand(files: Sequence[Path], source: str, form: str | None) -> list[Path]:
    """Return the lists among `files`, each folder replaced by the lists in it."""
    endings = _ENDINGS.get(form or source) or tuple(
        dict.fromkeys(ending for known in _ENDINGS.values() for ending in known)
    )
    found: list[Path] = []
    for path in files:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.name.lower().endswith(endings)
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not inside:
            raise BadInput(f"{path}: no {' or '.join(endings)} file in this folder")
        found += inside
    if not found:
        raise NotFound("no list to ingest: name files or folders")
    for path in found:
        if not path.exists():
            raise NotFound(f"{path}: no such file")
    return list(dict.fromkeys(found))


def _round(path: Path, name: str | None) -> str:
    if name is not None:
        return name
    stem = path.name
    for ending in (".gz", ".fz"):
        stem = stem.removesuffix(ending)
    return Path(stem).stem


_EMPTY = table("reports").conform(pa.table({}))
