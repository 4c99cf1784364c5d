"""A model's votes beside legacypipe's cuts, for one release or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lake.errors import BadInput, NotFound
from lake.freshness import check_fresh
from lake.record import Record
from lake.store import Lake, identities
from lake.vocabulary import Vocabulary
from queries.named import run_query

STAGE = "crossmatch"
#: What is counted, in the order of the columns.
COUNTS = ("in_both", "only_ours", "only_theirs", "neither", "n_exposures")


def crossmatch(
    lake: Lake,
    model: str,
    releases: Sequence[str],
    min_fraction: float = 0.5,
    stale_ok: bool = False,
) -> pa.Table:
    """Write ``crossmatches`` and return the counts: in all, by class of the vote, and by bit.

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
        raise BadInput("name a release to compare the votes with")
    if not lake.partitions("votes", model=model):
        raise NotFound(f"no votes of model {model!r} in {lake.root}; run `survey-qa vote` first")
    check_fresh(lake, "votes", stale_ok, model=model)
    counts = {release: _counted(lake, model, release, min_fraction) for release in releases}
    if len(releases) == 1:
        return counts[releases[0]]
    return _side_by_side(counts)


def _counted(lake: Lake, model: str, release: str, min_fraction: float) -> pa.Table:
    """Return the counts of a release as the lake has them, made anew where they are out of date."""
    votes = lake.partitions("votes", model=model)
    inputs = identities(votes)
    for name in ("exposures", "ccds"):
        inputs |= lake.same_nights(name, votes, release=release)
    # The rows are in the order of the vocabulary.
    classes = Vocabulary.of_lake(lake.root).classes
    record = Record(STAGE, {"min_fraction": min_fraction, "classes": classes}, inputs)
    keys = {"release": release, "model": model}
    if not lake.is_current("crossmatches", keys, record):
        asked = {"model": model, "releases": release, "min_fraction": min_fraction}
        rows = run_query(lake, "crossmatch", asked).drop_columns(["release"])
        rank = pa.array(range(rows.num_rows), pa.int32())
        lake.write("crossmatches", keys, rows.add_column(0, "rank", rank), record)
    return lake.read("crossmatches", keys).sort_by("rank").drop_columns(["rank"])


def _side_by_side(counts: Mapping[str, pa.Table]) -> pa.Table:
    releases = list(counts)
    names = [f"{release} {count}" for release in releases for count in COUNTS]
    # A release without a class or bit has none of it: its counts are 0.
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for release, rows in counts.items():
        for row in rows.to_pylist():
            line = merged.setdefault((row["part"], row["name"]), dict.fromkeys(names, 0))
            line.update({f"{release} {count}": row[count] for count in COUNTS})
    parts = {"all": 0, "class": 1, "bit": 2}
    ordered = sorted(merged.items(), key=lambda item: parts[item[0][0]])
    schema = pa.schema(
        [("part", pa.string()), ("name", pa.string()), *((name, pa.int64()) for name in names)]
    )
    return pa.Table.from_pylist(
        [{"part": part, "name": name, **line} for (part, name), line in ordered], schema=schema
    )
