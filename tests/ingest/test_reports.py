"""Lists go into the lake word for word, once."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fitsio
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ingest.reports import ingest_reports
from lake.errors import SurveyError
from lake.store import Lake

LIST = b"#EXPID\tFlag\tcomments\n100 3 exp factor < 0.3\n101\n\n102-N4 noisy\n1-2-3 x\n101 focus\n"
TABLE = b"expnum,ann_badexp,ann_reason,bob_badexp,bob_reason\n100,y,clouds,n,\n101,maybe,,,\n"


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def reports(lake: Lake, source: str) -> list[dict[str, object]]:
    return lake.read("reports", {"source": source}).to_pylist()


def files_of(lake: Lake, source: str) -> dict[str, int]:
    values = lake.read("reports", {"source": source})["file"].value_counts().to_pylist()
    return {item["values"]: item["counts"] for item in values}


def test_a_decam_list(lake: Lake, tmp_path: Path) -> None:
    summary = ingest_reports(lake, [write(tmp_path, "bad.2024.txt", LIST)], "decals")
    rows = reports(lake, "decals")
    assert [(r["line"], r["expnum"], r["ccdname"], r["ccdnum"], r["reason"]) for r in rows] == [
        (2, 100, None, None, "3 exp factor < 0.3"),
        (3, 101, None, None, "unknown"),
        (5, 102, "N4", 35, "noisy"),
        (7, 101, None, None, "focus"),
    ]
    assert [r["classes"] for r in rows] == [["Nonoptimal_exp"], [], [], ["Out_of_focus"]]
    assert {(r["round"], r["file"], r["camera"]) for r in rows} == {
        ("bad.2024", "bad.2024.txt", "decam")
    }
    (file,) = summary.files
    assert (file.lines, file.entries, file.comments, file.blank, file.n_skipped) == (7, 4, 1, 1, 1)
    assert summary.skipped == [("bad.2024.txt", 6, "'1-2-3' has more than one '-'")]
    assert summary.unmapped == {"unknown": 1, "noisy": 1}


def test_one_row_for_each_inspector_who_looked(lake: Lake, tmp_path: Path) -> None:
    ingest_reports(lake, [write(tmp_path, "seen.csv", TABLE)], "inspection", round="dr11")
    rows = reports(lake, "inspection")
    assert [(r["expnum"], r["analyst"], r["is_bad"], r["reason"], r["classes"]) for r in rows] == [
        (100, "ann", True, "clouds", ["Clouds_transparency"]),
        (100, "bob", False, "", []),
        (101, "ann", None, "", []),
    ]
    assert {r["round"] for r in rows} == {"dr11"}


def test_an_unchanged_list_costs_nothing_and_is_still_accounted_for(
    lake: Lake, tmp_path: Path
) -> None:
    path = write(tmp_path, "bad.txt", LIST)
    first = ingest_reports(lake, [path], "decals")
    before = lake.path("reports", {"source": "decals"}).stat()
    again = ingest_reports(lake, [path], "decals")
    after = lake.path("reports", {"source": "decals"}).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert again.unchanged
    assert (again.lines, again.entries, again.n_skipped) == (7, 4, 1)
    assert again.unmapped == first.unmapped
    ingest_reports(lake, [path], "decals", force=True)
    assert len(reports(lake, "decals")) == 4


def test_reports_of_another_program_are_not_replaced(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path, "bad.txt", LIST)
    ingest_reports(lake, [path], "decals")
    file = lake.path("reports", {"source": "decals"})
    pq.write_table(lake.read("reports", {"source": "decals"}).replace_schema_metadata(None), file)
    before = file.read_bytes()
    with pytest.raises(SurveyError, match="another program has written it"):
        ingest_reports(lake, [path], "decals")
    assert file.read_bytes() == before


def test_a_list_keeps_the_name_that_it_was_given(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path, "x.txt", LIST)
    ingest_reports(lake, [path], "decals", round="mine")
    ingest_reports(lake, [path], "decals", force=True)
    assert {row["round"] for row in reports(lake, "decals")} == {"mine"}


def test_a_later_edition_takes_the_place_of_its_own_list_only(lake: Lake, tmp_path: Path) -> None:
    one = write(tmp_path, "one.txt", b"1\n2\n")
    ingest_reports(lake, [one, write(tmp_path, "two.txt", b"3\n")], "decals")
    write(tmp_path, "one.txt", b"1\n2\n5\n")
    summary = ingest_reports(lake, [one], "decals")
    assert not summary.unchanged
    rows = reports(lake, "decals")
    assert sorted(r["expnum"] for r in rows if r["is_current"]) == [1, 2, 3, 5]
    assert sorted(r["expnum"] for r in rows if not r["is_current"]) == [1, 2]
    assert ingest_reports(lake, [tmp_path / "two.txt"], "decals").unchanged


def test_lists_of_one_name_are_told_apart_by_what_they_say(lake: Lake, tmp_path: Path) -> None:
    one = write(tmp_path, "a/list.txt", b"1\n")
    two = write(tmp_path, "b/list.txt", b"2\n")
    ingest_reports(lake, [one, two], "decals")
    assert {r["expnum"] for r in reports(lake, "decals") if r["is_current"]} == {1, 2}
    assert ingest_reports(lake, [two, one], "decals").unchanged


def test_reports_are_classified_anew_when_the_lakes_words_change(
    lake: Lake, tmp_path: Path
) -> None:
    old = write(tmp_path, "problem-y01.txt", b"20130101  7  Dome Light\n")
    new = write(tmp_path, "problem-y02.txt", b"20130101  8  Clouds\n")
    assert ingest_reports(lake, [old], "delve").unmapped == {"Dome Light": 1}
    write(lake.root, "vocabulary.toml", b'[[class]]\nname = "Dome"\nproject = ["Dome Light"]\n')
    ingest_reports(lake, [new], "delve")
    assert [r["classes"] for r in reports(lake, "delve")] == [["Dome"], ["Clouds_transparency"]]
    again = ingest_reports(lake, [old, new], "delve")
    assert again.unchanged
    assert again.unmapped == {}


def test_a_folder_of_lists_text_and_fits(lake: Lake, tmp_path: Path) -> None:
    write(
        tmp_path, "delve/y00/ccd41-y00.txt", b"#date expnum ccd id ccdnum\n20130101 7 nan N10 41\n"
    )
    write(tmp_path, "delve/LICENSE", b"words")
    write(tmp_path, "delve/.hidden/problem-y09.txt", b"20130101  9  Clouds\n")
    rows = np.array([(8, 0, b"Wonky", b"me")], dtype=[
        ("EXPNUM", ">i4"), ("CCDNUM", ">i4"), ("REASON", "S9"), ("ANALYST", "S9"),
    ])  # fmt: skip
    fitsio.write(tmp_path / "delve" / "merged.fits.gz", rows)
    ingest_reports(lake, [tmp_path / "delve"], "delve")
    assert [
        (r["expnum"], r["ccdname"], r["reason"], r["classes"], r["analyst"], r["round"])
        for r in reports(lake, "delve")
    ] == [
        (7, "N10", "ccd41", ["Bad_CCD"], None, "ccd41-y00"),
        (8, None, "Wonky", ["Wonky"], "me", "merged"),
    ]


def test_one_list_that_cannot_be_used_does_not_stop_the_others(lake: Lake, tmp_path: Path) -> None:
    good = write(tmp_path, "good.txt", b"1 PSF\n")
    bad = write(tmp_path, "bad.txt", b"\x1f\x8b not text")
    summary = ingest_reports(lake, [bad, good], "decals")
    assert summary.failed == [("bad.txt", f"{bad}: not a text list but a gzip file")]
    assert files_of(lake, "decals") == {"good.txt": 1}


@pytest.mark.parametrize(
    ("name", "content", "source", "camera", "what"),
    [
        ("a.txt", LIST, "delv", "decam", "the sources are decals"),
        ("a.txt", LIST, "decals", "lsst", "the cameras are decam"),
        ("a.txt", None, "decals", "decam", "no such file"),
        ("a.txt", b"Dear all,\nhere is the list.\n", "decals", "decam", "line 1: 'Dear' is not"),
        ("a.csv", LIST, "inspection", "decam", "no column 'expnum'"),
        ("a.fits", LIST, "des", "decam", "not a readable FITS table"),
        ("folder/x.csv", LIST, "decals", "decam", "no .txt file"),
    ],
)
def test_what_cannot_be_used_leaves_the_lake_as_it_was(
    lake: Lake,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    source: str,
    camera: str,
    what: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        write(tmp_path, name, content)
    with pytest.raises(SurveyError, match=what):
        ingest_reports(lake, [path.parent if "/" in name else path], source, camera=camera)
    assert lake.partitions("reports") == []


def test_a_list_may_come_through_a_pipe(lake: Lake, tmp_path: Path) -> None:
    pipe = tmp_path / "list.txt"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        writer.submit(pipe.write_bytes, LIST)
        piped = ingest_reports(lake, [pipe], "decals", round="piped")
    pipe.unlink()
    plain = ingest_reports(lake, [write(tmp_path, "list.txt", LIST)], "decals", round="plain")
    assert piped.entries == plain.entries > 0
    assert [r["expnum"] for r in reports(lake, "decals") if r["round"] == "piped"] == [
        r["expnum"] for r in reports(lake, "decals") if r["round"] == "plain"
    ]


def _ingest(root: Path, path: Path) -> None:
    ingest_reports(Lake(root), [path], "decals")


def test_processes_that_ingest_at_once_lose_nothing(lake: Lake, tmp_path: Path) -> None:
    paths = [write(tmp_path, f"list{n}.txt", b"%d\n" % (n + 1)) for n in range(6)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_ingest, args=(lake.root, path)) for path in paths]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert sorted(r["expnum"] for r in reports(lake, "decals")) == [1, 2, 3, 4, 5, 6]


def test_every_real_list_adds_up(lake: Lake, shared_data: Path) -> None:
    legacypipe = shared_data / "legacypipe"
    summaries = [
        ingest_reports(lake, sorted(legacypipe.glob("*.txt")), "decals"),
        ingest_reports(lake, [shared_data / "delve"], "delve"),
        ingest_reports(lake, sorted(legacypipe.glob("*.csv")), "inspection"),
    ]
    for summary in summaries:
        assert not summary.failed
        for file in summary.files:
            parts = file.entries + file.comments + file.blank + file.headers + file.n_skipped
            assert parts == file.lines
        table = lake.read("reports", {"source": summary.source})
        assert table.num_rows == sum(file.reports for file in summary.files)
        unmapped = table.filter(pc.equal(pc.list_value_length(table["classes"]), 0))
        bad = unmapped.filter(pc.fill_null(unmapped["is_bad"], False))
        assert sum(summary.unmapped.values()) == bad.num_rows
    assert summaries[1].skipped == [
        ("processing-y07.txt", 3, "expected date, expnum, ccd, id and ccdnum, found 4 columns")
    ]
    assert lake.read("reports", {"source": "inspection"}).num_rows == 3 * 939
