"""Inspection tables: CSV with columns ``<who>_badexp`` and ``<who>_reason`` for each inspector.

Tables that were written of a round have more: ``<who>_class``, ``<who>_quality``,
``<who>_comment`` and ``<who>_time``. Where the class has a column, nothing is read out of words.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from badlist.format import ParsedList, Report, Skipped, decode, fits_expnum, read_bytes
from lake.cameras import ccd_number
from lake.errors import BadInput

EXPNUM = "expnum"
#: Column of tables that judge single CCDs.
CCDNAME = "ccdname"
_BADEXP = "_badexp"
_REASON = "_reason"
_CLASS, _QUALITY, _COMMENT, _TIME = "_class", "_quality", "_comment", "_time"
#: Columns of an inspector beside the verdict.
_OF_INSPECTOR = (_REASON, _CLASS, _QUALITY, _COMMENT, _TIME)

_YES = {"true", "t", "yes", "y", "1", "1.0", "bad", "x"}
_NO = {"false", "f", "no", "n", "0", "0.0", "good", "ok"}
_UNSURE = {"?", "maybe", "unsure", "unclear", "not sure", "don't know", "dont know"}
_NOT_LOOKED = {"", "-", "nan", "none", "null", "n/a", "na"}
_DELIMITERS = (",", ";", "\t")
#: How a verdict is written: True, False, unsure.
_SPELLING = {True: "True", False: "False", None: "?"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one inspector says: bad, good, or unsure (None), and the words as they were typed.

    `class_name`, `quality` and `comment` are of tables that have columns for them (`is_typed`);
    `time` is in seconds since 1970 UTC.
    """

    is_bad: bool | None
    reason: str = ""
    class_name: str | None = None
    quality: float | None = None
    comment: str | None = None
    time: float | None = None

    @property
    def is_typed(self) -> bool:
        """Whether class and comment came apart."""
        return self.comment is not None


@dataclass(frozen=True, slots=True)
class InspectionRow:
    """An exposure that was inspected; `verdicts` holds only those who looked.

    `cells` are the columns that belong to no inspector, by name, as they stand.
    """

    line: int
    expnum: int
    cells: dict[str, str]
    verdicts: dict[str, Verdict]


@dataclass
class InspectionTable:
    """An inspection table: its columns in order, its inspectors, its rows.

    `skipped` lists the lines that could not be read; they are not in `rows`.
    """

    columns: list[str]
    rows: list[InspectionRow]
    skipped: list[Skipped] = field(default_factory=list)
    lines: int = 0
    blank: int = 0

    @property
    def inspectors(self) -> list[str]:
        """Names of the inspectors, in the order of the columns."""
        return _inspectors(self.columns)

    @classmethod
    def new(
        cls,
        inspectors: Sequence[str],
        rows: list[InspectionRow],
        cells: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        is_typed: bool = False,
    ) -> InspectionTable:
        """Return a table of `rows` with columns expnum, `cells`, and some for each inspector.

        These are verdict and words, and class, quality, comment and time if it `is_typed`;
        `columns` names all of them where they have an order of their own.
        """
        suffixes = (_BADEXP, *(_OF_INSPECTOR if is_typed else (_REASON,)))
        pairs = [f"{who}{suffix}" for who in inspectors for suffix in suffixes]
        return cls(list(columns or [EXPNUM, *cells, *pairs]), rows)


def read_inspection_csv(source: bytes | Path, name: str = "inspection table") -> InspectionTable:
    """Read an inspection table.

    Verdicts are taken as people type them (True, y, yes, 1, bad; False, n, no, 0, good; maybe, ?,
    y? for unsure; nothing for not looked at), the delimiter may be ``,``, ``;`` or a tab.

    Raises
    ------
    SurveyError : the file is missing or binary, or lacks ``expnum`` or any ``…_badexp`` column.
    """
    if isinstance(source, Path):
        name = str(source)
        source = read_bytes(source)
    text = decode(source)[0].removeprefix("\ufeff")
    heading = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [column.strip() for column in next(reader, [])]
        _check_columns(columns, name)
        table = InspectionTable(columns, [], lines=1)
        start = reader.line_num + 1
        for cells in reader:
            table.lines += 1
            row = _row(start, columns, cells)
            if row is None:
                table.blank += 1
            elif isinstance(row, str):
                table.skipped.append(Skipped(start, delimiter.join(cells), row))
            else:
                table.rows.append(row)
            start = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{name}, line {reader.line_num}: not CSV ({error})") from error
    return table


def write_inspection_csv(table: InspectionTable) -> bytes:
    """Return `table` as CSV: what `read_inspection_csv` reads back as the same table."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(_cell(row, column) for column in table.columns)
    return out.getvalue().encode()


def parse_inspection_table(table: InspectionTable, camera: str = "decam") -> ParsedList:
    """Return the reports of an inspection table: one for each row and inspector who looked.

    A row whose column ``ccdname`` holds a name is about that CCD alone.
    """
    parsed = ParsedList(
        lines=table.lines,
        entries=len(table.rows),
        headers=1,
        blank=table.blank,
        skipped=list(table.skipped),
    )
    for row in table.rows:
        ccdname = row.cells.get(CCDNAME, "").strip() or None
        ccdnum = None if ccdname is None else ccd_number(camera, ccdname)
        for who, verdict in row.verdicts.items():
            # A class that has a column of its own is all that the report's words are.
            reason = (verdict.class_name or "") if verdict.is_typed else verdict.reason.strip()
            parsed.reports.append(
                Report(
                    row.line,
                    row.expnum,
                    ccdname,
                    ccdnum,
                    reason,
                    who,
                    verdict.is_bad,
                    verdict.quality,
                    verdict.comment,
                )
            )
    return parsed


def parse_verdict(text: str) -> tuple[bool, bool | None]:
    """Return (whether somebody looked, bad / good / None for unsure) for what a person typed.

    Raises `ValueError` for words that are none of these.
    """
    word = " ".join(text.split()).casefold()
    if word in _NOT_LOOKED:
        return False, None
    if word in _UNSURE or word.endswith("?"):
        return True, None
    if word in _YES:
        return True, True
    if word in _NO:
        return True, False
    raise ValueError(text)


def _inspectors(columns: Sequence[str]) -> list[str]:
    return [
        column.removesuffix(_BADEXP)
        for column in columns
        if column.endswith(_BADEXP) and column != _BADEXP
    ]


def _check_columns(columns: list[str], name: str) -> None:
    if EXPNUM not in columns:
        raise BadInput(f"{name}, line 1: no column {EXPNUM!r}; found {', '.join(columns)[:200]}")
    if not _inspectors(columns):
        raise BadInput(
            f"{name}, line 1: no column '<inspector>{_BADEXP}'; found {', '.join(columns)[:200]}"
        )
    repeated = {column for column in columns if columns.count(column) > 1}
    if repeated:
        raise BadInput(f"{name}, line 1: column {', '.join(sorted(repeated))} comes twice")


def _row(line: int, columns: list[str], cells: list[str]) -> InspectionRow | str | None:
    """Return a row, or why it cannot be read, or None for a blank line."""
    if not any(cell.strip() for cell in cells):
        return None
    if len(cells) != len(columns):
        return f"{len(cells)} columns where the first line has {len(columns)}"
    values = dict(zip(columns, cells, strict=True))
    try:
        expnum = int(values.pop(EXPNUM))
    except ValueError:
        return "expnum is not a number"
    if not fits_expnum(expnum):
        return "exposure number out of range"
    verdicts = {}
    for who in _inspectors(columns):
        typed = values.pop(f"{who}{_BADEXP}")
        is_typed = f"{who}{_CLASS}" in values
        suffixes = _OF_INSPECTOR if is_typed else (_REASON,)
        further = dict.fromkeys(_OF_INSPECTOR) | {
            suffix: values.pop(f"{who}{suffix}", None) for suffix in suffixes
        }
        reason = further[_REASON] or ""
        try:
            looked, is_bad = parse_verdict(typed)
        except ValueError:
            return f"{who}{_BADEXP} {typed!r} is neither yes, no nor unsure"
        try:
            quality = _number(further[_QUALITY])
        except ValueError:
            return f"{who}{_QUALITY} {further[_QUALITY]!r} is not a number"
        try:
            time = _seconds(further[_TIME])
        except ValueError:
            return f"{who}{_TIME} {further[_TIME]!r} is not a time like 2026-11-21T09:30:00Z"
        # A class has a column: then the comment is one too, if only an empty one.
        comment = further[_COMMENT] if further[_COMMENT] is not None else reason
        if looked or reason.strip():
            verdicts[who] = Verdict(
                is_bad,
                reason,
                (further[_CLASS] or "").strip() or None,
                quality,
                comment if is_typed else None,
                time,
            )
    return InspectionRow(line, expnum, values, verdicts)


def _number(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None


def _seconds(text: str | None) -> float | None:
    """Return a time as seconds since 1970 UTC; one without a zone is UTC."""
    if not text or not text.strip():
        return None
    time = datetime.fromisoformat(text.strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _time_text(seconds: float) -> str:
    time = datetime.fromtimestamp(seconds, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(row: InspectionRow, column: str) -> str:
    if column == EXPNUM:
        return str(row.expnum)
    if column in row.cells:
        return row.cells[column]
    for suffix in (_BADEXP, *_OF_INSPECTOR):
        who = column.removesuffix(suffix)
        if who != column and who in row.verdicts:
            return _part(row.verdicts[who], suffix)
    return ""


def _part(verdict: Verdict, suffix: str) -> str:
    """Return what the column of `suffix` says of a verdict."""
    parts = {
        _BADEXP: _SPELLING[verdict.is_bad],
        _REASON: verdict.reason,
        _CLASS: verdict.class_name,
        _QUALITY: None if verdict.quality is None else f"{verdict.quality:g}",
        _COMMENT: verdict.comment,
        _TIME: None if verdict.time is None else _time_text(verdict.time),
    }
    return parts[suffix] or ""
