"""CCD tables of every form go in; nothing of them is lost uncounted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from ingest import ccd_spill
from ingest.ccds import ingest
from lake.errors import SurveyError
from lake.store import Lake
from lake.tables import table

MJD = 56887.97  # the night of 2014-08-18 at CTIO


def ccd_table(n: int = 6, **columns: Any) -> np.ndarray:
    """A small survey-ccds table: `n` CCDs of two exposures, one a night later than the other."""
    half = np.arange(n) // ((n + 1) // 2)
    values: dict[str, Any] = {
        "expnum": 1000 + half,
        "camera": np.array(["decam  "] * n, "S7"),
        "ccdname": np.array([f"S{29 + index % 3}" for index in range(n)], "S4"),
        "image_filename": np.array([f"decam/CP/c4d_{e}.fits.fz" for e in 1000 + half], "S40"),
        "image_hdu": np.arange(1, n + 1, dtype=np.int16),
        "mjd_obs": MJD + half.astype(float),
        "filter": np.array(["r DECam SDSS c0002"] * n, "S20"),
        "fwhm": np.linspace(4, 6, n, dtype=np.float32),
        "procdate": np.array(["2019-07-24T19:18:31"] * n, "S19"),
        "plver": np.array(["V4.8.2a"] * n, "S8"),
        **columns,
    }
    values = {name: np.asarray(value) for name, value in values.items() if value is not None}
    dtype = [(name, value.dtype, value.shape[1:]) for name, value in values.items()]
    rows = np.empty(n, dtype=dtype)
    for name, value in values.items():
        rows[name] = value
    return rows


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a table to a FITS file and return its path."""

    def _write(rows: np.ndarray, name: str = "survey-ccds.fits") -> Path:
        path = tmp_path / name
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        fitsio.write(str(plain), rows, clobber=True)
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
        return path

    return _write


def night(lake: Lake, date: str = "20140818", name: str = "ccds") -> Any:
    return lake.read(name, {"release": "dr9", "camera": "decam", "night": date})


@pytest.mark.parametrize("name", ["t.fits", "t.fits.gz", "t.kd.fits"])
def test_a_table_becomes_nights_of_ccds_and_exposures(
    lake: Lake, write: Callable[..., Path], name: str
) -> None:
    summary = ingest(lake, [write(ccd_table(), name)], "dr9")
    assert (summary.rows, summary.ccds, summary.partitions, summary.failed) == (6, 6, 2, 0)
    ccds = night(lake)
    assert ccds["ccdname"].to_pylist() == ["S29", "S30", "S31"]
    assert ccds["ccdnum"].to_pylist() == [1, 2, 3]
    assert ccds["filter"].to_pylist() == ["r DECam SDSS c0002"] * 3
    [exposure] = night(lake, name="exposures").to_pylist()
    assert exposure["band"] == "r"
    assert exposure["n_ccds"] == 3
    assert exposure["fwhm"] == pytest.approx(4.4)
    assert exposure["n_cut"] is None
    assert exposure["ccd_cuts"] is None, "the table has no bits, which is not the same as none set"


def test_columns_that_a_release_lacks_are_null_and_its_own_are_kept(
    lake: Lake, write: Callable[..., Path]
) -> None:
    rows = ccd_table(
        GOOD_REGION=np.arange(24, dtype=np.int16).reshape(6, 4), tileid=np.arange(6), plver=None
    )
    ingest(lake, [write(rows)], "dr9")
    ccds = night(lake)
    assert set(ccds.column_names) >= {column.name for column in table("ccds").columns}
    assert ccds["plver"].to_pylist() == [None] * 3
    assert ccds["tileid"].to_pylist() == [0, 1, 2]
    assert ccds["good_region"].to_pylist()[1] == [4, 5, 6, 7]


def test_bits_of_an_exposure_are_those_of_its_ccds(lake: Lake, write: Callable[..., Path]) -> None:
    ingest(lake, [write(ccd_table(ccd_cuts=np.array([0, 0x200, 0x8, 0, 0, 0])))], "dr9")
    [exposure] = night(lake, name="exposures").to_pylist()
    assert exposure["ccd_cuts"] == 0x208
    assert exposure["n_cut"] == 2


def test_the_latest_processing_wins_and_the_others_are_counted(
    lake: Lake, write: Callable[..., Path]
) -> None:
    old, new = ccd_table(), ccd_table(plver=np.array(["V4.10.1"] * 6, "S8"))
    summary = ingest(lake, [write(np.concatenate([new, old]))], "dr9")
    assert (summary.rows, summary.ccds, summary.superseded) == (12, 6, 6)
    assert set(night(lake)["plver"].to_pylist()) == {"V4.10.1"}, "10 comes after 8"


def test_the_date_of_processing_goes_before_its_version(
    lake: Lake, write: Callable[..., Path]
) -> None:
    rows = np.concatenate(
        [
            ccd_table(plver=np.array(["V3.0"] * 6, "S8"), procdate=np.array(["2020"] * 6, "S4")),
            ccd_table(plver=np.array(["V9.0"] * 6, "S8"), procdate=np.array(["2019"] * 6, "S4")),
        ]
    )
    ingest(lake, [write(rows)], "dr9")
    assert set(night(lake)["plver"].to_pylist()) == {"V3.0"}


def test_rows_without_a_place_are_failures_with_their_row(
    lake: Lake, write: Callable[..., Path]
) -> None:
    rows = ccd_table()
    rows["expnum"][1] = 0
    rows["mjd_obs"][2] = np.nan
    rows["ccdname"][3] = b"Q7"
    path = write(rows)
    summary = ingest(lake, [path], "dr9")
    assert (summary.rows, summary.ccds, summary.failed) == (6, 3, 3)
    assert summary.unusable == {
        "exposure number 0": 1,
        "no observing date": 1,
        "unknown CCD name": 1,
    }
    failures = [
        row
        for partition in lake.partitions("failures", stage="ingest-ccds")
        for row in lake.read("failures", dict(partition.keys), part=partition.path.stem).to_pylist()
    ]
    assert sorted(row["file"] for row in failures) == [f"{path}, row {row}" for row in (2, 3, 4)]
    rows = ccd_table()
    summary = ingest(lake, [write(rows)], "dr9")
    assert summary.failed == 0
    assert lake.partitions("failures") == [], "a mended table takes its failures back"


def test_an_unchanged_table_is_not_read_again_and_a_changed_night_alone_is_written(
    lake: Lake, write: Callable[..., Path]
) -> None:
    path = write(ccd_table())
    ingest(lake, [path], "dr9")
    assert ingest(lake, [path], "dr9").unchanged_files == 1
    changed = ccd_table()
    changed["fwhm"][5] = 9
    summary = ingest(lake, [write(changed)], "dr9")
    assert (summary.partitions, summary.unchanged_partitions) == (1, 1)
    assert summary.rows == summary.ccds == 6
    assert night(lake, "20140819")["fwhm"].to_pylist()[-1] == 9
    assert ingest(lake, [path], "dr9", force=True).partitions == 2


def test_a_removed_partition_is_made_again(lake: Lake, write: Callable[..., Path]) -> None:
    path = write(ccd_table())
    ingest(lake, [path], "dr9")
    lake.remove("ccds", {"release": "dr9", "camera": "decam", "night": "20140818"})
    assert ingest(lake, [path], "dr9").partitions == 1
    assert night(lake).num_rows == 3


def test_files_that_share_a_night_are_joined_and_each_is_replaced_by_itself(
    lake: Lake, write: Callable[..., Path]
) -> None:
    one = write(ccd_table(), "one.fits")
    more = ccd_table(ccdname=np.array(["N1", "N2", "N3"] * 2, "S4"))
    two = write(more, "two.fits")
    ingest(lake, [one, two], "dr9")
    assert night(lake)["ccdnum"].to_pylist() == [1, 2, 3, 32, 33, 34]
    announced: list[str] = []
    shorter = write(more[:1], "two.fits")
    assert (
        ingest(lake, [shorter], "dr9").kept == 2 + 3
    )  # the other night has gone from the table altogether
    assert night(lake)["ccdnum"].to_pylist() == [1, 2, 3, 32, 33, 34]
    summary = ingest(lake, [shorter], "dr9", prune=True, announce=announced.append)
    assert summary.pruned == 2 + 3
    assert announced == ["5 CCDs of 2 nights that two.fits no longer has are removed"]
    assert night(lake)["ccdnum"].to_pylist() == [1, 2, 3, 32]
    [exposure] = night(lake, name="exposures").to_pylist()
    assert exposure["n_ccds"] == 4


def test_rows_in_any_order_and_many_chunks_give_the_same_lake(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.concatenate([ccd_table(6, mjd_obs=MJD + np.arange(6.0) + day) for day in range(20)])
    rows["expnum"] = 1000 + np.arange(len(rows)) // 2
    contents = []
    for order, chunk in ((np.arange(len(rows)), 1000), (np.arange(len(rows))[::-1], 7)):
        monkeypatch.setattr(ccd_spill, "CHUNK_ROWS", chunk)
        lake = Lake(tmp_path / str(chunk), create=True)
        ingest(lake, [write(rows[order])], "dr9")
        contents.append({p.name: lake.read("ccds", dict(p.keys)) for p in lake.partitions("ccds")})
    assert contents[0] == contents[1]
    assert sum(rows.num_rows for rows in contents[0].values()) == 120


def test_a_camera_can_be_named_for_tables_without_one(
    lake: Lake, write: Callable[..., Path]
) -> None:
    path = write(ccd_table(camera=None, ccdname=np.array(["ccd1", "ccd2", "CCD3"] * 2, "S4")))
    with pytest.raises(SurveyError, match="lacks the column.*camera; name the camera"):
        ingest(lake, [path], "dr9")
    ingest(lake, [path], "dr9", camera="90prime")
    keys = {"release": "dr9", "camera": "90prime", "night": "20140818"}
    assert lake.read("ccds", keys)["ccdnum"].to_pylist() == [1, 2, 3]


def test_a_named_camera_does_not_overrule_the_tables_own(
    lake: Lake, write: Callable[..., Path]
) -> None:
    names = np.array(["CCD1", "CCD2", "CCD3"] * 2, "S4")
    path = write(ccd_table(camera=np.array(["90Prime", ""] * 3, "S7"), ccdname=names))
    with pytest.raises(SurveyError, match="--camera mosaic, but its column camera says 90prime"):
        ingest(lake, [path], "dr9", camera="mosaic")
    assert list(lake.root.rglob("*")) == []
    assert ingest(lake, [path], "dr9", camera="90Prime").ccds == 6
    assert {partition["camera"] for partition in lake.partitions("ccds")} == {"90prime"}


@pytest.fixture
def sfd_dir(tmp_path: Path) -> Path:
    """Dust maps of one reddening a hemisphere."""
    pytest.importorskip("sfdmap2", reason="the extra sfd is not installed")
    folder = tmp_path / "sfd"
    folder.mkdir()
    for pole, sign, ebv in (("n", 1, 0.1), ("s", -1, 0.3)):
        path = folder / f"SFD_dust_4096_{pole}gp.fits"
        header = {"CRPIX1": 4.5, "CRPIX2": 4.5, "LAM_SCAL": 4, "LAM_NSGP": sign}
        fitsio.write(str(path), np.full((8, 8), ebv, np.float32), header=header)
    return folder


def test_reddening_comes_from_maps_where_the_table_has_none(
    lake: Lake, write: Callable[..., Path], sfd_dir: Path
) -> None:
    # The galactic poles, and their hemispheres.
    ra, dec = [192.86, 180.0, 12.86, 12.86, 0.0, 200.0], [27.13, 30.0, -27.13, -27.13, -40.0, 20.0]
    path = write(ccd_table(ra=np.array(ra), dec=np.array(dec)))
    ingest(lake, [path], "dr9", sfd_dir=sfd_dir)
    assert night(lake)["ebv"].to_pylist() == pytest.approx([0.1, 0.1, 0.3])
    assert night(lake, "20140819")["ebv"].to_pylist() == pytest.approx([0.3, 0.3, 0.1])
    own = write(ccd_table(ra=np.array(ra), dec=np.array(dec), ebv=np.full(6, 0.02)))
    ingest(lake, [own], "dr9", sfd_dir=sfd_dir)
    assert night(lake)["ebv"].to_pylist() == pytest.approx([0.02] * 3), (
        "the table's own comes first"
    )


def test_maps_that_are_not_there_are_named(
    lake: Lake, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(ccd_table(ra=np.zeros(6), dec=np.zeros(6)))
    with pytest.raises(SurveyError, match="lacks SFD_dust_4096_ngp.fits and SFD_dust_4096_sgp"):
        ingest(lake, [path], "dr9", sfd_dir=tmp_path)
    with pytest.raises(SurveyError, match="the table lacks ra"):
        ingest(lake, [write(ccd_table(), "bare.fits")], "dr9", sfd_dir=tmp_path)


def damage(kind: str, path: Path) -> None:
    data = path.read_bytes()
    if kind == "text":
        path.write_text("EXPNUM,CCD\n1,2\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(data[: len(data) - 5760])
    elif kind == "gzip":
        path.write_bytes(gzip.compress(data)[:200])


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "gzip"])
def test_a_damaged_file_is_one_line_and_leaves_the_lake_as_it_was(
    lake: Lake, write: Callable[..., Path], kind: str
) -> None:
    rows = np.concatenate([ccd_table(60)] * 20)
    rows["expnum"] = np.arange(len(rows)) + 1
    ingest(lake, [write(ccd_table(), "fine.fits")], "dr9")
    before = sorted(path for path in lake.root.rglob("*"))
    path = write(rows, "damaged.fits")
    damage(kind, path)
    with pytest.raises(SurveyError, match=r"damaged\.fits") as error:
        ingest(lake, [path], "dr9")
    assert "\n" not in str(error.value)
    assert sorted(path for path in lake.root.rglob("*")) == before


def test_a_table_without_needed_columns_names_them(
    lake: Lake, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(ccd_table(ccdname=None, mjd_obs=None))
    with pytest.raises(SurveyError, match="lacks the column.s. ccdname, mjd_obs"):
        ingest(lake, [path], "dr9")
    fitsio.write(str(tmp_path / "image.fits"), np.zeros((4, 4)))
    with pytest.raises(SurveyError, match="holds no table"):
        ingest(lake, [tmp_path / "image.fits"], "dr9")
    with pytest.raises(SurveyError, match="no such file"):
        ingest(lake, [tmp_path / "missing.fits"], "dr9")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("ccd_cuts", [0.0, 1.0, 2.5, 3.0, 4.0, 5.0]),
        ("ccd_cuts", [b"1", b"x", b"", b"2", b"3", b"4"]),
        ("image_hdu", [1, 2, 3, 4, 5, 70_000]),
        ("expnum", [b"1000", b"x", b"1", b"2", b"3", b"4"]),
        ("expnum", [[1, 2]] * 6),
        ("filter", [[b"g", b"r"]] * 6),
    ],
)
def test_values_that_do_not_fit_are_named_before_anything_is_committed(
    lake: Lake, write: Callable[..., Path], column: str, values: list[Any]
) -> None:
    path = write(ccd_table(**{column: np.array(values)}))
    with pytest.raises(SurveyError, match=rf"survey-ccds\.fits, rows 1-6: column {column} cannot"):
        ingest(lake, [path], "dr9")
    assert list(lake.root.rglob("*")) == []


def test_exposure_numbers_that_are_not_whole_are_failures(
    lake: Lake, write: Callable[..., Path]
) -> None:
    numbers = np.array([1000.0, 1000.5, np.nan, np.inf, -3.0, 0.0])
    summary = ingest(lake, [write(ccd_table(expnum=numbers))], "dr9")
    assert (summary.ccds, summary.unusable) == (
        1,
        {"no exposure number": 4, "exposure number 0": 1},
    )
    assert night(lake)["expnum"].to_pylist() == [1000]


def test_a_declared_null_is_no_number(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "survey-ccds.fits"
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(ccd_table(expnum=np.array([1000, -1, 1000, 999999, 1001, 1001]), tileid=[7] * 6))
        for name, null in (("expnum", 999999), ("tileid", 7)):
            file[1].write_key(f"TNULL{file[1].get_colnames().index(name) + 1}", null)
    summary = ingest(lake, [path], "dr9")
    assert (summary.ccds, summary.unusable) == (4, {"no exposure number": 2})
    assert night(lake)["tileid"].to_pylist() == [None, None]


def test_columns_of_any_kind_are_kept(lake: Lake, write: Callable[..., Path]) -> None:
    rows = ccd_table(
        words=np.array([[b"a ", b"b"]] * 6), z=np.full(6, 1 + 2j), table_file=[b"theirs"] * 6
    )
    path = write(rows)
    ingest(lake, [path], "dr9")
    kept = night(lake)
    assert kept["words"].to_pylist()[0] == ["a", "b"]
    assert kept["z"].to_pylist()[0] == [1.0, 2.0]
    assert set(kept["table_file"].to_pylist()) == {str(path)}


def test_the_table_is_found_among_others(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "survey-ccds.kd.fits"
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(np.zeros(3, [("kdtree_lr_ccds", np.int32)]))
        file.write(ccd_table())
    assert ingest(lake, [path], "dr9").ccds == 6


def test_a_ccd_that_a_table_dates_anew_is_moved(lake: Lake, write: Callable[..., Path]) -> None:
    path = write(ccd_table())
    more = ccd_table(ccdname=np.array(["N1", "N2", "N3"] * 2, "S4"), mjd_obs=np.full(6, MJD + 1))
    ingest(lake, [path, write(more, "other.fits")], "dr9")
    moved = ccd_table()
    moved["mjd_obs"] -= 5
    summary = ingest(lake, [write(moved)], "dr9")
    assert (summary.partitions, summary.kept) == (2, 0)
    nights = {p["night"]: p.num_rows() for p in lake.partitions("ccds")}
    assert nights == {"20140813": 3, "20140814": 3, "20140819": 6}
    assert {p["night"]: p.num_rows() for p in lake.partitions("exposures")} == {
        "20140813": 1,
        "20140814": 1,
        "20140819": 2,
    }
    assert set(night(lake, "20140819")["ccdname"].to_pylist()) == {"N1", "N2", "N3"}


def test_every_real_table_goes_in(lake: Lake, shared_data: Path) -> None:
    files = sorted((shared_data / "legacypipe" / "survey").glob("*/survey-ccds-1.fits.gz"))
    assert files
    summary = ingest(lake, files, "dr9")
    rows = sum(len(fitsio.read(str(file), ext=1)) for file in files)
    assert (summary.rows, summary.ccds, summary.failed) == (rows, rows, 0)
    for partition in lake.partitions("ccds"):
        for row in lake.read("ccds", dict(partition.keys)).to_pylist():
            # The folder CP<night> is the observers' own date of the night.
            folder = row["image_filename"].split("/")[-2]
            assert folder.startswith("CP20")
            assert row["image_filename"] == row["image_filename"].strip()
    nights = {partition["night"] for partition in lake.partitions("ccds")}
    assert {"20140818", "20150328", "20181214"} <= nights
