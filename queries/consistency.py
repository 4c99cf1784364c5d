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

from lake.errors import SurveyError
from lake.store import Lake
from queries.named import run_query

_SUMMARY = Path(__file__).with_name("consistency_summary.sql")
#: What is compared -> the table that it needs of a model, the command that fills it, the query.
_COMPARED = {
    "CCDs of an exposure": ("predictions", "predict", "consistency_exposures"),
    "exposures of a field": ("votes", "vote", "consistency_fields"),
}
BETWEEN = "between models"

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
    """Measure how consistently a model classifies, beside `other` where one is given.

    Parameters
    ----------
    radius : exposures point to one field within this of its first, arcmin.

    Raises
    ------
    SurveyError : a radius that is no distance, or a model that has neither predicted nor voted.
    """
    if not 0.01 <= radius <= 60:
        raise SurveyError(f"--radius {radius}: give arcminutes from 0.01 to 60")
    models = [model] if other is None else [model, other]
    summaries: list[pa.Table] = []
    groups: dict[tuple[str, str], pa.Table] = {}
    total = 2 * len(models) + (other is not None)
    done = 0

    def add(what: str, name: str, query: str, parameters: dict[str, Any]) -> None:
        nonlocal done
        rows = run_query(lake, query, parameters)
        summaries.append(_summary(what, name, rows))
        groups[what, name] = rows
        done += 1
        if progress is not None:
            progress(done, total)

    for name in models:
        for what, (needed, command, query) in _COMPARED.items():
            if not lake.partitions(needed, model=name):
                raise SurveyError(
                    f"model {name!r} has no {needed} in the lake; run `survey-qa {command} "
                    f"--model {name}`"
                )
            of_fields = {"radius": radius} if needed == "votes" else {}
            add(what, name, query, {"model": name, **of_fields})
    if other is not None:
        add(BETWEEN, f"{model}, {other}", "consistency_models", {"model": model, "other": other})
    return Consistency(pa.concat_tables(summaries), groups)


def _summary(what: str, model: str, rows: pa.Table) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("groups", rows)
        found = connection.sql(_SUMMARY.read_text(encoding="utf-8")).to_arrow_table()
    n = found.num_rows
    found = found.add_column(0, "model", pa.array([model] * n, pa.string()))
    return found.add_column(0, "compared", pa.array([what] * n, pa.string()))
