"""Bad-exposure lists as text: reading them as legacypipe does, and giving every line back.

Nothing here knows the lake. A parser returns a `ParsedList`: the reports that its lines make, and
an account of the lines that make none. The list of the DECam Legacy Survey (and those of Mosaic-3
and 90Prime, of the same form) is also kept byte for byte, as a `BadList`, so that a change to it
touches nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lake.cameras import ccd_number
from lake.errors import BadInput, NotFound

#: What legacypipe holds as the reason of a line without words.
NO_REASON = "unknown"

#: (exposure number, CCD name); no name stands for the whole exposure.
Key = tuple[int, str | None]
Kind = Literal["entry", "comment", "blank", "header", "skipped"]

# A text file opened by Python ends its lines at \n, \r\n and \r, and nowhere else: str.splitlines
# would break at form feeds and the like as well.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_MAGIC = {
    b"SIMPLE  =": "a FITS file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip file (a spreadsheet?): export it as text",
    b"\x89PNG": "an image",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}
#: Share of control characters above which a file is taken for a binary one.
_MAX_CONTROL = 0.1
_CONTROL = bytes(set(range(32)) - {9, 10, 11, 12, 13})


@dataclass(frozen=True, slots=True)
class Report:
    """What one line says about an exposure (`ccdname` and `ccdnum` None) or one of its CCDs.

    `is_bad` is None where the line leaves the verdict to the vocabulary, or its inspector is
    unsure; which of the two follows from the kind of list. `quality` and `comment` are of tables of
    verdicts that have columns for them.
    """

    line: int
    expnum: int
    ccdname: str | None
    ccdnum: int | None
    reason: str
    analyst: str | None = None
    is_bad: bool | None = None
    quality: float | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that should have been an entry and could not be read as one."""

    line: int
    text: str
    why: str


@dataclass
class ParsedList:
    """The reports of a list and an account of its lines.

    ``entries + comments + blank + headers + len(skipped) == lines``; a line of an inspection table
    makes a report for each inspector who gave a verdict.
    """

    lines: int = 0
    entries: int = 0
    comments: int = 0
    blank: int = 0
    headers: int = 0
    reports: list[Report] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ListLine:
    """A line of a bad-exposure list.

    Attributes
    ----------
    number : counted from 1.
    text : the line with its line end, as it stands.
    kind : what legacypipe takes it for.
    key : of an entry.
    reason : of an entry; ``unknown`` where the line gives none.
    why : why the reader skips a line that is neither entry, comment nor blank.
    """

    number: int
    text: str
    kind: Kind
    key: Key | None = None
    reason: str = ""
    why: str = ""


@dataclass(frozen=True)
class BadList:
    """A bad-exposure list, every line as it stands.

    Attributes
    ----------
    lines : all lines, in order.
    encoding : of the text; ``utf-8``, or ``latin-1`` where the bytes are not UTF-8.
    """

    lines: tuple[ListLine, ...]
    encoding: str

    def to_bytes(self) -> bytes:
        """Return the file's content, byte for byte as it was read."""
        return "".join(line.text for line in self.lines).encode(self.encoding)

    @cached_property
    def entries(self) -> tuple[ListLine, ...]:
        """The lines that legacypipe reads, repeated keys included."""
        return tuple(line for line in self.lines if line.kind == "entry")

    def keys(self) -> dict[Key, str]:
        """Return what legacypipe ends up with: key -> reason, the last line of a key winning."""
        return {line.key: line.reason for line in self.entries if line.key is not None}

    @property
    def newline(self) -> str:
        """The line end that most lines have; ``\\n`` for a file without any."""
        counts = dict.fromkeys(("\n", "\r\n", "\r"), 0)
        for line in self.lines:
            end = line.text[len(line.text.rstrip("\r\n")) :]
            if end:
                counts[end] += 1
        return max(counts, key=lambda end: counts[end])


def read_bytes(path: Path) -> bytes:
    """Return the content of a text file; raises `SurveyError` for a missing or binary one."""
    return check_text(path, read_content(path))


def read_content(path: Path) -> bytes:
    """Return the content of a file or pipe; raises `SurveyError` for one that cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: a folder, not a list") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error


def check_text(path: Path, data: bytes) -> bytes:
    """Return `data` where it may be text; raises `SurveyError` that says what it is instead."""
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise BadInput(f"{path}: not a text list but {what}")
    sample = data[: 1 << 16]
    if len(sample) - len(sample.translate(None, _CONTROL)) > _MAX_CONTROL * len(sample):
        raise BadInput(f"{path}: not a text list but a binary file")
    return data


def decode(data: bytes) -> tuple[str, str]:
    """Return the text and its encoding: UTF-8 where it can be, else latin-1, which always can."""
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def physical_lines(text: str) -> list[str]:
    """Split `text` where a text file of Python ends its lines, line ends kept."""
    return _LINE.findall(text)


def read_bad_list(source: bytes | Path) -> BadList:
    """Read a bad-exposure list exactly as legacypipe does, every line kept.

    A line is a comment when its first character is ``#``, blank when it has no words; else its
    first word is ``EXPNUM`` or ``EXPNUM-CCDNAME`` and the rest, joined by single spaces, is the
    reason. A first word with more than one ``-``, or whose number does not parse, is skipped. A
    byte-order mark is no white space to legacypipe: it costs the list its first line, here too.

    Raises
    ------
    SurveyError : the file is missing, or binary.
    """
    data = read_bytes(source) if isinstance(source, Path) else source
    text, encoding = decode(data)
    lines = tuple(
        _bad_list_line(number, line) for number, line in enumerate(physical_lines(text), 1)
    )
    return BadList(lines, encoding)


def parse_key(word: str) -> tuple[Key | None, str]:
    """Return the key that `word` names, or None and why it names none, by legacypipe's rule."""
    number, *ccd = word.split("-")
    if len(ccd) > 1:
        return None, f"{word!r} has more than one '-'"
    try:
        expnum = int(number, 10)
    except ValueError:
        return None, f"{number!r} is not an exposure number"
    return (expnum, ccd[0] if ccd else None), ""


def format_key(key: Key) -> str:
    """Return ``EXPNUM`` or ``EXPNUM-CCDNAME``: the inverse of `parse_key`."""
    expnum, ccdname = key
    return str(expnum) if ccdname is None else f"{expnum}-{ccdname}"


def parse_bad_list(bad_list: BadList, camera: str) -> ParsedList:
    """Return the reports of a bad-exposure list, one an entry, repeated keys included."""
    parsed = ParsedList(lines=len(bad_list.lines))
    for line in bad_list.lines:
        if line.kind == "comment":
            parsed.comments += 1
        elif line.kind == "blank":
            parsed.blank += 1
        elif line.key is None:
            parsed.skipped.append(Skipped(line.number, line.text.rstrip("\r\n"), line.why))
        elif not fits_expnum(line.key[0]):
            why = "exposure number out of range"
            parsed.skipped.append(Skipped(line.number, line.text.rstrip("\r\n"), why))
        else:
            expnum, ccdname = line.key
            ccdnum = None if ccdname is None else ccd_number(camera, ccdname)
            parsed.entries += 1
            parsed.reports.append(Report(line.number, expnum, ccdname, ccdnum, line.reason))
    return parsed


def fits_expnum(expnum: int) -> bool:
    """Tell whether the lake can hold an exposure number (64-bit)."""
    return 0 < expnum < 2**63


def duplicates(lines: Sequence[ListLine]) -> Iterator[tuple[Key, list[ListLine]]]:
    """Yield each key that several lines have, with those lines."""
    by_key: dict[Key, list[ListLine]] = {}
    for line in lines:
        if line.key is not None:
            by_key.setdefault(line.key, []).append(line)
    for key, same in by_key.items():
        if len(same) > 1:
            yield key, same


def _bad_list_line(number: int, text: str) -> ListLine:
    if text.startswith("#"):
        return ListLine(number, text, "comment")
    words = text.split()
    if not words:
        return ListLine(number, text, "blank")
    key, why = parse_key(words[0])
    if key is None:
        return ListLine(number, text, "skipped", why=why)
    return ListLine(number, text, "entry", key, " ".join(words[1:]) or NO_REASON)
