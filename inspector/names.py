"""Whose an inspector's name is: it belongs to who first signs in with it.

A name that is taken is a file in a folder of the lake that readers of Parquet ignore. It holds the
owner's id, which every session of theirs names, and hashes: of the browsers that they have signed
in from, and of the token that lets them in from another one. Names hold across the rounds of a
lake. Freeing a name removes its file, and with it every session of its owner.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lake import paths
from lake.errors import BadInput, NotFound, SurveyError
from lake.store import hold, write_atomically

#: Folder of the names in a lake.
NAMES = ".inspection-names"
#: Characters that a name may have.
MAX_LENGTH = 64
#: Browsers of one owner that are remembered: the latest; from others the token is asked again.
MAX_BROWSERS = 50
#: Names that nobody can have, case-folded. A name stands beside verdicts, rules, filters and column
#: names (``merged`` in reports, ``ML_reason`` in an inspection CSV) and would be read as one.
RESERVED = frozenset(
    {
        *("merged", "merger", "settled", "settlement", "settlements", "outcome", "outcomes"),
        *("any", "majority", "all", "quasar"),  # rules of a merge
        *("good", "bad", "unsure", "open", "closed", "true", "false", "yes", "no", "maybe"),
        *("none", "null", "nan", "na", "nobody", "anybody", "everybody", "anonymous", "unknown"),
        *("ml", "model", "expnum", "ccdname", "camera", "inspector", "inspectors", "inspection"),
        *("survey-qa", "survey_qa", "surveyqa", "system", "admin", "root"),
    }
)


class Taken(SurveyError):  # noqa: N818
    """The name belongs to somebody else."""


@dataclass(frozen=True)
class Owner:
    """Who has a name.

    Attributes
    ----------
    name : as they spell it.
    id : random, of this claim: whoever claims the name after it was freed has another.
    token : hash of the owner's token.
    browsers : hashes of what the owner's browsers keep, the latest last.
    """

    name: str
    id: str
    token: str
    browsers: tuple[str, ...]

    def has_token(self, token: str) -> bool:
        """Tell whether `token` is the owner's, however its case and hyphens were typed."""
        return hmac.compare_digest(token_hash(token), self.token)

    def knows(self, browser: str) -> bool:
        """Tell whether the owner has signed in from the browser that keeps `browser`."""
        return any(hmac.compare_digest(_hash(browser), known) for known in self.browsers)


def check_inspector(name: str) -> str:
    """Return `name` when an inspector can have it, else raise `SurveyError`."""
    paths.check_name("inspector", name)
    if len(name) > MAX_LENGTH:
        raise BadInput(f"inspector: a name of at most {MAX_LENGTH} characters")
    if name.casefold() in RESERVED:
        raise BadInput(f"inspector {name!r}: the word has a meaning of its own; take another")
    return name


def token_hash(token: str) -> str:
    """Return what the lake keeps of an owner's token.

    One round of SHA-256: the token is random and long, so that no list of guesses reaches it.
    """
    return _hash("".join(token.split()).replace("-", "").casefold())


class Names:
    """The names of a lake; safe to share between threads and processes.

    Parameters
    ----------
    root : folder of the lake.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / NAMES

    def check(self) -> None:
        """Raise `SurveyError` where the lake cannot be written: nobody could sign in."""
        with self._held():
            pass

    def find(self, name: str) -> Owner | None:
        """Return who has `name`, in whatever case; None when nobody has.

        Raises `SurveyError` when the name's file is damaged or cannot be read.
        """
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(name, f"cannot be read ({error.strerror})") from error
        owner = _parse(content)
        if owner is None or owner.name.casefold() != name.casefold():
            raise self._unusable(name, "is damaged")
        return owner

    def claim(self, name: str, owner: str, token: str, browser: str) -> Owner:
        """Give `name` to a new owner where it is free; return who has it now.

        Of several who claim a name at once, in whatever processes, exactly one gets it. It is on
        disk when this returns.

        Parameters
        ----------
        owner : id of the new owner.
        token, browser : by which the new owner is known later.

        Raises
        ------
        Taken : verdicts of the lake are under a name that differs from this one in case alone.
        SurveyError : as `find`, or when the lake cannot be written.
        """
        check_inspector(name)
        with self._held():
            found = self.find(name)
            if found is not None:
                return found
            self._check_spelling(name)
            made = Owner(name, owner, token_hash(token), (_hash(browser),))
            try:
                _create(self._path(name), _format(made))
            except OSError as error:
                raise self._unusable(name, f"cannot be written ({error.strerror})") from error
        return made

    def admit(self, owner: Owner, browser: str) -> Owner:
        """Remember a further browser of an owner; nothing happens when they have lost the name.

        Raises `SurveyError` as `claim`.
        """
        with self._held():
            found = self.find(owner.name)
            if found is None or found.id != owner.id:
                return owner
            browsers = (*found.browsers, _hash(browser))[-MAX_BROWSERS:]
            admitted = replace(found, browsers=browsers)
            write_atomically(self._path(owner.name), lambda path: _create(path, _format(admitted)))
        return admitted

    def release(self, name: str) -> str:
        """Free a name and return it as its owner spelled it.

        Sessions of the owner are void from now on; a damaged file is removed as well.

        Raises `SurveyError` when nobody has the name, or it cannot be removed.
        """
        paths.check_name("inspector", name)
        taken = sorted(path.stem for path in self.folder.glob("*.json"))
        if name.casefold() not in taken:
            raise NotFound(
                f"name {name}: nobody has it" + (f"; taken: {', '.join(taken)}" if taken else "")
            )
        with self._held():
            try:
                found = self.find(name)
            except SurveyError:
                found = None
            try:
                self._path(name).unlink(missing_ok=True)
                _sync(self.folder)
            except OSError as error:
                raise BadInput(
                    f"{self._path(name)}: cannot be removed ({error.strerror})"
                ) from error
        return name if found is None else found.name

    def _held(self) -> AbstractContextManager[None]:
        return hold(self.folder / ".lock")

    def _path(self, name: str) -> Path:
        # Folded: names that differ in case alone look the same to people, and to some disks.
        return self.folder / f"{name.casefold()}.json"

    def _check_spelling(self, name: str) -> None:
        """Raise `Taken` where the lake has verdicts of the name in another case, and none of it."""
        folders = self.root.glob("inspections/round=*/inspector=*")
        said = {paths.partition_keys(Path(folder.name))["inspector"] for folder in folders}
        others = sorted(each for each in said if each.casefold() == name.casefold())
        if others and name not in others:
            raise Taken(f"the lake has verdicts of {others[0]}: sign in under that spelling")

    def _unusable(self, name: str, what: str) -> SurveyError:
        return SurveyError(
            f"the file of the name {name} {what}; `survey-qa inspections release-name {name}` "
            "frees the name"
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _format(owner: Owner) -> bytes:
    return json.dumps(asdict(owner), sort_keys=True).encode() + b"\n"


def _parse(content: bytes) -> Owner | None:
    """Return the owner that a file tells of, None for a file that makes no sense."""
    try:
        raw = json.loads(content)
        owner = Owner(raw["name"], raw["id"], raw["token"], tuple(raw["browsers"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = (owner.name, owner.id, owner.token, *owner.browsers)
    usable = all(isinstance(text, str) and text.isascii() and text for text in texts)
    return owner if usable else None


def _create(path: Path, content: bytes) -> None:
    """Make a file that only its owner may read, whole on disk; raises where there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync(path.parent)
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
