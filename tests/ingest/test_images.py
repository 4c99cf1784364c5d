"""Rows from headers say what a CCD table would, and a broken image harms no other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.headers import read_headers
from ingest import ccds as ingest_ccds
from ingest.images import ImageSummary, ingest_images
from lake.errors import SurveyError
from lake.store import Lake
from simulator.conditions import Settings
from simulator.survey import SimulatedSurvey, simulate

MJD = 56887.97  # the night of 2014-08-18 at CTIO
NIGHT = {"release": "new", "camera": "decam", "night": "20140818"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSurvey:
    small = Settings(n_nights=2, exposures_per_night=3, nx=64, ny=128)
    return simulate(tmp_path_factory.mktemp("survey"), small, seed=3, workers=1)


def write_image(path: Path, ccds: tuple[str, ...] = ("N4", "S4"), **cards: Any) -> Path:
    """Write an image file of small CCDs; a card of None is left out."""
    header = {
        "INSTRUME": "DECam",
        "EXPNUM": 1000,
        "MJD-OBS": MJD,
        "FILTER": "r DECam SDSS c0002 6415.0 1480.0",
        "PLVER": "V5.5",
        "DATE": "2019-07-24T19:18:31",
        **cards,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with fitsio.FITS(str(path), "rw", clobber=True) as fits:
        fits.write(
            None, header={name: value for name, value in header.items() if value is not None}
        )
        for name in ccds:
            fits.write(np.zeros((6, 4), np.float32), extname=name)
    return path


def rows(lake: Lake, name: str = "ccds", **keys: str) -> list[dict[str, Any]]:
    return lake.read(name, {**NIGHT, **keys}).to_pylist()


def failures(lake: Lake) -> list[tuple[str, str]]:
    return [
        (Path(row["file"]).name, row["error"])
        for partition in lake.partitions("failures", stage="ingest-images")
        for row in lake.read("failures", dict(partition.keys), part=partition.path.stem).to_pylist()
    ]


def test_headers_agree_with_the_simulated_ccd_table(lake: Lake, survey: SimulatedSurvey) -> None:
    summary = ingest_images(lake, survey.images, "new")
    assert (summary.files, summary.ccds, summary.failed) == (6, survey.n_ccds, 0)
    assert len(summary.nights) == 2
    ingest_ccds.ingest(lake, [survey.ccd_table], "sim")
    compared = set()
    for camera, night in summary.nights:
        ours = rows(lake, camera=camera, night=night)
        theirs = rows(lake, release="sim", camera=camera, night=night)
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            for column in other.keys() & mine.keys() - {"table_file"}:
                if mine[column] is None or column == "wcscal":  # only one of the two tells
                    continue
                compared.add(column)
                value = other[column]
                if isinstance(value, float):
                    value = pytest.approx(value, rel=2e-7, abs=1e-12)
                assert mine[column] == value, column
    assert compared >= {
        "expnum", "ccdnum", "ccdname", "image_filename", "image_hdu", "mjd_obs", "filter",
        "exptime", "airmass", "propid", "object", "plver", "plprocid", "ra_bore", "dec_bore",
        "crpix1", "crval2", "cd1_2", "cd2_1", "width", "height", "fwhm", "yshift",
    }  # fmt: skip


def test_exposures_agree_with_those_of_the_ccd_table(lake: Lake, survey: SimulatedSurvey) -> None:
    ingest_images(lake, survey.images, "new")
    ingest_ccds.ingest(lake, [survey.ccd_table], "sim")
    for mine, other in zip(
        rows(lake, "exposures"), rows(lake, "exposures", release="sim"), strict=True
    ):
        for column in ("expnum", "band", "object", "n_ccds", "image_filename"):
            assert mine[column] == other[column]
        assert mine["ccd_cuts"] is None, "nothing is known of them, which is not the same as none"


def test_real_images_agree_with_legacypipes_tables(lake: Lake, shared_data: Path) -> None:
    folder = shared_data / "legacypipe" / "survey"
    tables = sorted(folder.glob("*/survey-ccds-1.fits.gz"))
    n_rows = 0
    for path in tables:
        theirs = fitsio.read(str(path))
        images = path.parent / "images"
        summary = ingest_images(lake, images, path.parent.name)
        assert (summary.ccds, summary.failed) == (len(theirs), 0)
        ours = {
            row["image_filename"]: row
            for camera, night in summary.nights
            for row in rows(lake, release=path.parent.name, camera=camera, night=night)
        }
        for other in theirs:
            mine = ours[other["image_filename"].strip()]
            n_rows += 1
            for column in ("ccdname", "filter", "object", "propid", "plver", "plprocid"):
                if column in theirs.dtype.names:
                    assert mine[column] == other[column].strip(), (path, column)
            for column in ("expnum", "image_hdu", "mjd_obs", "width", "height"):
                assert mine[column] == other[column], (path, column)
            for column in ("exptime", "airmass", "fwhm", "crpix1", "crpix2", "crval1", "crval2",
                           "cd1_1", "cd1_2", "cd2_1", "cd2_2"):  # fmt: skip
                # Single precision is how the tables keep most of them.
                assert mine[column] == pytest.approx(other[column], rel=2e-7), (path, column)
            for column in ("ra_bore", "dec_bore"):
                # An old table took the reference pixel, 0.04 arcsec off; the telescope's is 8 off.
                assert mine[column] == pytest.approx(other[column], abs=2e-5), (path, column)
            assert mine["wcscal"] in ("Successful", "Failed")
    assert n_rows == 19


def test_a_second_run_opens_nothing_and_a_new_or_changed_file_is_read_alone(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    from ingest import images as module

    read = module.read_headers

    def watched(path: Path, camera: str | None) -> Any:
        opened.append(path.name)
        return read(path, camera)

    monkeypatch.setattr(module, "read_headers", watched)
    folder = tmp_path / "images"
    first = write_image(folder / "a_ooi_1.fits")
    write_image(folder / "b_ooi_2.fits", EXPNUM=1001)
    ingest_images(lake, folder, "new")
    before = lake.record("ccds", NIGHT)
    again = ingest_images(lake, folder, "new")
    assert (again.unchanged_files, again.ccds, again.partitions) == (2, 0, 0)
    assert again.nights == {("decam", "20140818")}
    assert lake.record("ccds", NIGHT) == before
    assert opened == ["a_ooi_1.fits", "b_ooi_2.fits"]

    write_image(folder / "c_ooi_3.fits", EXPNUM=1002)
    assert ingest_images(lake, folder, "new").ccds == 2
    assert opened[2:] == ["c_ooi_3.fits"]

    write_image(first, ("N4",), OBJECT="again")
    assert ingest_images(lake, folder, "new").ccds == 1
    assert opened[3:] == ["a_ooi_1.fits"]
    objects = [row["object"] for row in rows(lake) if row["expnum"] == 1000]
    assert {*objects} == {"again", None}  # the CCD that the file no longer has stays
    assert [row["expnum"] for row in rows(lake)] == [1000, 1000, 1001, 1001, 1002, 1002]

    assert ingest_images(lake, folder, "new", force=True).ccds == 5
    assert len(opened) == 7
    announced: list[str] = []
    summary = ingest_images(lake, folder, "new", prune=True, announce=announced.append)
    assert summary.pruned == 1
    assert announced == ["1 CCDs of 1 nights that no image gives are removed"]
    assert [row["expnum"] for row in rows(lake)] == [1000, 1001, 1001, 1002, 1002]


def test_many_files_are_read_by_processes_in_lots(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.images.LOT", 7)
    for number in range(18):
        write_image(tmp_path / f"{number}_ooi.fits", ("N4",), EXPNUM=1 + number)
    seen: list[tuple[int, int]] = []
    summary = ingest_images(
        lake, tmp_path, "new", workers=2, progress=lambda done, of: seen.append((done, of))
    )
    assert (summary.ccds, summary.partitions) == (18, 3)
    assert seen[-1] == (18, 18)
    assert [row["expnum"] for row in rows(lake)] == list(range(1, 19))


def test_a_broken_file_fails_alone_and_is_tried_again_once_it_changes(
    lake: Lake, tmp_path: Path, survey: SimulatedSurvey
) -> None:
    whole = sorted(survey.images.glob("**/*ooi*"))[0]
    shutil.copy(whole, tmp_path / "whole_ooi.fits.fz")
    cut = tmp_path / "cut_ooi.fits.fz"
    content = sorted(survey.images.glob("**/*ooi*"))[1].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    (tmp_path / "noise_ooi.fits").write_bytes(os.urandom(9000))
    (tmp_path / "empty_ooi.fits.fz").write_bytes(b"")
    (tmp_path / "gone_ooi.fits").symlink_to(tmp_path / "nowhere")
    write_image(tmp_path / "bare_ooi.fits", ())
    summary = ingest_images(lake, tmp_path, "new")
    assert summary.files == 6
    assert 62 < summary.ccds < 124, "the CCDs before the cut are whole"
    assert summary.failed == 5
    found = dict(failures(lake))
    assert "the file ends within this CCD" in str(found)
    assert "not a readable FITS file" in found["noise_ooi.fits"]
    assert "not a readable FITS file" in found["empty_ooi.fits.fz"]
    assert "no such file" in found["gone_ooi.fits"]
    assert found["bare_ooi.fits"] == "holds no CCD image"
    again = ingest_images(lake, tmp_path, "new")
    assert (again.unchanged_files, again.failed) == (6, 0)

    cut.write_bytes(content)
    write_image(tmp_path / "noise_ooi.fits", EXPNUM=7)
    assert ingest_images(lake, tmp_path, "new").ccds == 64
    assert {name for name, _ in failures(lake)} == {
        "empty_ooi.fits.fz", "gone_ooi.fits", "bare_ooi.fits",
    }  # fmt: skip


def test_a_file_that_is_cut_between_ccds_is_told(lake: Lake, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a_ooi.fits")
    with fitsio.FITS(str(path)) as file:
        end = file[1].get_offsets()["data_end"]
    content = path.read_bytes()
    path.write_bytes(content[: end + 500])
    summary = ingest_images(lake, tmp_path, "new")
    assert (summary.ccds, summary.failed) == (1, 1)
    assert "the file is cut" in str(failures(lake))
    path.write_bytes(content)
    assert ingest_images(lake, tmp_path, "new").ccds == 2 and failures(lake) == []


def test_a_file_that_has_its_name_again_gives_its_rows_again(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    image = write_image(folder / "a.fits")
    ingest_images(lake, folder, "new", pattern="*.fits")
    for name in ("b", "a"):
        image = image.rename(folder / f"{name}.fits")
        ingest_images(lake, folder, "new", pattern="*.fits")
        assert {row["image_filename"] for row in rows(lake)} == {f"{name}.fits"}
    again = ingest_images(lake, folder, "new", pattern="*.fits")
    assert again.unchanged_files == 1 and again.partitions == 0


def test_a_file_that_breaks_later_takes_nothing_away(lake: Lake, tmp_path: Path) -> None:
    write_image(tmp_path / "a_ooi.fits")
    broken = write_image(tmp_path / "b_ooi.fits", EXPNUM=1001)
    ingest_images(lake, tmp_path, "new")
    broken.write_bytes(b"x")
    summary = ingest_images(lake, tmp_path, "new")
    assert (summary.failed, summary.kept) == (1, 2)
    assert {row["expnum"] for row in rows(lake)} == {1000, 1001}
    assert {row["expnum"] for row in rows(lake, "exposures")} == {1000, 1001}
    # It is not opened again before it changes.
    assert ingest_images(lake, tmp_path, "new").unchanged_files == 2


@pytest.mark.parametrize(
    ("cards", "ccds", "error"),
    [
        ({"EXPNUM": 0}, ("N4",), "exposure number 0 (CCD 'N4')"),
        ({"EXPNUM": None}, ("N4",), "exposure number 0 (CCD 'N4')"),
        ({"MJD-OBS": "unknown"}, ("N4",), "no observing date (CCD 'N4')"),
        ({"MJD-OBS": 9e9}, ("N4",), "no observing date (CCD 'N4')"),
        ({"EXPNUM": 1e300}, ("N4",), "exposure number 0 (CCD 'N4')"),
        ({"EXPNUM": 12.5}, ("N4",), "exposure number 0 (CCD 'N4')"),
        ({}, ("focus",), "unknown CCD name (CCD 'focus')"),
        ({"INSTRUME": "HSC"}, ("N4",), "INSTRUME 'HSC' is no camera that is known"),
        ({"PRODTYPE": "dqmask"}, ("N4",), "not an image but a product of type dqmask"),
        ({"OBSTYPE": "dome flat"}, ("N4",), "not the sky but a calibration of type 'dome flat'"),
        ({"OBSTYPE": "zero"}, ("N4",), "not the sky but a calibration of type 'zero'"),
    ],
)
def test_what_has_no_place_in_the_lake_is_told(
    lake: Lake, tmp_path: Path, cards: dict[str, Any], ccds: tuple[str, ...], error: str
) -> None:
    write_image(tmp_path / "a_ooi.fits", ccds, **cards)
    assert ingest_images(lake, tmp_path, "new").failed == 1
    assert [found for _, found in failures(lake)] == [error]
    assert not lake.partitions("ccds")


@pytest.mark.parametrize(
    ("cards", "ccds", "keys", "expnum", "band"),
    [
        (
            {"INSTRUME": "Mosaic3", "EXPNUM": None, "FILTER": "zd k1025",
             "OBSID": "kp4m.20160125T082555"},
            ("ccd1", "ccd2"), [1, 2], 160125082555, "z",
        ),
        ({"INSTRUME": "mosaic3", "EXPNUM": 75, "FILTER": "g"}, ("ccd3",), [3], 75, "g"),
        (
            {"INSTRUME": "90prime", "EXPNUM": None, "FILTER": "bokr",
             "DTACQNAM": "/descache/bass/20160710/d7580.0144.fits"},
            ("CCD4",), [4], 75800144, "r",
        ),
    ],
)  # fmt: skip
def test_other_cameras_name_filters_and_count_exposures_their_own_way(
    lake: Lake, tmp_path: Path, cards: dict[str, Any], ccds: tuple[str, ...],
    keys: list[int], expnum: int, band: str,
) -> None:  # fmt: skip
    write_image(tmp_path / "a_ooi.fits", ccds, **cards)
    summary = ingest_images(lake, tmp_path, "new")
    [(camera, night)] = summary.nights
    assert camera == {"m": "mosaic", "9": "90prime"}[cards["INSTRUME"][0].lower()]
    found = rows(lake, camera=camera, night=night)
    assert [(row["expnum"], row["ccdnum"], row["filter"]) for row in found] == [
        (expnum, number, band) for number in keys
    ]


@pytest.mark.parametrize(
    ("cards", "fwhm"),
    [({"FWHM": 4.5}, 4.5), ({"SEEINGP1": 2.89}, 2.89), ({"FWHM": 0.0, "SEEINGP1": 0.0}, None)],
)
def test_seeing_is_read_from_the_card_of_each_camera(
    lake: Lake, tmp_path: Path, cards: dict[str, Any], fwhm: float | None
) -> None:
    path = tmp_path / "a_ooi.fits"
    write_image(path, ("ccd3",), INSTRUME="mosaic3", EXPNUM=75, FWHM=None)
    with fitsio.FITS(str(path), "rw") as file:
        for card, value in cards.items():
            file[1].write_key(card, value)
    ingest_images(lake, tmp_path, "new")
    (row,) = rows(lake, camera="mosaic")
    assert row["fwhm"] == (None if fwhm is None else pytest.approx(fwhm))


def test_a_camera_can_be_named(lake: Lake, tmp_path: Path) -> None:
    write_image(tmp_path / "a_ooi.fits", ("ccd12",), INSTRUME="HSC")
    ingest_images(lake, tmp_path, "new")
    assert ingest_images(lake, tmp_path, "new", camera="hsc").ccds == 1
    assert [row["ccdnum"] for row in rows(lake, camera="hsc")] == [12]


def test_a_named_camera_does_not_overrule_the_header(lake: Lake, tmp_path: Path) -> None:
    write_image(tmp_path / "a_ooi.fits", ("ccd3",), INSTRUME="mosaic3", EXPNUM=75)
    write_image(tmp_path / "b_ooi.fits", ("ccd12",), INSTRUME="HSC", EXPNUM=76)
    assert ingest_images(lake, tmp_path, "new", camera="hsc").ccds == 2
    assert [row["expnum"] for row in rows(lake, camera="mosaic")] == [75]
    assert [row["expnum"] for row in rows(lake, camera="hsc")] == [76]


def test_the_telescope_and_the_reference_pixel_stand_in_for_the_boresight(
    lake: Lake, tmp_path: Path
) -> None:
    write_image(tmp_path / "a_ooi.fits", ("N4",), TELRA="01:02:03.000", TELDEC="-00:30:36.0")
    path = write_image(tmp_path / "b_ooi.fits", ("N4",), EXPNUM=1001, RA="", DEC="")
    with fitsio.FITS(str(path), "rw") as fits:
        fits[1].write_keys({"CRVAL1": 10.5, "CRVAL2": -3.25})
    write_image(tmp_path / "c_ooi.fits", ("N4",), EXPNUM=1002, RA=20.25, DEC=-1.0)
    ingest_images(lake, tmp_path, "new")
    assert [(row["ra_bore"], row["dec_bore"]) for row in rows(lake)] == [
        (pytest.approx(15.5125), pytest.approx(-0.51)),
        (10.5, -3.25),
        (20.25, -1.0),
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_in_a_file_is_told_and_never_raised(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    path = write_image(folder / "a_ooi.fits", ("N4",), TELRA="01:02:03.0", TELDEC="-00:30:36.0")
    content = bytearray(path.read_bytes())
    place = st.integers(0, len(content) - 1)
    for where in data.draw(st.lists(place, min_size=1, max_size=40)):
        content[where] = data.draw(st.sampled_from(b"09-.eE'= ?\x00\xff"))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    headers = read_headers(path)
    assert headers.ccds or headers.errors
    lake = Lake(folder / "lake", create=True)
    ingest_images(lake, folder, "new", force=True)


def both(lake: Lake, folder: Path, table: Path, order: str) -> ImageSummary:
    for what in order:
        if what == "t":
            ingest_ccds.ingest(lake, [table], "new", camera="decam")
        else:
            summary = ingest_images(lake, folder, "new")
    return summary


@pytest.mark.parametrize("order", ["it", "ti"])
@pytest.mark.parametrize(
    ("date", "wins"), [("2018", "i"), ("2019-07-24T19:18:31", "t"), ("2020", "t")]
)
def test_the_latest_processing_wins_and_of_equal_ones_the_ccd_table(
    lake: Lake, tmp_path: Path, order: str, date: str, wins: str
) -> None:
    folder = tmp_path / "images"
    write_image(folder / "a_ooi.fits", ("N4",))
    table = np.array(
        [(1000, b"N4", b"decam/a_ooi.fits", MJD, date.encode(), b"V5.5", 25.0)],
        [("expnum", "i8"), ("ccdname", "S4"), ("image_filename", "S40"), ("mjd_obs", "f8"),
         ("procdate", "S19"), ("plver", "S8"), ("ccdzpt", "f4")],
    )  # fmt: skip
    fitsio.write(str(tmp_path / "t.fits"), table)
    summary = both(lake, folder, tmp_path / "t.fits", order)
    [row] = rows(lake)
    assert row["image_filename"] == {"i": "a_ooi.fits", "t": "decam/a_ooi.fits"}[wins]
    assert row["ccdzpt"] == {"i": None, "t": 25.0}[wins]
    if order == "ti":
        assert (summary.ccds, summary.superseded) == ((1, 0) if wins == "i" else (0, 1))
    # Wherever the table is now, its row is no reason to read the image again.
    (tmp_path / "t.fits").unlink()
    assert ingest_images(lake, folder, "new").unchanged_files == 1


def test_pruning_takes_what_is_gone_and_gives_it_back(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    paths = [write_image(folder / f"{name}.fits", EXPNUM=number) for number, name in
             enumerate(("a", "b", "c"), start=1000)]  # fmt: skip

    def ingest(**options: Any) -> set[str]:
        ingest_images(lake, folder, "new", **{"pattern": "*.fits", **options})
        return {row["image_filename"] for row in rows(lake)}

    assert ingest() == {"a.fits", "b.fits", "c.fits"}
    # Those that the pattern leaves out, or that cannot be read today, are there.
    content = paths[2].read_bytes()
    paths[2].write_bytes(b"")
    assert ingest(pattern="[ac].fits", prune=True) == {"a.fits", "b.fits", "c.fits"}
    paths[2].write_bytes(content)
    away = paths[1].rename(tmp_path / "away")
    assert ingest(prune=True) == {"a.fits", "c.fits"}
    away.rename(paths[1])
    assert ingest() == {"a.fits", "b.fits", "c.fits"}


def test_masks_weights_and_hidden_files_are_left_alone(lake: Lake, tmp_path: Path) -> None:
    for name in ("a_ooi.fits", "a_ood.fits", "a_oow.fits", ".a_ooi.fits.123.part", ".x/b_ooi.fits"):
        write_image(tmp_path / name)
    assert ingest_images(lake, tmp_path, "new").files == 1
    assert {row["image_filename"] for row in rows(lake)} == {"a_ooi.fits"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"folder": "none"}, "none: no such folder"),
        ({}, "no file in it matches"),
        ({"pattern": "/x"}, "--pattern '/x'"),
        ({"pattern": ""}, "--pattern ''"),
        ({"pattern": "."}, "--pattern '.'"),
        ({"pattern": "./"}, "--pattern './'"),
        ({"pattern": "../*"}, "--pattern"),
        ({"pattern": "**a"}, "--pattern"),
        ({"pattern": "a\0b"}, "--pattern"),
        ({"release": "a/b"}, "release 'a/b'"),
        ({"camera": "a/b"}, "camera 'a/b'"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_bad_input_is_told_in_one_line(
    lake: Lake, tmp_path: Path, arguments: dict[str, Any], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / arguments.pop("folder", "empty")
    with pytest.raises(SurveyError, match=says):
        ingest_images(lake, folder, **{"release": "new", **arguments})
