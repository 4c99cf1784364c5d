"""Every name on disk: pure functions between a partition's key and its path.

The layout is Hive's (``table/key=value/…/part-0.parquet``), so that any engine that reads Parquet
reads the lake without this program. Names that begin with ``.`` or ``_`` are invisible to such
readers; half-written files carry one.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from lake.errors import BadInput

#: Where a lake lies when nobody says otherwise.
DEFAULT_LAKE = "survey.lake"
#: Environment variable that names the lake.
LAKE_VARIABLE = "SURVEY_QA_LAKE"
#: File of a partition, unless its table keeps one file per writer.
PART = "part-0"
SUFFIX = ".parquet"
#: Folder of what runs remember, and of locks; readers ignore it, and nothing is lost with it.
STATE = ".state"
#: Folder of vectors that wait until they are as many as those whose place they take.
PENDING = "pending"
#: Folder of the trained models.
MODELS = "models"
MODEL_FILE = "model.skops"
MODEL_CARD = "model.json"

#: Characters of a name, at most: with its key before it and a writer's mark behind it, it must
#: stay below the 255 bytes that a file system takes.
LONGEST_NAME = 128
#: Bytes of a file's own name that the name of its half-written version repeats.
_REPEATED = 120

_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]+\.tmp", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def check_name(kind: str, name: str) -> str:
    """Return `name` when it can stand in a path and in a command, else raise `SurveyError`."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{kind} {shortened(name)!r}: use letters, digits, '.', '_', '+' and '-', beginning "
            "with a letter or digit"
        )
    if len(name) > LONGEST_NAME:
        raise BadInput(
            f"{kind} {shortened(name)!r} has {len(name)} characters; use {LONGEST_NAME} at most"
        )
    return name


def shortened(name: str, length: int = 60) -> str:
    """Return `name`, or its beginning where it is long, to stand in a sentence."""
    return name if len(name) <= length else name[: length - 1] + "…"


def partition_path(table: str, names: Sequence[str], keys: Mapping[str, str]) -> PurePosixPath:
    """Return ``table/name=value/…`` for the partition `keys`, in the order of `names`."""
    return PurePosixPath(table, *(f"{name}={quote(str(keys[name]), safe='')}" for name in names))


def partition_keys(path: PurePosixPath | Path) -> dict[str, str]:
    """Return the key=value folders of `path`: the inverse of `partition_path`."""
    pairs = (part.split("=", 1) for part in path.parts if "=" in part)
    return {name: unquote(value) for name, value in pairs}


def temporary_path(final: Path) -> Path:
    """Return a name beside `final` that readers ignore and that names its writer."""
    mark = f"{host_name()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    return final.with_name(f".{_repeated(final)}.{mark}.tmp")


def is_version_of(path: Path, final: Path) -> bool:
    """Tell whether the half-written file `path` was to become `final`."""
    return path.name.startswith(f".{_repeated(final)}.")


def _repeated(final: Path) -> str:
    """Return the name of `final`, in part where it has as many bytes as a file system takes."""
    return final.name.encode(errors="surrogateescape")[:_REPEATED].decode(errors="ignore")


def is_abandoned(path: Path) -> bool:
    """Tell whether `path` is a half-written file of a process of this host that is gone."""
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and match["host"] == host_name() and is_gone(int(match["pid"]))


def host_name() -> str:
    """Return the name of this machine as it stands in names of files."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", os.uname().nodename)[:64] or "host"


def is_gone(pid: int) -> bool:
    """Tell whether this host has no process of the number `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
