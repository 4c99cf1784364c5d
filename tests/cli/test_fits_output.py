"""Rows as FITS: what a reader of FITS finds is what the rows were."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.output import emit
from lake.store import Lake
from tests.safety.command import done

VECTOR = pa.list_(pa.float16(), 2)


def written(path: Path, rows: pa.Table) -> tuple[np.ndarray, Any]:
    emit(rows, output=path)
    return fitsio.read(str(path), ext="ROWS"), fitsio.read_header(str(path), ext="ROWS")


def test_every_type_has_its_column(tmp_path: Path) -> None:
    day = datetime.date(2014, 8, 18)
    vectors = pa.array([np.array([1, 2], np.float16), np.array([3, 4], np.float16)], VECTOR)
    rows = pa.table(
        {
            "expnum": pa.array([349001, 2**40], pa.int64()),
            "ccdnum": pa.array([1, None], pa.int16()),
            "fwhm": pa.array([5.25, None], pa.float32()),
            "share": pa.array([Decimal("0.25"), None]),
            "is_bad": [True, False],
            "unsure": [True, None],
            "class": ["PSF", None],
            "reason": ["é, clouds", "x" * 40],
            "classes": [["PSF", "Noise"], []],
            "embedding": vectors,
            "day": [day, None],
        }
    )
    table, header = written(tmp_path / "rows.fits", rows)
    assert table["expnum"].tolist() == [349001, 2**40]
    assert table["ccdnum"].tolist() == [1, -(2**15)] and header["TNULL2"] == -(2**15)
    assert table["fwhm"][0] == 5.25 and np.isnan(table["fwhm"][1])
    assert table["share"][0] == 0.25 and np.isnan(table["share"][1])
    assert table["is_bad"].tolist() == [True, False]
    assert table["unsure"].tolist() == [1, -(2**15)]
    assert [text.strip() for text in table["class"]] == ["PSF", ""]
    assert [text.strip() for text in table["reason"]] == ["\\xe9, clouds", "x" * 40]
    assert [text.strip() for text in table["classes"]] == ['["PSF", "Noise"]', "[]"]
    assert table["embedding"].tolist() == [[1, 2], [3, 4]]
    assert [text.strip() for text in table["day"]] == ["2014-08-18", ""]


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**31) + 1, 2**31 - 1),
            st.none() | st.floats(width=32),
            st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=9),
        ),
        max_size=20,
    )
)
def test_values_come_back(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    names = {"a": pa.int32(), "b": pa.float32(), "c": pa.string()}
    columns = {
        name: pa.array([row[index] for row in values], kind)
        for index, (name, kind) in enumerate(names.items())
    }
    table, header = written(tmp_path_factory.mktemp("fits") / "x.fits", pa.table(columns))
    null = header.get("TNULL1")
    assert [None if a == null else a for a in table["a"].tolist()] == [a for a, _, _ in values]
    expected = np.array([np.nan if b is None else b for _, b, _ in values], np.float32)
    np.testing.assert_array_equal(table["b"], expected)
    assert [c.rstrip() for c in table["c"]] == [c.rstrip() for _, _, c in values]


def test_a_command_writes_it(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "rows.fits"
    done(
        lake.root,
        "sql",
        "select 1 as a, 'x' as b union all select 2, 'yy' order by a",
        "--output",
        file,
    )
    assert [(int(a), b.strip()) for a, b in fitsio.read(str(file))] == [(1, "x"), (2, "yy")]
    on_screen = done(lake.root, "sql", "select 1 as a", "--format", "json").out
    assert on_screen == '[{"a": 1}]\n'


def test_no_rows_are_a_table(tmp_path: Path) -> None:
    table, _ = written(tmp_path / "x.fits", pa.table({"a": pa.array([], pa.string())}))
    assert len(table) == 0
