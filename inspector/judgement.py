"""What an inspector says, and the log that it is safe in.

A verdict is one line of ``inspections/round=…/inspector=…/_verdicts.jsonl``, synced before anyone
is told that it is saved. The log is only ever appended to; undoing appends too. Readers of the lake
ignore it (its name begins with ``_``), so that inspectors stay blind to each other until the round
is closed and the log becomes a partition of ``inspections``.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, get_args

from lake.errors import BadInput, Damaged, SurveyError
from lake.verdicts import Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: Scale of an inspector's confidence (Green et al. 2025, section 4): 0 no data … 4 certain.
QUALITIES = (0, 1, 2, 3, 4)
#: Characters that a comment may have.
MAX_COMMENT = 2000
LOG = "_verdicts.jsonl"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its class (None: not given), quality (0-4 or None) and comment."""

    verdict: Verdict
    class_name: str | None = None
    quality: int | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """The last word on a subject.

    Attributes
    ----------
    version : how often the subject's judgement has changed; 0 for never.
    judgement : None when it was never given, or undone.
    by : who gave it.
    time : seconds since 1970 UTC.
    """

    version: int = 0
    judgement: Judgement | None = None
    by: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """A word that was said of a subject, and what became of it: stands, replaced or undone."""

    subject: str
    judgement: Judgement | None
    by: str
    time: float
    became: str


@dataclass(slots=True)
class _Said:
    """A line of a log that is no undoing; `before` is the line that stood of its subject."""

    subject: str
    judgement: Judgement | None
    by: str
    time: float
    before: int | None
    is_undone: bool = False


class Conflict(Exception):  # noqa: N818 - what happened, not what is wrong
    """The log has moved on since the page last saw it; `entry` is the subject's last word."""

    def __init__(self, subject: str, entry: Entry) -> None:
        super().__init__(subject)
        self.subject = subject
        self.entry = entry


class Closed(Exception):  # noqa: N818
    """The round takes no more verdicts."""


class VerdictLog:
    """The judgements of one inspector, durable and safe to share between threads and processes.

    Parameters
    ----------
    path : the log; it and its folder are made by the first verdict.
    closed : a file whose existence means that nothing more is taken.

    Raises
    ------
    SurveyError : the log is damaged before its last line (a torn last line was never acknowledged
        and is dropped), or cannot be read.
    """

    def __init__(self, path: Path, closed: Path | None = None) -> None:
        self.path = path
        self.closed = closed
        self._lock = Lock()
        self._entries: dict[str, Entry] = {}
        self._said: dict[int, _Said] = {}
        self._standing: dict[str, int | None] = {}
        self._lines = 0
        self._read_to = 0
        self.refresh()

    @property
    def sequence(self) -> int:
        """How many changes the log holds; grows by one with each."""
        return self._lines

    def entry(self, subject: str) -> Entry:
        """Return the last word on `subject`."""
        return self._entries.get(subject, _NOTHING)

    def entries(self) -> dict[str, Entry]:
        """Return the last word on every subject that has been judged, undone ones left out."""
        with self._lock:
            return {key: e for key, e in self._entries.items() if e.judgement is not None}

    def times(self) -> list[float]:
        """Return when the standing judgements were given, in order."""
        return sorted(entry.time for entry in self.entries().values())

    def history(self) -> list[Event]:
        """Return every word that was said, in order, undone ones too, and what became of each."""
        with self._lock:
            return [
                Event(said.subject, said.judgement, said.by, said.time, self._became(line))
                for line, said in sorted(self._said.items())
            ]

    def _became(self, line: int) -> str:
        said = self._said[line]
        if said.is_undone:
            return "undone"
        return "stands" if self._standing.get(said.subject) == line else "replaced"

    def refresh(self) -> None:
        """Take in what other processes have appended."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._take_in(file)
            except FileNotFoundError:
                return
            except OSError as error:
                raise BadInput(f"{self.path}: cannot be read ({error.strerror})") from error

    def judge(self, subject: str, version: int, judgement: Judgement, by: str = "") -> Entry:
        """Append a judgement of `subject` that was last seen at `version`; return the new entry.

        Saying again what the very next version says is no conflict: the answer to the first
        request was lost, and the judgement is already safe.

        Raises
        ------
        Conflict : the subject is no longer at `version`. Nothing is written.
        Closed : the round is closed. Nothing is written.
        """
        with self._writing() as file:
            current = self.entry(subject)
            if current.version == version + 1 and current.judgement == judgement:
                return current
            if current.version != version:
                raise Conflict(subject, current)
            self._append(file, {"subject": subject, "judgement": asdict(judgement), "by": by})
            return self.entry(subject)

    def undo(self, sequence: int, by: str = "") -> str | None:
        """Take back the last judgement that `by` gave and return its subject; None for none left.

        What somebody else has said since of the same subject stands, and so does theirs before.

        Raises
        ------
        Conflict : the log is no longer at `sequence`: another tab has spoken since.
        Closed : the round is closed.
        """
        with self._writing() as file:
            mine = [
                line
                for line in self._standing.values()
                if line is not None and self._said[line].by == by
            ]
            if not mine:
                return None
            last = self._said[max(mine)]
            if self._lines != sequence:
                raise Conflict(last.subject, self.entry(last.subject))
            before = None if last.before is None else self._said[last.before].judgement
            judgement = None if before is None else asdict(before)
            line = {"subject": last.subject, "judgement": judgement, "by": by, "undo": max(mine)}
            self._append(file, line)
            return last.subject

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold off every writer, this one up to date, while the body runs."""
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.refresh()
            yield

    @contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        """Hold the log alone, up to date and with a whole last line."""
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                new = not self.path.exists()
                with self.path.open("a+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    if new:
                        _sync_folder(self.path.parent)
                    if self.closed is not None and self.closed.exists():
                        raise Closed
                    self._take_in(file)
                    file.truncate(self._read_to)
                    yield file
            except OSError as error:
                raise SurveyError(
                    f"{self.path}: cannot be written ({error.strerror or error}); the verdict is "
                    "not saved"
                ) from error

    def _append(self, file: BinaryIO, line: dict[str, Any]) -> None:
        body = json.dumps(line | {"time": round(time.time(), 3)}, sort_keys=True).encode()
        file.seek(0, os.SEEK_END)
        file.write(b"%08x %s\n" % (zlib.crc32(body), body))
        file.flush()
        os.fsync(file.fileno())
        self._take_in(file)

    def _take_in(self, file: BinaryIO) -> None:
        file.seek(self._read_to)
        for line in file.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # torn: its writer was killed before it could say "saved"
            event = _parse(line)
            if event is None:
                raise Damaged(
                    f"{self.path}, line {self._lines + 1}: damaged; restore the file from a copy, "
                    "or delete this line to go on without it"
                )
            self._apply(event)
            self._lines += 1
            self._read_to += len(line)

    def _apply(self, event: dict[str, Any]) -> None:
        subject, version = str(event["subject"]), self.entry(str(event["subject"])).version + 1
        standing = self._standing.get(subject)
        # A line's number tells it from others; version 0.1.0 undid what stood of the subject.
        undone = event.get("undo", False)
        if undone is not False:
            line = standing if undone is True else int(undone)
            said = self._said.get(line) if line is not None else None
            if said is not None:
                said.is_undone = True
                standing = said.before if self._standing.get(subject) == line else standing
        else:
            raw = event["judgement"]
            judgement = None if raw is None else Judgement(**raw)
            by, at = str(event.get("by", "")), float(event["time"])
            self._said[self._lines] = _Said(subject, judgement, by, at, standing)
            standing = self._lines
        self._standing[subject] = standing
        last = None if standing is None else self._said[standing]
        self._entries[subject] = (
            Entry(version) if last is None else Entry(version, last.judgement, last.by, last.time)
        )


_NOTHING = Entry()


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, body = line.rstrip(b"\n").partition(b" ")
    try:
        if int(check, 16) != zlib.crc32(body):
            return None
        event = json.loads(body)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
