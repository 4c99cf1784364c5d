"""Rows come out whole in every format, whatever their names and types."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from cli.output import PIPE_WIDTH, SCREEN_ROWS, Format, emit
from lake.errors import SurveyError


def written(rows: pa.Table, path: Path) -> str:
    emit(rows, output=path)
    return path.read_text(encoding="utf-8")


def test_columns_of_one_name_are_numbered_in_every_format(tmp_path: Path) -> None:
    rows = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a_1", "a"])
    expected = {"a": 1, "a_1": 2, "a_2": 3}
    assert json.loads(written(rows, tmp_path / "x.json")) == [expected]
    assert written(rows, tmp_path / "x.csv").splitlines()[1] == "1,2,3"
    assert written(rows, tmp_path / "x.table").split()[-3:] == ["1", "2", "3"]
    emit(rows, output=tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [expected]


def test_decimals_are_numbers_and_what_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "total": pa.array([Decimal(12)], pa.decimal128(38, 0)),
            "mean": pa.array([Decimal("1.50")]),
            "bad": pa.array([float("nan")]),
            "inside": pa.array([[float("inf"), 1.0]]),
        }
    )
    expected = {"total": 12, "mean": 1.5, "bad": None, "inside": [None, 1.0]}
    assert json.loads(written(rows, tmp_path / "x.json")) == [expected]


def test_words_survive_csv(tmp_path: Path) -> None:
    words = ['a "b", c', "two\nlines", "Größe", "", None]
    emit(pa.table({"words": words, "n": [1, 2, 3, 4, 5]}), output=tmp_path / "x.csv")
    options = pa.csv.ParseOptions(newlines_in_values=True)
    strings = pa.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    back = pa.csv.read_csv(tmp_path / "x.csv", parse_options=options, convert_options=strings)
    assert back["words"].to_pylist() == words


def test_an_interval_is_refused_in_one_line(tmp_path: Path) -> None:
    rows = pa.table({"gap": pa.array([(0, 1, 0)], pa.month_day_nano_interval())})
    with pytest.raises(SurveyError, match="column gap is an interval: cast it to varchar"):
        emit(rows, output=tmp_path / "x.csv")


def test_rows_that_a_table_does_not_show_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pa.table({"number": range(SCREEN_ROWS + 1_000)})
    note = "… 1,000 more rows: --format csv, json or parquet gives them all"
    assert note in written(rows, tmp_path / "x.txt")
    emit(rows, Format.table)
    assert note in capsys.readouterr().out


def test_a_wide_table_is_whole_in_a_pipe_and_cut_on_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"column_{number:02d}" for number in range(40)]
    rows = pa.table({name: ["word"] for name in names})
    assert sum(map(len, names)) > PIPE_WIDTH
    emit(rows)
    piped = capsys.readouterr().out
    assert any(all(name in line for name in names) for line in piped.splitlines())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    emit(rows)
    shown = capsys.readouterr().out
    assert shown.count("word") + 29 == 40
    assert "… 29 more columns: select those that matter, or --format csv" in shown


def test_no_cell_or_name_of_a_column_drives_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = pa.table({"a\x1b[2J": ["\x1b[31mred", "\u202eevil", "[bold]plain[/]", "two\nlines"]})
    emit(rows, title="[/]\x07title")
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\u202e")
    assert r"\x1b[31mred" in shown and r"\u202eevil" in shown and "[bold]plain[/]" in shown
    assert r"[/]\x07title" in shown
