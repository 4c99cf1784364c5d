"""The change to a bad-exposure list, as a unified diff that touches nothing else.

People append to the list under a ``#`` heading that says where the additions come from, and take
an exposure off it by commenting its line out; so does this.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from badlist.format import BadList, Key, ListLine, format_key, parse_key
from lake.cameras import ccd_number
from lake.errors import BadInput, NotFound

#: Unchanged lines shown around a change.
CONTEXT = 3
_NO_NEWLINE = b"\n\\ No newline at end of file\n"


@dataclass(frozen=True)
class Addition:
    """An exposure (`ccdname` None) or CCD that belongs on the list, and why."""

    expnum: int
    ccdname: str | None
    reason: str = ""

    @property
    def key(self) -> Key:
        """The key of its line."""
        return self.expnum, self.ccdname


@dataclass
class ListDiff:
    """A change to a list.

    Attributes
    ----------
    patch : unified diff; empty when there is nothing to change.
    content : the list after the change.
    added : what the diff adds, as listed.
    already_listed : additions that the list has already, itself or by the whole exposure.
    retracted : keys that the diff comments out.
    already_retracted : keys to retract that the list has commented out already.
    readded : additions that the list has commented out: somebody once took them off.
    """

    patch: bytes
    content: bytes
    added: list[Addition]
    already_listed: list[Addition]
    retracted: list[Key] = field(default_factory=list)
    already_retracted: list[Key] = field(default_factory=list)
    readded: list[Addition] = field(default_factory=list)


def make_diff(
    bad_list: BadList,
    filename: str | Path,
    additions: Iterable[Addition],
    retractions: Sequence[str] = (),
    good: Collection[Key] = (),
    heading: str | None = None,
    origin: str = "",
    camera: str = "decam",
    today: datetime.date | None = None,
) -> ListDiff:
    """Return the change that adds and retracts keys.

    Parameters
    ----------
    bad_list : the list as it is.
    filename : of the list; see `patch_name`.
    additions : what belongs on the list; what it has already (by legacypipe's keys) is left out,
        and so is a CCD whose exposure is listed whole. A key that is also retracted is not added.
    retractions : ``EXPNUM`` (every line of the exposure, its CCDs' included) or ``EXPNUM-CCDNAME``.
    good : keys whose own lines are retracted where the list has them.
    heading : of the additions (of the retractions, where nothing is added), without ``#``.
    origin : where the additions come from, for the default heading: ``<date> <origin>``.
    camera : decides the order of CCDs.
    today : date of the default heading.

    Raises
    ------
    SurveyError : a retraction that is no key, or that the list has not.
    """
    date = (today or datetime.date.today()).isoformat()
    commented = _commented_keys(bad_list)
    doomed, retracted, already_retracted = _find_retractions(bad_list, retractions, commented)
    for line in bad_list.entries:
        if line.key is not None and line.key in good and line.number not in doomed:
            doomed.add(line.number)
            retracted.append(line.key)
    retracted = list(dict.fromkeys(retracted))
    remaining = {
        line.key for line in bad_list.entries if line.key is not None and line.number not in doomed
    }
    added, already = _select(additions, remaining, {*retracted, *already_retracted}, camera)
    newline = bad_list.newline
    note = heading if heading is not None and not added else f"{date} retracted"
    title = heading if heading is not None else f"{date} {origin}".rstrip()
    old, new = _edited(bad_list, doomed, _comment(note, newline))
    if added:
        new[-1:] = _ended(new[-1:], newline)
        tail = [] if _ends_blank(bad_list) else [newline]
        tail.append(_comment(title, newline))
        tail += [_entry(addition, newline) for addition in added]
        new.append("".join(tail))
    encoded_old = [text.encode(bad_list.encoding) for text in old]
    encoded_new = [text.encode(bad_list.encoding, "backslashreplace") for text in new]
    return ListDiff(
        unified_diff(_chunks(encoded_old, encoded_new), patch_name(filename)),
        b"".join(encoded_new),
        added,
        already,
        retracted,
        already_retracted,
        [addition for addition in added if addition.key in commented],
    )


def patch_name(path: str | Path) -> str:
    """Return the name of a list as a patch's header gives it: ``./`` and the path as given.

    ``git apply`` strips one leading folder of a name and ``patch -p0`` none: ``./`` suits both.
    Both refuse a path that leaves the folder they run in, so that of such a path only the file's
    name is kept, for a run in the list's own folder.
    """
    relative = os.path.normpath(path)
    if Path(relative).is_absolute():
        relative = os.path.relpath(relative)
    if relative.startswith(".."):
        relative = Path(relative).name
    if any(not character.isprintable() for character in relative):
        raise BadInput(f"{relative!r}: a patch cannot name a file with control characters")
    return f"./{Path(relative).as_posix()}"


def unified_diff(chunks: Sequence[tuple[bytes, bytes]], name: str) -> bytes:
    r"""Return the unified diff of two files given in aligned pieces, empty when they are equal.

    Parameters
    ----------
    chunks : pairs (old, new) of pieces whose concatenations are the two files; each piece but the
        last of a file ends with a line end. Lines end at ``\n`` alone, as for diff and patch.
    name : the file's name in the header.
    """
    lines = list(_marked_lines(chunks))
    changed = [index for index, (mark, _) in enumerate(lines) if mark != b" "]
    if not changed:
        return b""
    # As GNU diff does: without the tab a name with spaces would end at the first one.
    end = b"\t\n" if " " in name else b"\n"
    patch = [prefix + os.fsencode(name) + end for prefix in (b"--- ", b"+++ ")]
    spans: list[list[int]] = []
    for index in changed:
        if spans and index - CONTEXT <= spans[-1][1] + CONTEXT:
            spans[-1][1] = index + 1
        else:
            spans.append([index, index + 1])
    old_line = new_line = done = 0
    for first, last in spans:
        first, last = max(first - CONTEXT, 0), min(last + CONTEXT, len(lines))
        old_line += sum(mark != b"+" for mark, _ in lines[done:first])
        new_line += sum(mark != b"-" for mark, _ in lines[done:first])
        hunk = lines[first:last]
        n_old = sum(mark != b"+" for mark, _ in hunk)
        n_new = sum(mark != b"-" for mark, _ in hunk)
        patch.append(f"@@ -{_range(old_line, n_old)} +{_range(new_line, n_new)} @@\n".encode())
        for mark, line in hunk:
            patch.append(mark + (line if line.endswith(b"\n") else line + _NO_NEWLINE))
        old_line, new_line, done = old_line + n_old, new_line + n_new, last
    return b"".join(patch)


def _marked_lines(chunks: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for old, new in chunks:
        if old == new:
            yield from ((b" ", line) for line in _split(old))
        else:
            yield from ((b"-", line) for line in _split(old))
            yield from ((b"+", line) for line in _split(new))


def _split(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    if lines[-1] == b"\n":
        return lines[:-1]
    return [*lines[:-1], lines[-1][:-1]]


def _range(before: int, count: int) -> str:
    # A range of no lines names the line it follows, others the first of their own.
    return f"{before if count == 0 else before + 1},{count}"


def _chunks(old: list[bytes], new: list[bytes]) -> list[tuple[bytes, bytes]]:
    r"""Return the aligned pieces of both files, joined where a piece ends inside a line of diff.

    legacypipe also ends lines at a bare ``\r``, diff does not: such lines belong to one piece.
    """
    pairs = list(zip(old, new[: len(old)], strict=True))
    pairs += [(b"", text) for text in new[len(old) :]]
    merged: list[tuple[list[bytes], list[bytes]]] = []
    open_piece = False
    for was, becomes in pairs:
        if open_piece:
            merged[-1][0].append(was)
            merged[-1][1].append(becomes)
        else:
            merged.append(([was], [becomes]))
        open_piece = bool(was) and not was.endswith(b"\n")
    return [(b"".join(was), b"".join(becomes)) for was, becomes in merged]


def _select(
    additions: Iterable[Addition], listed: set[Key], retracted: set[Key], camera: str
) -> tuple[list[Addition], list[Addition]]:
    """Return the additions that the list lacks, sorted, and those that it has."""
    wanted: dict[Key, Addition] = {}
    for addition in additions:
        wanted.setdefault(addition.key, addition)
    added, already = [], []
    for key, addition in wanted.items():
        whole = (addition.expnum, None)
        if key in retracted or whole in retracted:
            continue
        if key in listed or whole in listed:
            already.append(addition)
        elif addition.ccdname is None or whole not in wanted:
            added.append(addition)

    def order(addition: Addition) -> tuple[int, int, str]:
        if addition.ccdname is None:
            return addition.expnum, -1, ""
        number = ccd_number(camera, addition.ccdname)
        return addition.expnum, 1 << 15 if number is None else number, addition.ccdname

    return sorted(added, key=order), sorted(already, key=order)


def _find_retractions(
    bad_list: BadList, retractions: Sequence[str], commented: set[Key]
) -> tuple[set[int], list[Key], list[Key]]:
    """Return the numbers of the lines to comment out, the keys retracted, and those before."""
    by_expnum: dict[int, list[ListLine]] = {}
    for line in bad_list.entries:
        if line.key is not None:
            by_expnum.setdefault(line.key[0], []).append(line)
    doomed: set[int] = set()
    retracted: dict[Key, None] = {}
    already: list[Key] = []
    for text in dict.fromkeys(word.strip() for word in retractions):
        key, why = parse_key(text)
        if key is None or len(text.split()) != 1:
            raise BadInput(
                f"--retract {text!r}: {why or 'one key at a time'}; name EXPNUM or EXPNUM-CCDNAME"
            )
        lines = [line for line in by_expnum.get(key[0], []) if key[1] is None or line.key == key]
        if lines:
            doomed.update(line.number for line in lines)
            retracted.update(dict.fromkeys(line.key for line in lines if line.key is not None))
        elif key in commented:
            already.append(key)
        else:
            whole = by_expnum.get(key[0], [])
            hint = (
                f"; the exposure has line {whole[0].number} ({format_key(whole[0].key)})"
                if whole and whole[0].key
                else ""
            )
            raise NotFound(f"--retract {text}: the list has no such entry{hint}")
    return doomed, list(retracted), already


def _commented_keys(bad_list: BadList) -> set[Key]:
    """Return the keys of entries that somebody commented out."""
    keys = set()
    for line in bad_list.lines:
        if line.kind == "comment":
            words = line.text.lstrip("#").split()
            key = parse_key(words[0])[0] if words else None
            if key is not None:
                keys.add(key)
    return keys


def _edited(bad_list: BadList, doomed: set[int], note: str) -> tuple[list[str], list[str]]:
    """Return all lines as they are and as they become, retracted ones commented out under `note`.

    Neighbouring lines share one note.
    """
    old = [line.text for line in bad_list.lines]
    new = list(old)
    for number in doomed:
        above = "" if number - 1 in doomed else note
        new[number - 1] = f"{above}# {old[number - 1].lstrip()}"
    return old, new


def _comment(text: str, newline: str) -> str:
    return "".join(f"# {line.strip()}".rstrip() + newline for line in text.splitlines() or [""])


def _entry(addition: Addition, newline: str) -> str:
    return " ".join([format_key(addition.key), *addition.reason.split()]) + newline


def _ended(last: list[str], newline: str) -> list[str]:
    return [text if text.endswith(("\n", "\r")) else text + newline for text in last]


def _ends_blank(bad_list: BadList) -> bool:
    return not bad_list.lines or bad_list.lines[-1].kind == "blank"
