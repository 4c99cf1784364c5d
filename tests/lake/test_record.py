"""Records say what made a partition, whatever the tool's version, and are read back as written."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.record import (
    Record,
    content_digest,
    file_reference,
    model_reference,
    split_reference,
    table_reference,
)

TEXT = st.text(max_size=8)
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True)
RECORDS = st.builds(
    Record,
    NAMES,
    st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.none())),
    st.dictionaries(NAMES.map(file_reference), NAMES),
    st.dictionaries(TEXT, TEXT),
    st.integers(1, 9),
    content=NAMES,
    facets=st.dictionaries(NAMES, NAMES),
)
NIGHT = {"release": "dr10", "camera": "decam", "night": "20140818"}


@given(RECORDS)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


@given(RECORDS, TEXT)
def test_the_tools_version_and_notes_decide_nothing(record: Record, version: str) -> None:
    raw = json.loads(record.to_json()) | {"version": version, "notes": {"n": 1}}
    assert record.matches(Record.from_json(json.dumps(raw)))


@pytest.mark.parametrize(
    "other",
    [
        Record("embed", {"seed": 1}, {"file:a": "1"}),
        Record("embed", {"seed": 0}, {"file:a": "2"}),
        Record("embed", {"seed": 0}, {"file:b": "1"}),
        Record("embed", {"seed": 0}, {"file:a": "1"}, algorithm=2),
        Record("pool", {"seed": 0}, {"file:a": "1"}),
        None,
    ],
)
def test_settings_inputs_algorithm_and_stage_decide(other: Record | None) -> None:
    assert not Record("embed", {"seed": 0}, {"file:a": "1"}).matches(other)


def test_references_are_taken_apart_as_they_were_made() -> None:
    place = "ccds/release=dr10/camera=decam/night=20140818"
    assert split_reference(table_reference("ccds", NIGHT)) == ("table", place, "")
    assert split_reference(table_reference("ccds", NIGHT, "key")) == ("table", place, "key")
    assert split_reference(model_reference("knn")) == ("model", "knn", "")
    assert split_reference(file_reference("a#b:c.fits")) == ("file", "a#b:c.fits", "")


@given(st.lists(st.tuples(st.integers(-9, 9), TEXT), min_size=1), st.integers(1, 5))
def test_the_digest_of_rows_is_of_their_values_alone(rows: list[tuple[int, str]], n: int) -> None:
    table = pa.table({"a": [a for a, _ in rows], "b": [b for _, b in rows]})
    parts = [table.slice(at, n) for at in range(0, len(table), n)]
    chunked = pa.concat_tables(parts).replace_schema_metadata({"made": "elsewhere"})
    assert content_digest(chunked) == content_digest(table)
    other = table.set_column(0, "a", pa.array([a + 1 for a, _ in rows]))
    assert content_digest(other) != content_digest(table)
    assert content_digest(table.rename_columns(["a", "c"])) != content_digest(table)
