"""What is made from something else is out of date when that has changed, however far away."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from lake.errors import SurveyError
from lake.freshness import Freshness, check_fresh
from lake.record import Record, table_reference
from lake.store import Lake

NIGHT = {"camera": "decam", "night": "20140818"}
EMBEDDINGS = {"embedder": "statistics", **NIGHT}
OF_MODEL = {"model": "knn", **NIGHT}


def write_vectors(lake: Lake, value: float) -> None:
    vectors = pa.array([np.array([value, 1], np.float16)], pa.list_(pa.float16(), 2))
    rows = {"expnum": [1], "ccdnum": [2], "embedding": vectors}
    lake.write("embeddings", EMBEDDINGS, pa.table(rows), Record("embed"))


def write_chain(lake: Lake) -> None:
    """Predictions of the vectors, and votes of the predictions."""
    names = [("embeddings", EMBEDDINGS), ("predictions", OF_MODEL), ("votes", OF_MODEL)]
    for (source, keys), (name, mine) in pairwise(names):
        (partition,) = lake.partitions(source)
        record = Record(name, {}, {table_reference(source, keys): partition.identity()})
        lake.write(name, mine, pa.table({"expnum": [1]}), record)


def reason(lake: Lake, name: str) -> str | None:
    (partition,) = lake.partitions(name)
    return Freshness(lake).because(partition)


def test_a_change_reaches_all_that_was_made_from_it_and_undoing_it_too(lake: Lake) -> None:
    write_vectors(lake, 1)
    write_chain(lake)
    assert reason(lake, "predictions") is None and reason(lake, "votes") is None
    write_vectors(lake, 2)
    assert "embeddings" in str(reason(lake, "predictions"))
    assert "out of date" in str(reason(lake, "votes"))
    write_vectors(lake, 1)
    assert reason(lake, "votes") is None


def test_what_is_gone_is_told(lake: Lake) -> None:
    write_vectors(lake, 1)
    write_chain(lake)
    lake.remove("embeddings", EMBEDDINGS)
    assert "is gone" in str(reason(lake, "predictions"))


def test_readers_refuse_and_say_the_commands_in_their_order(lake: Lake) -> None:
    write_vectors(lake, 1)
    write_chain(lake)
    check_fresh(lake, "votes", model="knn")
    write_vectors(lake, 2)
    expected = "`survey-qa predict --model knn` and then `survey-qa vote --model knn`"
    with pytest.raises(SurveyError, match=expected):
        check_fresh(lake, "votes", model="knn")
    check_fresh(lake, "votes", stale_ok=True, model="knn")
