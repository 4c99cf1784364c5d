"""The command as a person runs it, within this process: what it says and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.main import app, run


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, standard output and standard error."""

    code: int
    out: str
    err: str


def survey_qa(lake: Path, *words: object) -> Ended:
    """Run a command on a lake; what would be an internal error is one here too."""
    arguments = ["--lake", str(lake), *map(str, words)]
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run(lambda: app(arguments, prog_name="survey-qa"), verbose=False)
        except SystemExit as ending:  # click ends so, whatever the status
            code = ending.code if isinstance(ending.code, int) else 0
    out.flush()
    text = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "internal error" not in err.getvalue(), err.getvalue()
    return Ended(code, text, err.getvalue())


def done(lake: Path, *words: object) -> Ended:
    """Run a command that must succeed."""
    ended = survey_qa(lake, *words)
    assert ended.code == 0, ended.err
    return ended


def rows(lake: Path, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a select."""
    found: list[dict[str, Any]] = json.loads(done(lake, "sql", sql, "--format", "json").out)
    return found


def count(lake: Path, table: str, where: str = "true") -> int:
    """Return how many rows of a table there are."""
    return int(rows(lake, f"select count(*) as n from {table} where {where}")[0]["n"])


def vectors(lake: Path, embedder: str = "statistics") -> dict[tuple[int, int], tuple[float, ...]]:
    """Return the vectors of an embedder by key."""
    columns = "expnum, ccdnum, embedding"
    found = rows(lake, f"select {columns} from embeddings where embedder = '{embedder}'")
    return {(row["expnum"], row["ccdnum"]): tuple(row["embedding"]) for row in found}


@contextlib.contextmanager
def exits_with(status: int, ended: Ended) -> Iterator[str]:
    """Give the one line that a command ended with."""
    assert ended.code == status, (ended.code, ended.err)
    [line] = [line for line in ended.err.splitlines() if line.startswith("survey-qa: ")]
    yield line
