"""Three cameras in one lake: their exposure numbers are their own, from the tables to the lists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from lake.store import Lake
from queries.engine import run_sql

_N_NIGHTS = 5
#: File prefix, CCD names, and CCD size (x, y) of each camera.
_CAMERAS = {
    "decam": ("c4d", ("N4", "S4", "S5", "N5"), (48, 96)),
    "mosaic": ("k4m", ("CCD1", "CCD2", "CCD3", "CCD4"), (64, 64)),
    "90prime": ("ksb", ("CCD1", "CCD2", "CCD3", "CCD4"), (64, 64)),
}
#: Exposures of a night, counted from 0, that have a pattern: each camera has others.
_BAD = {"decam": (0, 1), "mosaic": (1, 2), "90prime": (2, 3)}
#: The night whose bad exposures no list names.
_UNLISTED = _N_NIGHTS - 1
_COLUMNS = np.dtype(
    [
        ("image_filename", "S80"), ("image_hdu", "i2"), ("camera", "S8"), ("expnum", "i8"),
        ("ccdname", "S5"), ("plver", "S8"), ("procdate", "S19"), ("plprocid", "S7"),
        ("filter", "S2"), ("exptime", "f4"), ("mjd_obs", "f8"), ("airmass", "f4"),
        ("fwhm", "f4"), ("width", "i2"), ("height", "i2"), ("ra_bore", "f8"), ("dec_bore", "f8"),
        ("crpix1", "f4"), ("crpix2", "f4"), ("crval1", "f8"), ("crval2", "f8"), ("cd1_1", "f4"),
        ("cd1_2", "f4"), ("cd2_1", "f4"), ("cd2_2", "f4"), ("ccdzpt", "f4"), ("ccd_cuts", "i4"),
        ("ebv", "f4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Survey:
    """A lake that went all the way, and the folder of its inputs."""

    lake: Lake
    folder: Path


def expnum(night: int, exposure: int) -> int:
    return 1000 + 10 * night + exposure


def observe(folder: Path, camera: str, rng: np.random.Generator) -> None:
    """Write the images, the CCD table and the list of one camera."""
    prefix, names, (nx, ny) = _CAMERAS[camera]
    rows = []
    for night in range(_N_NIGHTS):
        for exposure in range(4):
            file = f"{camera}/CP2015/{prefix}_15{night + 1:02d}01_0{exposure}0000_ooi_g_v1.fits.fz"
            path = folder / "images" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            pattern = 40 * np.sin(np.arange(ny) / 3)[:, None] * (exposure in _BAD[camera])
            with fitsio.FITS(str(path), "rw") as fits:
                fits.write(None, header={"EXPNUM": expnum(night, exposure), "EXPTIME": 90.0})
                for hdu, name in enumerate(names, 1):
                    image = (rng.normal(100, 5, (ny, nx)) + pattern).astype("f4")
                    fits.write(image, extname=name, compress="RICE", tile_dims=(1, nx))
                    centre = (nx / 2 - (hdu % 2) * (nx + 9), ny / 2 - (hdu > 2) * (ny + 9))
                    mjd = 57_000.9 + 30 * night + 0.01 * exposure
                    rows.append(
                        (
                            *(file, hdu, camera, expnum(night, exposure), name, "V1", "2016"),
                            *("x", "g", 90.0, mjd, 1.1, 4.0, nx, ny, 10.0, 20.0, *centre),
                            *(10.0, 20.0, -7e-5, 0.0, 0.0, 7e-5, 25.0, 0, 0.02),
                        )
                    )
    fitsio.write(str(folder / f"survey-ccds-{camera}.fits"), np.array(rows, _COLUMNS))
    bad = [
        expnum(night, e) for night in range(_N_NIGHTS) if night != _UNLISTED for e in _BAD[camera]
    ]
    lines = [f"{number} out of focus" for number in bad]
    (folder / f"{camera}-bad_expid.txt").write_text("\n".join(["# kept by hand", *lines, ""]))


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Three cameras' inputs, read, embedded, learned from, predicted and voted on."""
    folder = tmp_path_factory.mktemp("cameras")
    rng = np.random.default_rng(0)
    for camera in _CAMERAS:
        observe(folder, camera, rng)
    lake = Lake(folder / "survey.lake", create=True)
    call(lake, "ingest", "ccds", *sorted(folder.glob("survey-ccds-*.fits")), "--release", "x")
    for camera in _CAMERAS:
        file = folder / f"{camera}-bad_expid.txt"
        call(lake, "ingest", "reports", file, "--source", "decals", "--camera", camera)
    call(lake, "merge-labels", "--release", "x")
    call(lake, "embed", "--embedder", "statistics", "--images", folder / "images")
    for camera in _CAMERAS:
        here = ("--model", camera, "--partition", f"camera={camera}")
        # What no list names counts as good: a night that nobody has looked at teaches wrong.
        listed = [f"camera={camera}/night={night}" for night in ("2014*", "20150[123]*")]
        learn = [word for pattern in listed for word in ("--partition", pattern)]
        call(lake, "train", "--embedder", "statistics", "--model", camera, *learn)
        call(lake, "predict", *here)
        call(lake, "vote", *here, "--min-probability", "0.5")
    return Survey(lake, folder)


def call(lake: Lake, *words: object) -> str:
    result = CliRunner().invoke(app, ["--lake", str(lake.root), *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_camera_has_its_exposures_under_its_own_numbers(survey: Survey) -> None:
    for table, key in (("ccds", "expnum, ccdnum"), ("exposures", "expnum"), ("labels", "expnum")):
        rows = run_sql(
            survey.lake,
            f"select camera, count(distinct ({key})) as n from {table} group by 1 order by 1",
        ).to_pylist()
        assert [row["camera"] for row in rows] == sorted(_CAMERAS), table
        assert len({row["n"] for row in rows}) == 1, table


def test_labels_of_a_camera_are_those_of_its_own_list(survey: Survey) -> None:
    rows = run_sql(survey.lake, "select distinct camera, expnum from labels").to_pylist()
    expected = {
        (camera, expnum(night, exposure))
        for camera, bad in _BAD.items()
        for night in range(_N_NIGHTS)
        if night != _UNLISTED
        for exposure in bad
    }
    assert {(row["camera"], row["expnum"]) for row in rows} == expected


@pytest.mark.parametrize("camera", _CAMERAS)
def test_the_change_to_a_cameras_list_names_its_own_bad_exposures(
    survey: Survey, camera: str
) -> None:
    against = survey.folder / f"{camera}-bad_expid.txt"
    words = ("bad-expid", "diff", "--model", camera, "--against", against, "--camera", camera)
    lines = call(survey.lake, *words).splitlines()
    added = {int(line[1:].split()[0]) for line in lines if line[:2] == "+1"}
    assert added == {expnum(_UNLISTED, exposure) for exposure in _BAD[camera]}


@pytest.mark.parametrize("camera", _CAMERAS)
def test_a_crossmatch_counts_the_exposures_of_its_camera_alone(survey: Survey, camera: str) -> None:
    words = ("crossmatch", "--model", camera, "--release", "x", "--format", "json")
    [row] = [row for row in json.loads(call(survey.lake, *words)) if row["part"] == "all"]
    assert (row["only_ours"], row["n_exposures"]) == (2 * _N_NIGHTS, 4 * _N_NIGHTS)
