"""A lake of an earlier version gets today's names, and opens where it cannot have them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.errors import SurveyError
from lake.record import Record
from lake.store import FOOTER, Lake

ROWS = pa.table({"split": ["night"], "expnum": [7], "class": ["PSF"], "place": pa.array([2])})


def former_lake(root: Path) -> Path:
    """Write what version 0.1.0 kept of a model's test set."""
    path = root / "holdouts" / "model=knn" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    record = Record("holdouts", {"split": "night"}).to_json()
    pq.write_table(ROWS.replace_schema_metadata({FOOTER: record}), path)
    return root


def test_tables_and_columns_get_their_names(tmp_path: Path) -> None:
    lake = Lake(former_lake(tmp_path / "survey.lake"))
    (row,) = lake.read("test_sets", {"model": "knn"}).to_pylist()
    assert (row["expnum"], row["class"], row["class_index"]) == (7, "PSF", 2)
    assert not (lake.root / "holdouts").exists()
    record = lake.record("test_sets", {"model": "knn"})
    assert record is not None and record.stage == "test-set"
    assert record.settings == {"split": "night"}


def test_a_lake_that_cannot_be_written_opens_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = former_lake(tmp_path / "survey.lake")

    def refuse(*_: object) -> None:
        raise SurveyError("cannot write: read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "write", refuse)
        assert Lake(root).partitions("test_sets") == []
        assert (root / "holdouts" / "model=knn" / "part-0.parquet").exists()
    assert len(Lake(root).partitions("test_sets")) == 1


def test_a_rename_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    root = former_lake(tmp_path / "survey.lake")
    Lake(root)
    before = Lake(root).read("test_sets", {"model": "knn"})
    former_lake(root)  # written under the new name, and killed before the old one went
    assert Lake(root).read("test_sets", {"model": "knn"}).equals(before)
    assert not (root / "holdouts").exists()


def test_what_is_there_under_the_new_name_stays(tmp_path: Path) -> None:
    root = former_lake(tmp_path / "survey.lake")
    (root / "holdouts" / "model=damaged").mkdir()
    (root / "holdouts" / "model=damaged" / "part-0.parquet").write_bytes(b"PAR1")
    other = pa.table({"split": ["night"], "expnum": [9]})
    (root / "test_sets").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Lake, "_rename_former_tables", lambda _: None)
        Lake(root).write("test_sets", {"model": "knn"}, other, Record("test-set"))
    lake = Lake(root)
    assert lake.read("test_sets", {"model": "knn"})["expnum"].to_pylist() == [9]
    assert sorted(path.name for path in (root / "holdouts").iterdir()) == [
        "model=damaged",
        "model=knn",
    ]
