"""Reports resolved onto CCDs: against a plain loop, and what a second run does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from lake.tables import table
from queries import merge_labels as merging
from queries.engine import run_sql
from queries.merge_labels import merge_labels
from queries.status import lake_status
from tests.queries.lakes import RECORD, RELEASES, SOURCES, fill

NAMES = {1: "S29", 2: "S30", 3: "S31"}
Label = tuple[int, int, str | None, str, str]


@pytest.fixture
def full(lake: Lake) -> Lake:
    fill(lake)
    return lake


def labels(lake: Lake, release: str) -> list[Label]:
    rows = run_sql(
        lake,
        "select expnum, ccdnum, class, source, reason from labels where release = $release "
        "order by all",
        {"release": release},
    )
    return [tuple(row.values()) for row in rows.to_pylist()]


def loop(lake: Lake, release: str) -> list[Label]:
    """Merge as one would by hand: one look-up per report."""
    ccds = run_sql(
        lake, "select expnum, ccdnum, ccdname from ccds where release = $r", {"r": release}
    ).to_pylist()
    reasons: dict[tuple[int, int, str | None, str], set[str]] = {}
    for report in run_sql(lake, "select * from reports where is_bad").to_pylist():
        for ccd in ccds:
            whole = report["ccdname"] is None
            same = (
                report["ccdnum"] == ccd["ccdnum"]
                if report["ccdnum"] is not None
                else report["ccdname"] == ccd["ccdname"]
            )
            if report["expnum"] == ccd["expnum"] and (whole or same):
                for name in report["classes"] or [None]:
                    key = (ccd["expnum"], ccd["ccdnum"], name, report["source"])
                    reasons.setdefault(key, set()).add(report["reason"])
    merged = [(*key, " | ".join(sorted(words))) for key, words in reasons.items()]
    return sorted(merged, key=lambda row: (row[0], row[1], row[2] is None, row[2] or "", row[3]))


@pytest.mark.parametrize("release", RELEASES)
def test_the_merge_equals_a_plain_loop(full: Lake, release: str) -> None:
    summary = merge_labels(full, release)
    found = labels(full, release)
    assert found == loop(full, release)
    assert summary.rows == len(found)
    assert summary.unmapped == sum(row[2] is None for row in found)
    assert summary.ccds == len({row[:2] for row in found})
    assert summary.exposures == len({row[0] for row in found})


reports = st.lists(
    st.fixed_dictionaries(
        {
            "expnum": st.integers(1, 4),
            "ccdname": st.sampled_from([None, "S29", "S30", "N31", "left"]),
            "reason": st.sampled_from(["Airplane", "x | y", "", "wölken"]),
            "classes": st.lists(st.sampled_from(["PSF", "Noise"]), unique=True),
            "is_bad": st.booleans(),
        }
    ),
    max_size=12,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=reports)
def test_any_reports_merge_as_a_plain_loop_does(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    shutil.rmtree(tmp_path / "survey.lake", ignore_errors=True)
    lake = Lake(tmp_path / "survey.lake", create=True)
    ccds = [
        {"expnum": expnum, "ccdnum": number, "ccdname": name}
        for expnum in (1, 2, 3)
        for number, name in {**NAMES, 9: "left"}.items()
    ]
    keys = {"release": "dr10", "camera": "decam", "night": "20140818"}
    lake.write("ccds", keys, pa.Table.from_pylist(ccds), RECORD)
    numbers = {name: number for number, name in NAMES.items()} | {"N31": 62}
    for line, row in enumerate(rows, start=1):
        row |= {"ccdnum": numbers.get(str(row["ccdname"])), "line": line, "file": "f"}
        row |= {"round": "r", "camera": "decam"}
    schema = table("reports").conform(pa.table({})).schema
    lake.write("reports", {"source": "des"}, pa.Table.from_pylist(rows, schema=schema), RECORD)
    merge_labels(lake, "dr10")
    assert labels(lake, "dr10") == loop(lake, "dr10")
    merge_labels(lake, "dr10", force=True)
    assert labels(lake, "dr10") == loop(lake, "dr10")


def test_reports_of_another_camera_are_not_ours(full: Lake) -> None:
    for source in SOURCES:
        rows = full.read("reports", {"source": source})
        other = pa.array(["mosaic"] * rows.num_rows)
        index = rows.column_names.index("camera")
        full.write("reports", {"source": source}, rows.set_column(index, "camera", other), RECORD)
    assert merge_labels(full, "dr10").rows == 0
    assert full.partitions("labels") == []


def test_a_second_run_does_nothing(full: Lake) -> None:
    first = merge_labels(full, "dr10")
    assert first.written == 3
    before = {p.path: p.path.stat().st_mtime_ns for p in full.partitions("labels")}
    second = merge_labels(full, "dr10")
    assert second.up_to_date
    assert (second.rows, second.ccds, second.unmapped) == (first.rows, first.ccds, first.unmapped)
    assert before == {p.path: p.path.stat().st_mtime_ns for p in full.partitions("labels")}
    assert merge_labels(full, "dr10", force=True).written == 3


def test_what_is_said_while_labels_are_merged_is_merged_next(
    full: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = merging._Merge._resolve

    def meanwhile(merge: merging._Merge) -> pa.Table:
        rows = resolve(merge)
        said = full.read("reports", {"source": "delve"}).replace_schema_metadata(None)
        full.write("reports", {"source": "delve"}, said.slice(1), RECORD)
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(merging._Merge, "_resolve", meanwhile)
        merge_labels(full, "dr10")
    stale = [row["stale"] for row in lake_status(full).to_pylist() if row["table"] == "labels"]
    assert stale[0] > 0
    assert not merge_labels(full, "dr10").up_to_date
    assert labels(full, "dr10") == loop(full, "dr10")
    assert merge_labels(full, "dr10").up_to_date


def test_only_the_nights_that_change_are_written(full: Lake) -> None:
    merge_labels(full, "dr10")
    rows = full.read("reports", {"source": "des"})
    new = pa.Table.from_pylist(
        [{"expnum": 1003, "reason": "Noise", "classes": ["Noise"], "is_bad": True, "round": "r2",
          "file": "new.txt", "line": 1, "camera": "decam"}],
        schema=rows.schema.remove_metadata(),
    )  # fmt: skip
    more = pa.concat_tables([rows.replace_schema_metadata(None), new])
    full.write("reports", {"source": "des"}, more, RECORD)
    summary = merge_labels(full, "dr10")
    assert (summary.written, summary.unchanged) == (1, 2)
    assert labels(full, "dr10") == loop(full, "dr10")


def test_a_night_without_labels_has_no_partition_and_a_stale_one_goes(full: Lake) -> None:
    merge_labels(full, "dr10")
    for source in SOURCES:
        rows = full.read("reports", {"source": source})
        kept = rows.filter(pa.array([expnum < 3000 for expnum in rows["expnum"].to_pylist()]))
        full.write("reports", {"source": source}, kept, RECORD)
    summary = merge_labels(full, "dr10")
    assert summary.removed == 1
    assert {p["night"] for p in full.partitions("labels")} == {"20140818", "20140819"}
    assert merge_labels(full, "dr10").up_to_date


def test_a_lost_partition_is_made_again(full: Lake) -> None:
    merge_labels(full, "dr10")
    expected = labels(full, "dr10")
    full.partitions("labels")[1].path.unlink()
    summary = merge_labels(full, "dr10")
    assert (summary.written, summary.unchanged) == (1, 2)
    assert labels(full, "dr10") == expected


def test_a_copied_lake_is_merged_without_writing(full: Lake, tmp_path: Path) -> None:
    merge_labels(full, "dr10")
    shutil.copytree(full.root, tmp_path / "copy", copy_function=shutil.copyfile)
    summary = merge_labels(Lake(tmp_path / "copy"), "dr10")
    assert (summary.up_to_date, summary.written, summary.unchanged) == (True, 0, 3)


def test_labels_are_stale_once_their_ccds_change(full: Lake) -> None:
    def stale() -> int:
        rows = lake_status(full).to_pylist()
        return next(row["stale"] for row in rows if row["table"] == "labels")

    merge_labels(full, "dr10")
    assert stale() == 0
    keys = {"release": "dr10", "camera": "decam", "night": "20140818"}
    rows = full.read("ccds", keys)
    full.write("ccds", keys, rows, Record("test", {"new": True}))
    assert stale() == 0  # the same rows
    ebv = pa.array([0.5] * rows.num_rows, pa.float32())
    brighter = rows.set_column(rows.column_names.index("ebv"), "ebv", ebv)
    full.write("ccds", keys, brighter, RECORD)
    assert stale() == 0  # labels do not depend on it
    full.write("ccds", keys, rows.slice(0, 5), RECORD)
    assert stale() == 1
    assert merge_labels(full, "dr10").written == 1
    assert stale() == 0


def test_progress_counts_partitions(full: Lake) -> None:
    seen: list[tuple[int, int]] = []
    merge_labels(full, "dr10", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_unknown_release_is_told(full: Lake) -> None:
    with pytest.raises(SurveyError, match=r"no release 'dr8' .* it has dr9, dr10"):
        merge_labels(full, "dr8")


def test_no_reports_give_no_labels(lake: Lake) -> None:
    fill(lake)
    for partition in lake.partitions("reports"):
        partition.path.unlink()
    assert merge_labels(lake, "dr10").rows == 0
    assert merge_labels(lake, "dr10").up_to_date
