"""The exclusion lists of DELVE (text, one file a reason) and of DES and DELVE (FITS).

Text files are tables of white-space columns. ``problem-*`` has a row an exposure: night,
exposure, problem. The others have a row a CCD, and the file's name is the reason: date, exposure,
ccd, id, ccdnum, where ``ccd`` is an internal number and ``id`` the CCD's name, both often ``nan``.
A comment above rows says more about them ("# Airplane").
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from badlist.format import NO_REASON, ParsedList, Report, Skipped, fits_expnum, physical_lines
from lake.cameras import ccd_name
from lake.errors import BadInput, Damaged, NotFound

_HEADER = re.compile(r"^#?\s*(date|nite)\s+(expnum|exposure)\b", re.IGNORECASE)
_ROW = re.compile(r"^\s*\d{8}\s+\d+\b")
_PROBLEM = re.compile(r"^\s*(?P<night>\d{8})\s+(?P<expnum>\d+)(?:\s+(?P<problem>.*\S))?\s*$")
_YEAR = re.compile(r"-y\d+$", re.IGNORECASE)
_SQL = re.compile(r"^select\s", re.IGNORECASE)


def parse_delve_text(text: str, stem: str, camera: str = "decam") -> ParsedList:
    """Return the reports of one text file.

    Parameters
    ----------
    text : the file's content.
    stem : the file's name without ending, which gives the reason (``ghost-scatter-y04``) or says
        that each row does (``problem-y04``).

    The reason of a row is the file's, followed by the comment above it where there is one:
    ``streak: Airplane``. A commented-out row is a comment, and so is SQL.
    """
    file_reason = reason_of_file(stem)
    problems = file_reason.lower().startswith("problem")
    lines = physical_lines(text.removeprefix("\ufeff"))
    parsed = ParsedList(lines=len(lines))
    notes = _Notes()
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line:
            parsed.blank += 1
        elif _HEADER.match(line):
            parsed.headers += 1
        elif line.startswith("#"):
            parsed.comments += 1
            notes.add(line.lstrip("#").strip())
        else:
            note = notes.cover()
            found = (
                _problem_row(number, line)
                if problems
                else _ccd_row(number, line, file_reason, note, camera)
            )
            if isinstance(found, Report):
                parsed.entries += 1
                parsed.reports.append(found)
            else:
                parsed.skipped.append(Skipped(number, line, found))
    return parsed


def reason_of_file(stem: str) -> str:
    """Return the reason that a text file's name gives its rows: ``ghost-scatter-y04``."""
    return _YEAR.sub("", stem)


class _Notes:
    """The comment that covers the rows below it: the last line of its block that is not SQL."""

    def __init__(self) -> None:
        self._note = ""
        self._in_sql = False
        self._block = False

    def add(self, comment: str) -> None:
        if _ROW.match(comment):
            return
        if not self._block:  # a new block ends what the one before covered
            self._note, self._block = "", True
        if _SQL.match(comment):
            self._in_sql = True
        if self._in_sql:
            self._in_sql = not comment.endswith(";")
        elif comment:
            self._note = comment

    def cover(self) -> str:
        self._block = self._in_sql = False
        return self._note


def _problem_row(number: int, line: str) -> Report | str:
    row = _PROBLEM.match(line)
    if row is None:
        return "expected night, exposure and problem"
    expnum = int(row["expnum"])
    if not fits_expnum(expnum):
        return "exposure number out of range"
    return Report(number, expnum, None, None, row["problem"] or NO_REASON, is_bad=True)


def _ccd_row(number: int, line: str, file_reason: str, note: str, camera: str) -> Report | str:
    words = line.split()
    if len(words) != 5:
        return f"expected date, expnum, ccd, id and ccdnum, found {len(words)} columns"
    _, expnum_text, _, _, ccdnum_text = words
    if not (expnum_text.isascii() and expnum_text.isdigit() and fits_expnum(int(expnum_text))):
        return f"{expnum_text!r} is not an exposure number"
    ccdnum = int(ccdnum_text) if ccdnum_text.isascii() and ccdnum_text.isdigit() else 0
    name = ccd_name(camera, ccdnum)
    if name is None:
        return f"{ccdnum_text!r} is not a CCD number of {camera}"
    reason = f"{file_reason}: {note}" if note else file_reason
    return Report(number, int(expnum_text), name, ccdnum, reason, is_bad=True)


def parse_fits_list(path: Path, camera: str = "decam") -> ParsedList:
    """Return the reports of a FITS table with EXPNUM, CCDNUM, REASON and, it may be, ANALYST.

    A CCDNUM that is masked, zero or negative stands for the whole exposure. `Report.line` is the
    row, counted from 1.

    Raises
    ------
    SurveyError : not a readable FITS table, or a column is missing.
    """
    rows, nulls = _read_fits(path)
    names = {name.upper(): name for name in rows.dtype.names}
    missing = [name for name in ("EXPNUM", "CCDNUM", "REASON") if name not in names]
    if missing:
        raise BadInput(
            f"{path}: no column {', '.join(missing)}; a list has EXPNUM, CCDNUM, REASON and ANALYST"
        )
    reasons = [_text(value) for value in rows[names["REASON"]]]
    analysts = (
        [_text(value) for value in rows[names["ANALYST"]]]
        if "ANALYST" in names
        else [""] * len(rows)
    )
    parsed = ParsedList(lines=len(rows))
    columns = zip(
        rows[names["EXPNUM"]].tolist(), rows[names["CCDNUM"]].tolist(), reasons, analysts,
        strict=True,
    )  # fmt: skip
    for number, (expnum, ccdnum, reason, analyst) in enumerate(columns, 1):
        if expnum != expnum or not fits_expnum(int(expnum)) or expnum == nulls.get("EXPNUM"):
            parsed.skipped.append(
                Skipped(number, f"{expnum} {ccdnum} {reason}", f"no exposure number ({expnum})")
            )
            continue
        whole = ccdnum != ccdnum or ccdnum == nulls.get("CCDNUM") or int(ccdnum) <= 0
        name = None if whole else ccd_name(camera, int(ccdnum))
        if not whole and name is None:
            why = f"{ccdnum} is not a CCD number of {camera}"
            parsed.skipped.append(Skipped(number, f"{expnum} {ccdnum} {reason}", why))
            continue
        parsed.entries += 1
        parsed.reports.append(
            Report(
                number,
                int(expnum),
                name,
                None if whole else int(ccdnum),
                reason or NO_REASON,
                analyst or None,
                True,
            )
        )
    return parsed


def _read_fits(path: Path) -> tuple[Any, dict[str, int]]:
    """Return the rows of the first table of a file and the null values its header declares."""
    import fitsio

    if not path.is_file():
        raise NotFound(f"{path}: no such file")
    try:
        with fitsio.FITS(str(path)) as file:
            for extension in file:
                if extension.get_exttype() in ("BINARY_TBL", "ASCII_TBL") and extension.get_nrows():
                    header = extension.read_header()
                    nulls = {
                        str(header[f"TTYPE{number}"]).strip().upper(): int(header[f"TNULL{number}"])
                        for number in range(1, int(header["TFIELDS"]) + 1)
                        if f"TNULL{number}" in header
                    }
                    return extension.read(), nulls
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise Damaged(
            f"{path}: not a readable FITS table ({reason[0] if reason else error!r})"
        ) from error
    raise NotFound(f"{path}: holds no table with rows")


def _text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.replace("\0", " ").strip()
