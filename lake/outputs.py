"""Files and folders that a person named: written whole or not at all, and over nothing else.

What is written is first put beside its place under a hidden name, synced, and renamed over what
stood there, so that a full disk or a killed run leaves the old file or the new one, never half.
Nothing is written into a lake, nor over what the command reads.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lake import paths
from lake.errors import SurveyError

#: Names under which Linux has the open files of the process that asks.
_DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/(?:self|thread-self|\d+)/fd)/(\d+)")
#: Links that are followed from one name to the next, at most, as the kernel does.
_MOST_LINKS = 40


@dataclass(frozen=True)
class OutputFile:
    """A file that may be written, as `output_file` made it.

    Attributes
    ----------
    path : as the person named it.
    target : where it lies, links followed when it was checked.
    """

    path: Path
    target: Path

    @property
    def is_special(self) -> bool:
        """Whether it is a device, a pipe or an open file, which takes what comes as it comes."""
        return _descriptor(self.path) is not None or _is_special(self.target)

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file for writing; when the body fails, what stood there before still stands.

        Raises
        ------
        SurveyError : it cannot be written, or the disk is full.
        BrokenPipeError : it is a pipe whose reader has gone.
        """
        if self.is_special:
            with _one_line(self.path), _open_special(self.path) as file:
                yield file
        else:
            with _one_line(self.path), _replacing(self.target) as file:
                yield file


def output_file(
    path: Path, lake: Path | None = None, inputs: Sequence[Path | None] = ()
) -> OutputFile:
    """Return the file `path`, to be written as a whole.

    Parameters
    ----------
    lake : folder of the lake, into which nothing is written.
    inputs : files that the command reads, which are not written over, and folders that it reads,
        into which nothing is written.

    Raises
    ------
    SurveyError : the file lies where nothing is written, is a folder, its folder is missing, or
        either may not be written.
    """
    target = _resolved(path)
    output = OutputFile(path, target)
    _refuse_protected(path, target, lake, inputs)
    if target.is_dir():
        raise SurveyError(f"cannot write {path}: it is a folder; name a file")
    if output.is_special:
        return output
    if not target.parent.is_dir():
        raise SurveyError(f"cannot write {path}: there is no folder {path.parent}")
    for place in (target.parent, target):
        if place.exists() and not os.access(place, os.W_OK):
            raise SurveyError(f"cannot write {path}: {place} may not be written")
    return output


def output_folder(path: Path, lake: Path | None = None, inputs: Sequence[Path | None] = ()) -> Path:
    """Return the folder `path`, to be filled by `write_output`; it is made when that is called.

    Parameters and errors are those of `output_file`; raises `SurveyError` for a file, too.
    """
    target = _resolved(path)
    _refuse_protected(path, target, lake, inputs)
    if target.exists() and not target.is_dir():
        raise SurveyError(f"cannot write {path}: it is a file; name a folder")
    standing = next(place for place in (target, *target.parents) if place.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise SurveyError(f"cannot write {path}: {standing} may not be written")
    return path


def write_output(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a file of a folder of results, in place of a link that has its name.

    Raises `SurveyError` when it cannot be written; what stood there before then still stands.
    """
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as file:
            write(file)


def write_output_text(path: Path, text: str) -> None:
    """Put `text` into a file of a folder of results as UTF-8, as `write_output` does."""
    write_output(path, lambda file: file.write(text.encode()))


# What is not written ---------------------------------------------------------------------------


def _refuse_protected(
    path: Path, target: Path, lake: Path | None, inputs: Sequence[Path | None]
) -> None:
    if lake is not None and any(_is_within(target, folder) for folder in _folders_of(lake)):
        raise SurveyError(
            f"cannot write {path}: it lies in the lake {lake}, which only its own commands write; "
            "name another place"
        )
    for source in inputs:
        if source is None or not os.path.lexists(source):  # of which the command complains itself
            continue
        if _resolved(source) == target or _is_same(target, source):
            raise SurveyError(f"cannot write {path}: this command reads it; name another place")
        if source.is_dir() and _is_within(target, source):
            raise SurveyError(
                f"cannot write {path}: it lies in {source}, which this command reads; name another "
                "place"
            )


def _folders_of(lake: Path) -> Iterator[Path]:
    """Yield the lake's folder, and those of its tables that are links to elsewhere."""
    yield lake
    with contextlib.suppress(OSError), os.scandir(lake) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_symlink() and entry.is_dir())


def _is_within(target: Path, folder: Path) -> bool:
    """Tell whether `target` is `folder` or lies in it, by whatever names they are reached."""
    resolved = _resolved(folder)
    return any(place == resolved or _is_same(place, folder) for place in (target, *target.parents))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _resolved(path: Path) -> Path:
    """Return where `path` lies, links followed; raises `SurveyError` for one that cannot be."""
    try:
        target = path.resolve()
        target.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        shown = paths.shortened(str(path), 100)
        raise SurveyError(f"cannot write {shown}: {reason}; name another place") from error
    return target


# Writing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise SurveyError(
            f"cannot write {path}: {reason}; what stood there before is as it was"
        ) from error


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `target` when the body ends well."""
    temporary = paths.temporary_path(target)
    try:
        with temporary.open("xb") as file:
            _keep_mode(file.fileno(), target)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        # After a rename nothing has the name any more.
        temporary.unlink(missing_ok=True)
    for stray in target.parent.glob(".*.tmp"):
        if paths.is_version_of(stray, target) and paths.is_abandoned(stray):
            stray.unlink(missing_ok=True)


def _keep_mode(descriptor: int, target: Path) -> None:
    """Give a new file the owner and the permissions of the file whose place it takes."""
    with contextlib.suppress(OSError):  # it is new, or another's: then as the system makes it
        status = target.lstat()
        if stat.S_ISREG(status.st_mode):
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            os.fchown(descriptor, status.st_uid, status.st_gid)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot, and the file is in its place
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _open_special(path: Path) -> BinaryIO:
    number = _descriptor(path)
    # An open file goes on where it is; by its name it would begin anew, over what is in it.
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


def _is_special(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _descriptor(path: Path) -> int | None:
    """Return the open file of this process that `path` stands for (``/dev/stdout``), if any."""
    name = os.path.abspath(path)  # noqa: PTH100  pathlib's follows the links that tell
    for _ in range(_MOST_LINKS):
        if match := _DESCRIPTOR.fullmatch(name):
            return int(match[1])
        try:
            name = os.path.join(os.path.dirname(name), os.readlink(name))  # noqa: PTH115 PTH118 PTH120
        except (OSError, ValueError):
            return None
    return None
