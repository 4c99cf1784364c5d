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

from lake.errors import SurveyError

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

_TEMPORARY = re.compile(r"^\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]+\.tmp$")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


def check_name(kind: str, name: str) -> str:
    """Return `name` when it can stand in a path and in a command, else raise `SurveyError`."""
    if not _NAME.fullmatch(name):
        raise SurveyError(
            f"{kind} {name!r}: use letters, digits, '.', '_', '+' and '-', beginning with a letter "
            "or digit, at most 100 of them"
        )
    return name


def partition_path(table: str, names: Sequence[str], keys: Mapping[str, str]) -> PurePosixPath:
    """Return ``table/name=value/…`` for the partition `keys`, in the order of `names`."""
    return PurePosixPath(table, *(f"{name}={quote(str(keys[name]), safe='')}" for name in names))


def partition_keys(path: PurePosixPath | Path) -> dict[str, str]:
    """Return the key=value folders of `path`: the inverse of `partition_path`."""
    pairs = (part.split("=", 1) for part in path.parts if "=" in part)
    return {name: unquote(value) for name, value in pairs}


def temporary_path(final: Path) -> Path:
    """Return a name beside `final` that readers ignore and that names its writer."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", os.uname().nodename)[:64] or "host"
    return final.with_name(f".{final.name}.{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def is_abandoned(path: Path) -> bool:
    """Tell whether `path` is a half-written file of a process of this host that is gone."""
    match = _TEMPORARY.match(path.name)
    host = re.sub(r"[^A-Za-z0-9_-]", "-", os.uname().nodename)[:64] or "host"
    if match is None or match["host"] != host:
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
