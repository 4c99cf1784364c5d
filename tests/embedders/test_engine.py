"""The engine: what it commits, what it reuses, and what it makes of faults."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import fitsio
import numpy as np
import pytest

from embedders.engine import Event, run
from embedders.plan import STAGE
from lake.errors import SurveyError
from lake.store import Lake
from queries.status import lake_status
from tests.embedders.doubles import Mean, MeanOnDevice
from tests.embedders.skies import NAMES, image_name, make, write_image, write_rows

NIGHTS = {"20140101": (1, 2, 3), "20140102": (4, 5), "20140103": (6,)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def survey(lake: Lake, images: Path) -> Lake:
    make(lake, images, NIGHTS)
    return lake


def keys(night: str, embedder: str = "mean") -> dict[str, str]:
    return {"embedder": embedder, "camera": "decam", "night": night}


def rows(lake: Lake, night: str, embedder: str = "mean") -> list[dict]:
    return lake.read("embeddings", keys(night, embedder)).to_pylist()


def failures(lake: Lake, night: str, embedder: str = "mean") -> list[dict]:
    where = {"stage": STAGE, "camera": "decam", "night": night}
    return lake.read("failures", where, part=embedder).to_pylist()


def content(lake: Lake) -> dict[str, bytes]:
    """Every file of the lake but the CCD rows, by name."""
    return {
        str(path.relative_to(lake.root)): path.read_bytes()
        for path in lake.root.rglob("*")
        if path.is_file() and path.relative_to(lake.root).parts[0] != "ccds"
    }


def other_lake(lake: Lake, name: str) -> Lake:
    """A lake with the same CCD rows and nothing else."""
    import shutil

    root = lake.root.with_name(name)
    shutil.copytree(lake.root / "ccds", root / "ccds")
    return Lake(root)


def test_every_ccd_gets_the_vector_of_its_own_image(survey: Lake, images: Path) -> None:
    summary = run(survey, Mean(), images, workers=2)
    assert (summary.n_partitions, summary.n_images, summary.n_failed) == (3, 24, 0)
    for night, expnums in NIGHTS.items():
        found = rows(survey, night)
        assert [(row["expnum"], row["ccdnum"]) for row in found] == [
            (expnum, ccdnum) for expnum in expnums for ccdnum in (1, 2, 3, 4)
        ]
        for row in found:
            path = images / image_name(night, row["expnum"])
            pixels = fitsio.read(str(path), ext=NAMES[row["ccdnum"] - 1])
            assert row["embedding"] == pytest.approx([pixels.mean(), pixels.std()], rel=2e-3)


def test_a_device_gives_what_the_cores_give(survey: Lake, images: Path) -> None:
    run(survey, Mean(), images, workers=2)
    device = MeanOnDevice(batch_size=5)
    summary = run(survey, device, images, workers=2)
    assert summary.n_images == 24
    for night in NIGHTS:
        pairs = zip(rows(survey, night), rows(survey, night, "mean-on-device"), strict=True)
        for on_core, on_device in pairs:
            assert on_device["embedding"] == pytest.approx(on_core["embedding"], rel=1e-3)
            assert on_device["ccdnum"] == on_core["ccdnum"]
    # Batches mix partitions, and the last is padded: all have one shape.
    assert device.batches == [5] * 5


def test_short_memory_halves_the_batch(survey: Lake, images: Path) -> None:
    device = MeanOnDevice(batch_size=8, most=3)
    assert run(survey, device, images, workers=2).n_images == 24
    assert set(device.batches) == {2}


def test_memory_for_not_even_one_image_is_said_so(survey: Lake, images: Path) -> None:
    with pytest.raises(SurveyError, match="memory for one image"):
        run(survey, MeanOnDevice(most=0), images, workers=1)
    assert not survey.partitions("embeddings")


def test_running_again_reads_nothing(survey: Lake, images: Path) -> None:
    run(survey, Mean(), images, workers=2)
    before = content(survey)
    summary = run(survey, Mean(), images, workers=2)
    assert (summary.n_partitions, summary.n_skipped, summary.n_images) == (0, 3, 0)
    assert content(survey) == before
    forced = run(survey, Mean(), images, workers=2, force=True)
    assert (forced.n_partitions, forced.n_images, forced.n_reused) == (3, 24, 0)
    assert content(survey) == before


@pytest.mark.parametrize("embedder", [Mean(), MeanOnDevice(batch_size=3)])
def test_shares_workers_and_order_do_not_show(
    survey: Lake, images: Path, embedder: Mean | MeanOnDevice
) -> None:
    # One damaged file, so that failures are compared too.
    (images / image_name("20140102", 4)).write_bytes(b"not a FITS file")
    run(survey, embedder, images, workers=1)
    shared = other_lake(survey, "shared")
    for share in ("3/3", "1/3", "2/3"):
        run(shared, embedder, images, workers=2, partitions=[share])
    assert content(shared) == content(survey)
    assert any(name.startswith("failures/") for name in content(survey))


def test_shares_started_together(survey: Lake, images: Path) -> None:
    shared = other_lake(survey, "shared")
    threads = [
        threading.Thread(
            target=run,
            args=(shared, Mean(), images),
            kwargs={"partitions": [f"{n}/3"], "workers": 1},
        )
        for n in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(survey, Mean(), images, workers=2)
    assert content(shared) == content(survey)


def test_one_damaged_file_of_many_fails_alone(lake: Lake, images: Path) -> None:
    make(lake, images, {"20140101": range(1, 101)}, names=("S29",))
    damaged = images / image_name("20140101", 50)
    damaged.write_bytes(damaged.read_bytes()[:3000])
    summary = run(lake, Mean(), images, workers=2)
    assert (summary.n_images, summary.n_failed) == (99, 1)
    (failure,) = failures(lake, "20140101")
    assert (failure["expnum"], failure["ccdnum"]) == (50, 1)
    assert failure["file"] == f"{image_name('20140101', 50)}[S29]"
    assert "c4d" not in failure["error"] and "\n" not in failure["error"]


def test_each_fault_fails_its_own_ccd(lake: Lake, images: Path) -> None:
    night, names = "20140101", ("S29", "S30", "S31", "S25", "S26", "S27")
    path = images / image_name(night, 1)
    path.parent.mkdir(parents=True)
    good = np.full((8, 8), 3, np.float32)
    with fitsio.FITS(str(path), "rw", ignore_empty=True) as file:
        file.write(None)
        file.write(good, extname="S29")
        file.write(np.full((8, 8), np.nan, np.float32), extname="S30")
        file.write(np.zeros((2, 8, 8), np.float32), extname="S31")
        file.write(np.zeros(4, dtype=[("a", "f4")]), extname="S25")
        file.write(None, extname="S26")
    write_rows(lake, night, [1, 2], names=names)
    assert run(lake, Mean(), images, workers=1).n_images == 1
    assert [(row["expnum"], row["ccdnum"]) for row in rows(lake, night)] == [(1, 1)]
    found = {(row["expnum"], row["ccdnum"]): row["error"] for row in failures(lake, night)}
    assert set(found) == {(1, n) for n in range(2, 7)} | {(2, n) for n in range(1, 7)}
    assert "no finite pixel" in found[1, 2]
    assert "two-dimensional" in found[1, 3] and "cannot be decoded" in found[1, 4]
    assert "no such HDU" in found[1, 6] and "no such file" in found[2, 1]


def test_vectors_that_are_not_finite_are_failures(survey: Lake, images: Path) -> None:
    means = [row["embedding"][0] for row in _embedded(survey, images, "20140103")]
    device = MeanOnDevice(spoil=sorted(means)[1])
    run(survey, device, images, workers=1, partitions=["night=20140103"])
    assert len(failures(survey, "20140103", "mean-on-device")) >= 2
    for row in rows(survey, "20140103", "mean-on-device"):
        assert np.isfinite(row["embedding"]).all()


def _embedded(lake: Lake, images: Path, night: str) -> list[dict]:
    run(lake, Mean(), images, workers=1, partitions=[f"night={night}"])
    return rows(lake, night)


def test_values_beyond_float16_are_clipped(lake: Lake, images: Path) -> None:
    path = images / image_name("20140101", 1)
    path.parent.mkdir(parents=True)
    fitsio.write(str(path), np.full((4, 4), 1e7, np.float32), extname="S29")
    write_rows(lake, "20140101", [1], names=("S29",))
    run(lake, Mean(), images, workers=1)
    assert rows(lake, "20140101")[0]["embedding"] == [65504.0, 0.0]


def test_only_what_was_added_is_computed(survey: Lake, images: Path) -> None:
    night = "20140101"
    (images / image_name(night, 2)).write_bytes(b"damaged")
    run(survey, Mean(), images, workers=1)
    before = content(survey)
    write_image(images / image_name(night, 7), 7)
    write_rows(survey, night, (1, 2, 3, 7))
    events: list[Event] = []
    summary = run(survey, Mean(), images, workers=1, progress=events.append)
    assert (summary.n_partitions, summary.n_skipped) == (1, 2)
    assert (summary.n_images, summary.n_reused, summary.n_failed) == (4, 8, 4)
    # The damaged file has not changed and was not tried again.
    assert sum(event.kind == "images" for event in events) == 4
    assert {row["expnum"] for row in failures(survey, night)} == {2}

    # Repaired, it is read; and all is as if the night had been embedded in one go.
    write_image(images / image_name(night, 2), 2)
    assert run(survey, Mean(), images, workers=1).n_images == 4
    fresh = other_lake(survey, "fresh")
    run(fresh, Mean(), images, workers=1)
    assert content(fresh) == content(survey)
    assert content(survey).keys() < before.keys()  # nothing is left of the failure


def test_a_later_processing_takes_the_place_of_an_older(lake: Lake, images: Path) -> None:
    make(lake, images, {"20140101": (1,)})
    write_rows(lake, "20140101", [1], plver="V4.9")
    run(lake, Mean(), images, workers=1)
    before = rows(lake, "20140101")
    # The newer release names another file for the same CCDs, whose old file still exists.
    newer = image_name("20140101", 2)
    write_image(images / newer, 2)
    write_rows(lake, "20140101", [1], release="dr11", plver="V4.10", image_filename=newer)
    summary = run(lake, Mean(), images, workers=1)
    assert (summary.n_images, summary.n_reused) == (4, 0)
    assert rows(lake, "20140101") != before
    later = rows(lake, "20140101")
    # The older release alone takes nothing away, unless it is asked for anew.
    kept = run(lake, Mean(), images, workers=1, releases=["dr10"])
    assert (kept.n_images, sum(kept.kept.values())) == (0, 4)
    assert rows(lake, "20140101") == later
    forced = run(lake, Mean(), images, workers=1, releases=["dr10"], force=True)
    assert forced.n_images == 4
    assert rows(lake, "20140101") == before


def test_vectors_of_other_settings_never_mix(survey: Lake, images: Path) -> None:
    run(survey, Mean(), images, workers=1, partitions=["night=20140101"])
    before = content(survey)
    with pytest.raises(SurveyError, match="version 1 there, 2 now"):
        run(survey, Mean(version=2), images, workers=1, partitions=["night=20140102"])
    assert content(survey) == before
    # Of a night alone: they wait, since the other night has none of theirs yet.
    summary = run(
        survey, Mean(version=2), images, workers=1, partitions=["night=20140102"], force=True
    )
    assert (summary.n_images, summary.n_apart, summary.n_behind) == (8, 8, 12)
    assert [p["night"] for p in survey.partitions("embeddings")] == ["20140101"]
    assert before.items() <= content(survey).items()
    of = {row["of"]: row["rows"] for row in lake_status(survey).to_pylist()}
    assert of["embedder=mean"] == 12 and of["embedder=mean, pending"] == 8
    # The tasks of one array job each redo a share.
    for share in ("1/2", "2/2"):
        run(survey, Mean(version=2), images, workers=1, partitions=[share], force=True)
    assert {
        p.record().settings["embedder"]["version"]  # type: ignore[union-attr]
        for p in survey.partitions("embeddings")
    } == {2}


def test_some_ccds_of_each_exposure(survey: Lake, images: Path) -> None:
    summary = run(survey, Mean(), images, workers=1, ccds_per_exposure=3, seed=5)
    assert summary.n_images == 3 * 6
    drawn = {
        night: [(row["expnum"], row["ccdnum"]) for row in rows(survey, night)] for night in NIGHTS
    }
    assert run(survey, Mean(), images, workers=1, ccds_per_exposure=3, seed=5).n_skipped == 3
    run(survey, Mean(), images, workers=1, ccds_per_exposure=3, seed=6)
    again = {
        night: [(row["expnum"], row["ccdnum"]) for row in rows(survey, night)] for night in NIGHTS
    }
    assert again != drawn


def test_a_reader_that_dies_is_replaced(survey: Lake, images: Path, tmp_path: Path) -> None:
    night = "20140101"
    with fitsio.FITS(str(images / image_name(night, 2)), "rw", clobber=True) as file:
        file.write(None)
        for name in NAMES:
            pixels = np.full((8, 8), -2000 if name == "S31" else 7, np.float32)
            file.write(pixels, extname=name)
    deaths = tmp_path / "deaths"

    deaths.write_bytes(b"xx")  # two deaths are forgiven
    assert run(survey, Mean(deaths), images, workers=2).n_failed == 0
    assert not deaths.read_bytes()

    deaths.write_bytes(b"x" * 100)
    summary = run(survey, Mean(deaths), images, workers=2, force=True)
    # The CCDs before the deadly one had been delivered; it and those behind it are given up.
    assert (summary.n_images, summary.n_failed) == (22, 2)
    assert [row["ccdnum"] for row in failures(survey, night)] == [3, 4]
    assert "SIGKILL" in failures(survey, night)[0]["error"]


def test_stop_leaves_whole_partitions(survey: Lake, images: Path) -> None:
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.kind == "committed":
            stop.set()

    summary = run(survey, Mean(), images, workers=1, progress=watch, stop=stop)
    assert summary.stopped and summary.n_partitions >= 1
    assert (
        len(summary.remaining)
        == 3 - summary.n_partitions
        == 3 - len(survey.partitions("embeddings"))
    )
    assert len(rows(survey, "20140101")) == 12
    rest = run(survey, Mean(), images, workers=1)
    assert (rest.n_skipped, rest.n_partitions) == (
        summary.n_partitions,
        len(summary.remaining),
    )


SCRIPT = """
    import multiprocessing, sys, time
    from pathlib import Path
    from embedders.engine import run
    from lake.store import Lake
    from tests.embedders.doubles import Mean

    def watch(event):
        if event.kind == "committed":
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            time.sleep(float(sys.argv[3]))

    if __name__ == "__main__":
        summary = run(Lake(sys.argv[1]), Mean(), Path(sys.argv[2]), workers=1, progress=watch)
        print(summary.stopped, len(summary.remaining))
"""


def start(lake: Lake, images: Path, tmp_path: Path, pause: float) -> subprocess.Popen[str]:
    """Start a run that pauses after each commit, and wait for the first."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, script, lake.root, images, str(pause)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(root), "PATH": ""},
    )


def test_a_killed_run_goes_on_where_it_was(survey: Lake, images: Path, tmp_path: Path) -> None:
    process = start(survey, images, tmp_path, pause=60)
    assert process.stdout is not None
    readers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    assert readers and all(_ends(pid) for pid in readers)
    committed = len(survey.partitions("embeddings"))
    assert committed >= 1
    summary = run(survey, Mean(), images, workers=1)
    assert (summary.n_skipped, summary.n_partitions) == (committed, 3 - committed)
    fresh = other_lake(survey, "fresh")
    run(fresh, Mean(), images, workers=1)
    assert content(fresh) == content(survey)


def _ends(pid: int) -> bool:
    import os
    import time

    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(
    survey: Lake, images: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(survey, images, tmp_path, pause=0.5)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    stopped, remaining = out.splitlines()[-1].split()
    assert process.returncode == 0 and stopped == "True"
    assert int(remaining) == 3 - len(survey.partitions("embeddings"))


def test_what_a_person_can_get_wrong(
    survey: Lake, lake: Lake, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(SurveyError, match="no embedder 'nothing'; there are .*statistics"):
        run(survey, "nothing", images)
    with pytest.raises(SurveyError, match="no such folder"):
        run(survey, Mean(), tmp_path / "elsewhere")
    with pytest.raises(SurveyError, match="no CCDs of release dr9"):
        run(survey, Mean(), images, releases=["dr9"])
    with pytest.raises(SurveyError, match="--workers 0"):
        run(survey, Mean(), images, workers=0)
    with pytest.raises(SurveyError, match="--ccds-per-exposure 0"):
        run(survey, Mean(), images, ccds_per_exposure=0)
    damaged = survey.path("ccds", {"release": "dr10", "camera": "decam", "night": "20140102"})
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(SurveyError, match="not a readable Parquet file"):
        run(survey, Mean(), images)


def test_the_images_may_lie_in_several_folders(survey: Lake, images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "more" / image_name("20140103", 6)
    moved.parent.mkdir(parents=True)
    (images / image_name("20140103", 6)).rename(moved)
    summary = run(survey, Mean(), [images, tmp_path / "more"], workers=1)
    assert (summary.n_images, summary.n_failed) == (24, 0)


def test_real_images_get_statistics(tmp_path: Path, shared_data: Path) -> None:
    from ingest.ccds import ingest

    survey = shared_data / "legacypipe" / "survey"
    lake = Lake(tmp_path / "real.lake", create=True)
    tables = sorted(survey.glob("*/survey-ccds*"))
    for table in tables:  # each on its own: some name the same exposure
        ingest(lake, [table], table.parent.name)
    summary = run(lake, "statistics", [table.parent / "images" for table in tables], workers=2)
    assert summary.n_images >= 15 and summary.n_failed == 0
    for partition in lake.partitions("embeddings"):
        record = partition.record()
        assert record is not None
        vectors = np.array(lake.read("embeddings", dict(partition.keys))["embedding"].to_pylist())
        assert vectors.shape[1] == record.notes["dimension"] == len(record.notes["features"])
        assert np.isfinite(vectors).all()
