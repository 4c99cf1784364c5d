"""Consistency without truth: what should be alike, and how alike a model finds it.

Repeat observations of one object should be of one class; the entropy of the classes that they are
given measures a classifier where nobody knows the truth (Green et al. 2025, section 4.3). Here that
is exposures of one field and band, CCDs of one exposure, and the same CCDs by two models. A low
entropy is not yet a good one: what calls everything good is consistent. Compare models that find
about as much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import BadInput, NotFound
from lake.record import Record
from lake.store import Lake, identities
from queries.named import find_query, run_query

STAGE = "consistency"
_SUMMARY = Path(__file__).with_name("consistency_summary.sql")
BETWEEN = "between models"
#: What is compared -> the query that compares it.
_QUERIES = {
    "CCDs of an exposure": "consistency_exposures",
    "exposures of a field": "consistency_fields",
    BETWEEN: "consistency_models",
}
#: What is compared of one model.
_WITHIN = [what for what in _QUERIES if what != BETWEEN]
#: What is compared needs of a model -> the command that fills that table.
_NEEDED = {"predictions": "predict", "votes": "vote"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Consistency:
    """Entropies by what is compared, model and class, and the groups behind them.

    Attributes
    ----------
    summary : one row for each of these: n groups, alike (share of them with one class), mean,
        median, p90, max of the entropy, bits. Class ``all`` is over all classes; the class of a
        group is that of most of it.
    groups : by what is compared and model, the rows of its query, the least consistent first.
    """

    summary: pa.Table
    groups: dict[tuple[str, str], pa.Table]


def consistency(
    lake: Lake,
    model: str,
    other: str | None = None,
    radius: float = 1.0,
    progress: Progress | None = None,
) -> Consistency:
    """Write ``consistency``: how consistently a model classifies, beside `other` where given.

    What stands in the lake for the same inputs and settings is kept.

    Parameters
    ----------
    radius : exposures point to one field within this of its first, arcmin.

    Raises
    ------
    SurveyError : a radius that is no distance, or a model that has neither predicted nor voted.
    """
    if not 0.01 <= radius <= 60:
        raise BadInput(f"--radius {radius}: give arcminutes from 0.01 to 60")
    if other == model:
        raise BadInput(f"--other {other}: name another model than --model")
    models = [model] if other is None else [model, other]
    for name in models:
        for needed, command in _NEEDED.items():
            if not lake.partitions(needed, model=name):
                raise NotFound(
                    f"model {name!r} has no {needed} in the lake; run `survey-qa {command} "
                    f"--model {name}`"
                )
    groups: dict[tuple[str, str], pa.Table] = {}
    for done, name in enumerate(models, start=1):
        rows = _compared(lake, name, name, radius)
        for what in _WITHIN:
            groups[what, name] = _of_query(lake, rows, what)
        if progress is not None:
            progress(done, len(models))
    if other is not None:
        rows = _compared(lake, model, other, radius)
        groups[BETWEEN, f"{model}, {other}"] = _of_query(lake, rows, BETWEEN)
    return Consistency(
        pa.concat_tables(_summary(*key, rows) for key, rows in groups.items()), groups
    )


def _compared(lake: Lake, model: str, other: str, radius: float) -> pa.Table:
    """Return the partition of a model beside another, or itself, made anew where out of date."""
    votes = lake.partitions("votes", model=model)
    inputs = identities([*votes, *lake.partitions("predictions", model=model)])
    inputs |= lake.same_nights("exposures", votes)
    parameters: dict[str, dict[str, Any]] = {
        "CCDs of an exposure": {"model": model},
        "exposures of a field": {"model": model, "radius": radius},
    }
    settings: dict[str, Any] = {"radius": radius}
    if other != model:
        inputs |= identities(lake.partitions("predictions", model=other))
        parameters, settings = {BETWEEN: {"model": model, "other": other}}, {}
    record, keys = Record(STAGE, settings, inputs), {"model": model, "other": other}
    if not lake.is_current("consistency", keys, record):
        parts = []
        for what, asked in parameters.items():
            rows = run_query(lake, _QUERIES[what], asked)
            compared = pa.array([what] * rows.num_rows, pa.string())
            parts.append(rows.append_column("compared", compared))
        lake.write("consistency", keys, pa.concat_tables(parts, promote_options="default"), record)
    return lake.read("consistency", keys)


def _of_query(lake: Lake, rows: pa.Table, what: str) -> pa.Table:
    """Return those of `rows` that the query of `what` gave, in its columns and its order."""
    query = find_query(lake, _QUERIES[what])
    mine = rows.filter(pc.equal(rows["compared"], what))
    mine = mine.select([column.name for column in query.columns])
    return mine.sort_by([("entropy", "descending"), *((key, "ascending") for key in query.key)])


def _summary(what: str, model: str, rows: pa.Table) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("groups", rows)
        found = connection.sql(_SUMMARY.read_text(encoding="utf-8")).to_arrow_table()
    n = found.num_rows
    found = found.add_column(0, "model", pa.array([model] * n, pa.string()))
    return found.add_column(0, "compared", pa.array([what] * n, pa.string()))
