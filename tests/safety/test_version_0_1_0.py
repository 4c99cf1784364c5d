"""A lake of version 0.1.0 opens, nothing of it is stale, and every command gives the same rows."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lake.versions import natural
from tests.safety.command import count, done, rows
from tests.safety.conftest import GOLDEN

#: What version 0.1.0 gave, a command each: words, and rows, or columns and a hash of their values.
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((GOLDEN.parent / "expected.json.gz").read_bytes())
)
PATCHES = [name for name in EXPECTED if name.startswith("diff ")]
EXPORTS = [name for name in EXPECTED if name.startswith("export ")]
#: Tables that have other names since, with the columns that have.
RENAMED = {"holdouts": ("test_sets", {"place": "class_index"})}
#: What writes into the lake goes by itself, on a lake of its own.
WRITING = ("evaluate", "crossmatch", "consistency")
#: It gave dr9, the last one by letters, of equal processings of two releases.
LATEST = "query latest_processing"
#: What inspectors are unsure of was a good candidate, though no training sample took it for good.
CANDIDATES = "query good_candidates"
APART = {*WRITING, LATEST, CANDIDATES}


@pytest.fixture(scope="module")
def opened(golden_master: Path) -> Path:
    """The folder of version 0.1.0, for what only reads."""
    return golden_master


@pytest.mark.parametrize("name", sorted({*EXPECTED} - {*PATCHES, *EXPORTS, *APART}))
def test_a_command_gives_the_rows_that_it_gave(
    opened: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(opened)
    assert_equal(name, opened)


@pytest.mark.parametrize("name", WRITING)
def test_models_are_scored_as_they_were(
    golden: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(golden)
    assert_equal(name, golden)


def test_good_candidates_are_those_that_nobody_is_unsure_of(opened: Path) -> None:
    found = json.loads(done(opened / "lake", *EXPECTED[CANDIDATES]["words"]).out)
    unsure = "source = 'inspection' and is_current and is_bad is null"
    doubtful = rows(opened / "lake", f"select distinct expnum from reports where {unsure}")
    gone = {row["expnum"] for row in doubtful}
    before = [row for row in EXPECTED[CANDIDATES]["rows"] if row["expnum"] not in gone]
    assert [row["expnum"] for row in found] == [row["expnum"] for row in before]
    assert len(before) == len(EXPECTED[CANDIDATES]["rows"]) - 2


def test_of_equal_processings_that_of_the_last_release_counts(opened: Path) -> None:
    found = json.loads(done(opened / "lake", *EXPECTED[LATEST]["words"]).out)
    assert found
    assert {row["release"] for row in found if row["n_processings"] > 1} == {"dr10"}


def assert_equal(name: str, folder: Path) -> None:
    """Assert that a command gives the rows that it gave; columns may have been added."""
    expected = EXPECTED[name]
    table, columns = RENAMED.get(name.removeprefix("table "), ("", {}))
    words = list(expected["words"])
    if table:
        words = [word.replace(name.removeprefix("table "), table) for word in words]
    found = json.loads(done(folder / "lake", *words).out)
    if "sha256" in expected:
        names = [columns.get(column, column) for column in expected["columns"]]
        values = [[row[column] for column in names] for row in found]
        text = json.dumps(values, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == expected["sha256"]
        return
    before_rows = expected["rows"]
    if name.startswith("query ") and found and "release" in found[0]:
        # Version 0.1.0 had dr10 before dr9.
        before_rows = sorted(before_rows, key=lambda row: natural(row["release"]))
    assert len(found) == len(before_rows)
    for now, before in zip(found, before_rows, strict=True):
        for column, value in before.items():
            if name == "status" and before["table"] in RENAMED:
                if column == "bytes":  # written anew under the new name
                    continue
                value = RENAMED[value][0] if column == "table" else value
            is_number = isinstance(value, float) and now[column] is not None
            same = pytest.approx(value, rel=1e-9) if is_number else value
            assert now[column] == same, column


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_names_the_exposures_that_it_named(
    opened: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(opened)
    patch = done(opened / "lake", *EXPECTED[name]["words"]).out
    assert subjects(patch) == subjects(EXPECTED[name]["rows"])
    # Its lines now say that this tool wrote them.
    added = [
        line for line in patch.splitlines()[3:] if line.startswith("+") and line[1:2].isdigit()
    ]
    assert added
    assert all(line.endswith("]") and " [survey-qa: " in line for line in added)


def subjects(patch: str) -> list[str]:
    """Return the lines of a patch, without the reasons of those that it adds."""
    return [line.split(" ")[0] if line.startswith("+") else line for line in patch.splitlines()]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_has_the_columns_that_it_had(
    opened: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(opened)
    now, before = (
        list(csv.DictReader(io.StringIO(text)))
        for text in (
            done(opened / "lake", *EXPECTED[name]["words"]).out,
            EXPECTED[name]["rows"],
        )
    )
    columns = before[0].keys()
    assert [{column: row[column] for column in columns} for row in now] == before


def test_nothing_is_stale_and_what_is_not_known_is_counted(opened: Path) -> None:
    status = json.loads(done(opened / "lake", "status", "--format", "json").out)
    assert {row["stale"] for row in status} == {0}
    unknown = {row["table"] for row in status if row["unknown"]}
    assert "predictions" in unknown


def test_what_is_made_again_is_unchanged(golden: Path) -> None:
    lake = golden / "lake"
    names = ("ccds", "reports", "labels", "embeddings", "predictions", "votes", "outcomes")
    before = tables(lake, names)
    files = {path: path.stat().st_mtime_ns for path in lake.rglob("part-0.parquet")}
    table, listed = golden / "survey-ccds-sim.fits.gz", golden / "decam-bad_expid.txt"
    for words in (
        ("ingest", "ccds", table, "--release", "dr10"),
        ("ingest", "reports", listed, "--source", "decals"),
        ("merge-labels", "--release", "dr10"),
        ("predict", "--model", "knn"),
        ("vote", "--model", "knn", "--min-probability", 0.5, "--min-fraction", 0.3),
        ("predict", "--model", "two"),
        ("vote", "--model", "two", "--rule", "learned", "--min-probability", 0.6),
        ("inspections", "close", "looked"),
    ):
        done(lake, *words)
    assert tables(lake, names) == before
    # Labels now have what version 0.1.0 lacked: who says so, the quality, the comment.
    kept = [path for path in files if not {"labels", "inspections"} & {*path.parts}]
    assert {path: path.stat().st_mtime_ns for path in kept} == {path: files[path] for path in kept}
    status = json.loads(done(lake, "status", "--format", "json").out)
    assert {row["stale"] for row in status} == {0}


def tables(lake: Path, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of tables, in the columns that version 0.1.0 had."""
    new = {"labels": "exclude (inspector, quality, comment, time, origin)"}
    return {
        name: rows(lake, f"select * {new.get(name, '')} from {name} order by all") for name in names
    }


def test_a_vector_stays_where_images_are_missing(golden: Path) -> None:
    lake = golden / "lake"
    before = count(lake, "embeddings")
    done(lake, "embed", "--embedder", "statistics", "--images", golden / "images")
    assert count(lake, "embeddings") == before
