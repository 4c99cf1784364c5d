"""Which edition of a list counts: a list is known by what it says, not by its file's name.

Nothing here reads a file or writes to the lake. An edition never goes: a later one takes its place
only where it has nearly all that the earlier one said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

#: Share of its keys that an edition may lack of the one before it.
MOST_LOST = 0.1
#: Entries from which on a list of another name may be told to be an edition by them alone.
_ENOUGH = 10

#: What a line is about: exposure number, CCD, and who says so.
Key = tuple[int, str | None, str | None]
#: A line: what it is about, and its words.
Line = tuple[Key, str]


@dataclass(frozen=True)
class Edition:
    """An edition of a list in ``reports``.

    Attributes
    ----------
    id : hash of the content.
    file, round, camera : what it was called, and whose exposures it names.
    place : where it lay; empty where that is not known, or was no plain file.
    form : the source whose form and words it has.
    lines, entries, comments, blank, headers, n_skipped, reports : an account of its lines.
    is_current : whether it counts.
    """

    id: str
    file: str
    round: str
    camera: str
    place: str = ""
    form: str = ""
    lines: int = 0
    entries: int = 0
    comments: int = 0
    blank: int = 0
    headers: int = 0
    n_skipped: int = 0
    reports: int = 0
    is_current: bool = True

    def to_note(self) -> dict[str, Any]:
        """Return what the record of ``reports`` keeps: the arguments of an edition."""
        return asdict(self)


#: ``same``: it is there and counts; ``added``: a list of its own; ``later``: it takes the place of
#: another; ``earlier``: it was there before and another took its place; ``shorter``: it lacks more
#: than `MOST_LOST` of the one that counts. The last two are kept, and count only when pruned.
Outcome = Literal["same", "added", "later", "earlier", "shorter"]


@dataclass(frozen=True)
class Placing:
    """What becomes of an edition: `n_lost` of the `n_before` keys of `before` are not in it."""

    outcome: Outcome
    before: str | None = None
    n_lost: int = 0
    n_before: int = 0

    @property
    def counts(self) -> bool:
        """Whether it counts without being told to."""
        return self.outcome in ("same", "added", "later")


@dataclass
class Editions:
    """The editions of a source, in the order in which they came, and the lines of current ones."""

    known: dict[str, Edition] = field(default_factory=dict)
    lines: dict[str, Set[Line]] = field(default_factory=dict)

    def place(self, edition: Edition, lines: Collection[Line], is_named: bool) -> Placing:
        """Return what becomes of an edition; `is_named`: a person has named its round."""
        there = self.known.get(edition.id)
        if there is not None and (not is_named or there.round == edition.round):
            return self._again(there, set(lines))
        before = self._before(edition, set(lines), is_named)
        if before is None:
            return Placing("added")
        keys, now = {key for key, _ in self.lines[before.id]}, {key for key, _ in lines}
        n_lost = len(keys - now)
        outcome: Outcome = "shorter" if n_lost > MOST_LOST * len(keys) else "later"
        return Placing(outcome, before.id, n_lost, len(keys))

    def take(self, edition: Edition, lines: Iterable[Line], placing: Placing, prune: bool) -> None:
        """Take in an edition as it was placed; with `prune` it counts in any case."""
        counts = placing.counts or prune
        if counts and placing.before is not None:
            before = self.known[placing.before]
            self.known[placing.before] = replace(before, is_current=False)
        # The last to come stands last.
        self.known.pop(edition.id, None)
        self.known[edition.id] = replace(edition, is_current=counts)
        self.lines[edition.id] = set(lines)

    def _again(self, there: Edition, lines: Set[Line]) -> Placing:
        """Return what becomes of an edition that is there already."""
        if there.is_current:
            return Placing("same")
        others = self._current(there)
        same = [e for e in others if _is_same_file(e, there)]
        before = max(same or others, key=lambda e: self._shared(e, lines), default=None)
        if before is None:
            return Placing("later")
        keys = {key for key, _ in self.lines[before.id]}
        n_lost = len(keys - {key for key, _ in lines})
        return Placing("earlier", before.id, n_lost, len(keys))

    def _before(self, edition: Edition, lines: Set[Line], is_named: bool) -> Edition | None:
        """Return the edition that counts now of the list that `edition` is one of."""
        others = self._current(edition)
        if is_named:
            others = [e for e in others if e.round == edition.round]
        same = [e for e in others if _is_same_file(e, edition)]
        if same:
            return max(same, key=lambda e: self._shared(e, lines))
        # What says nothing that a list of the same name elsewhere does not say is a part of it.
        parts = [e for e in others if e.file == edition.file and lines <= self.lines[e.id]]
        if (lines and parts) or len(parts) == 1:
            return max(parts, key=lambda e: -len(self.lines[e.id]))
        # Another name or folder: only what has nearly all of its lines is an edition of it, so
        # that two lists which have some lines in common both count.
        containing = [
            e
            for e in others
            if self.lines[e.id]
            and self._shared(e, lines) >= (1 - MOST_LOST) * len(self.lines[e.id])
            and (e.file == edition.file or len(self.lines[e.id]) >= _ENOUGH)
        ]
        return max(containing, key=lambda e: len(self.lines[e.id]), default=None)

    def _current(self, edition: Edition) -> Sequence[Edition]:
        return [
            e
            for e in self.known.values()
            if e.is_current and e.camera == edition.camera and e.form == edition.form
        ]

    def _shared(self, edition: Edition, lines: Set[Line]) -> int:
        return len(self.lines[edition.id] & lines)


def _is_same_file(one: Edition, other: Edition) -> bool:
    """Tell whether two editions were read from one place, as far as that is known."""
    if one.place and other.place:
        return one.place == other.place
    return (one.file, one.round) == (other.file, other.round)
