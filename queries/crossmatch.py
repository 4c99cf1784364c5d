"""A model's votes beside legacypipe's cuts, for one release or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lake.errors import SurveyError
from lake.freshness import check_fresh
from lake.store import Lake
from queries.named import run_query

#: What is counted, in the order of the columns.
COUNTS = ("in_both", "only_ours", "only_theirs", "neither", "n_exposures")


def crossmatch(
    lake: Lake,
    model: str,
    releases: Sequence[str],
    min_fraction: float = 0.5,
    stale_ok: bool = False,
) -> pa.Table:
    """Return the counts of ``crossmatch.sql``: in all, by class of the vote, and by bit.

    With one release the columns are `part`, `name` and `COUNTS`; with several, each count is there
    for each release as ``<release> <count>``, in rows of the same `part` and `name`.

    Parameters
    ----------
    min_fraction : share of an exposure's CCDs that legacypipe cuts where it rejects the exposure.

    Raises
    ------
    SurveyError : no release, or a model that has not voted, or a release that is not in the lake;
        votes that are out of date, unless `stale_ok`.
    """
    releases = list(dict.fromkeys(releases))
    if not releases:
        raise SurveyError("name a release to compare the votes with")
    if not lake.partitions("votes", model=model):
        raise SurveyError(f"no votes of model {model!r} in {lake.root}; run `survey-qa vote` first")
    check_fresh(lake, "votes", stale_ok, model=model)
    rows = run_query(
        lake,
        "crossmatch",
        {"model": model, "releases": ",".join(releases), "min_fraction": min_fraction},
    )
    if len(releases) == 1:
        return rows.drop_columns(["release"])
    return _side_by_side(rows, releases)


def _side_by_side(rows: pa.Table, releases: Sequence[str]) -> pa.Table:
    names = [f"{release} {count}" for release in releases for count in COUNTS]
    # A release without a class or bit has none of it: its counts are 0.
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows.to_pylist():
        line = merged.setdefault((row["part"], row["name"]), dict.fromkeys(names, 0))
        line.update({f"{row['release']} {count}": row[count] for count in COUNTS})
    parts = {"all": 0, "class": 1, "bit": 2}
    ordered = sorted(merged.items(), key=lambda item: parts[item[0][0]])
    schema = pa.schema(
        [("part", pa.string()), ("name", pa.string()), *((name, pa.int64()) for name in names)]
    )
    return pa.Table.from_pylist(
        [{"part": part, "name": name, **line} for (part, name), line in ordered], schema=schema
    )
