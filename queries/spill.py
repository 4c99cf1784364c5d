"""Folders for what queries cannot hold in memory: one a process, which goes with it."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lake.errors import SurveyError
from lake.paths import host_name, is_gone

#: A folder says on which host it was made, by which process.
_NAME = re.compile(r"survey-qa-(?P<host>[^.]+)\.(?P<pid>\d+)\.[^.]+")


@functools.cache
def spill_folder() -> Path:
    """Return this process's folder for what does not fit in memory; it goes when it exits.

    Those of processes that were killed go first: a killed query may leave as much as the disk had.

    Raises `SurveyError` when there is no room for a folder.
    """
    try:
        remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=f"survey-qa-{host_name()}.{os.getpid()}."))
    except OSError as error:
        raise SurveyError(
            f"no folder for what does not fit in memory: {error.strerror or error}; name one that "
            "can be written by TMPDIR"
        ) from error
    # Open and locked as long as the process lives, even where process numbers tell nothing, as
    # those of another container.
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks: the number has to do
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    atexit.register(_remove, folder, os.getpid())
    return folder


def remove_abandoned() -> int:
    """Remove the folders of this user's processes of this host that are gone; return how many."""
    removed = 0
    for folder in _folders():
        match = _NAME.fullmatch(folder.name)
        if match is None or match["host"] != host_name() or not is_gone(int(match["pid"])):
            continue
        with _unlocked(folder) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed


def _folders() -> Iterator[Path]:
    for folder in Path(tempfile.gettempdir()).glob("survey-qa-*"):
        with contextlib.suppress(OSError):  # it may just have gone
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                yield folder


@contextlib.contextmanager
def _unlocked(folder: Path) -> Iterator[bool]:
    """Tell whether no process has a folder open."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
