"""Inspection tables: CSV with a pair of columns ``<who>_badexp``, ``<who>_reason`` an inspector."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lake.cameras import ccd_number
from lake.errors import SurveyError
from lake.lists import ParsedList, Report, Skipped, decode, fits_expnum, read_bytes

EXPNUM = "expnum"
#: Column of tables that judge single CCDs.
CCDNAME = "ccdname"
_BADEXP = "_badexp"
_REASON = "_reason"

_YES = {"true", "t", "yes", "y", "1", "1.0", "bad", "x"}
_NO = {"false", "f", "no", "n", "0", "0.0", "good", "ok"}
_UNSURE = {"?", "maybe", "unsure", "unclear", "not sure", "don't know", "dont know"}
_NOT_LOOKED = {"", "-", "nan", "none", "null", "n/a", "na"}
_DELIMITERS = (",", ";", "\t")
#: How a verdict is written: True, False, unsure.
_SPELLING = {True: "True", False: "False", None: "?"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one inspector says: bad, good, or unsure (None), and the words as they were typed."""

    is_bad: bool | None
    reason: str = ""


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
        cls, inspectors: Sequence[str], rows: list[InspectionRow], cells: Sequence[str] = ()
    ) -> InspectionTable:
        """Return a table of `rows` with columns expnum, `cells`, and a pair an inspector."""
        pairs = [f"{who}{suffix}" for who in inspectors for suffix in (_BADEXP, _REASON)]
        return cls([EXPNUM, *cells, *pairs], rows)


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
        raise SurveyError(f"{name}, line {reader.line_num}: not CSV ({error})") from error
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
            reason = verdict.reason.strip()
            parsed.reports.append(
                Report(row.line, row.expnum, ccdname, ccdnum, reason, who, verdict.is_bad)
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
        raise SurveyError(f"{name}, line 1: no column {EXPNUM!r}; found {', '.join(columns)[:200]}")
    if not _inspectors(columns):
        raise SurveyError(
            f"{name}, line 1: no column '<inspector>{_BADEXP}'; found {', '.join(columns)[:200]}"
        )
    repeated = {column for column in columns if columns.count(column) > 1}
    if repeated:
        raise SurveyError(f"{name}, line 1: column {', '.join(sorted(repeated))} comes twice")


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
        reason = values.pop(f"{who}{_REASON}", "")
        try:
            looked, is_bad = parse_verdict(typed)
        except ValueError:
            return f"{who}{_BADEXP} {typed!r} is neither yes, no nor unsure"
        if looked or reason.strip():
            verdicts[who] = Verdict(is_bad, reason)
    return InspectionRow(line, expnum, values, verdicts)


def _cell(row: InspectionRow, column: str) -> str:
    if column == EXPNUM:
        return str(row.expnum)
    for suffix in (_BADEXP, _REASON):
        who = column.removesuffix(suffix)
        if who != column and who in row.verdicts:
            verdict = row.verdicts[who]
            return _SPELLING[verdict.is_bad] if suffix == _BADEXP else verdict.reason
    return row.cells.get(column, "")
