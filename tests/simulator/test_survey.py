"""A simulated survey on disk: files, headers, tables, lists and truth agree with one another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fitsio
import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("galsim", reason="GalSim is an extra: pip install 'survey-qa[simulator]'")

from lake.cameras import DECAM
from lake.errors import SurveyError
from simulator.camera import CCDS
from simulator.conditions import CLASSES, Settings
from simulator.lists import listed_classes
from simulator.survey import SimulatedSurvey, plan, simulate

SMALL = Settings(n_nights=2, exposures_per_night=6, nx=64, ny=96, bad_fraction=0.5)
SEED = 5


def digests(survey: SimulatedSurvey) -> dict[str, str]:
    return {
        str(path.relative_to(survey.directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(survey.directory.rglob("*"))
        if path.is_file() and not path.name.endswith(".gz")
    }


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSurvey:
    return simulate(tmp_path_factory.mktemp("one"), SMALL, SEED, workers=1)


@pytest.fixture(scope="module")
def table(survey: SimulatedSurvey) -> np.ndarray:
    return fitsio.read(str(survey.ccd_table), ext=1)


def test_bytes_depend_on_the_seed_and_not_on_the_workers(
    survey: SimulatedSurvey, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    two = simulate(
        tmp_path / "two", SMALL, SEED, workers=2, progress=lambda *done: calls.append(done)
    )
    assert digests(two) == digests(survey)
    assert np.array_equal(
        fitsio.read(str(two.ccd_table), ext=1), fitsio.read(str(survey.ccd_table), ext=1)
    )
    assert calls == [(done, 12) for done in range(1, 13)]
    assert plan(SMALL, SEED + 1)[0].seed != plan(SMALL, SEED)[0].seed


def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path: Path) -> None:
    settings = Settings(n_nights=1, exposures_per_night=2, nx=32, ny=32)
    survey = simulate(tmp_path, settings, 1, workers=1)
    first, table = digests(survey), fitsio.read(str(survey.ccd_table), ext=1)
    lost, kept = sorted(survey.images.rglob("*.fits.fz"))
    lost.unlink()
    survey.truth.unlink()
    stamp = kept.stat().st_mtime_ns
    again = simulate(tmp_path, settings, 1, workers=1)
    assert digests(again) == first
    assert kept.stat().st_mtime_ns == stamp
    assert np.array_equal(fitsio.read(str(again.ccd_table), ext=1), table)


def test_a_directory_of_another_survey_is_refused(tmp_path: Path) -> None:
    settings = Settings(n_nights=1, exposures_per_night=1, nx=32, ny=32)
    simulate(tmp_path / "one", settings, 1, workers=1)
    with pytest.raises(SurveyError, match="other settings"):
        simulate(tmp_path / "one", settings, 2, workers=1)
    (tmp_path / "real" / "images" / "decam").mkdir(parents=True)
    with pytest.raises(SurveyError, match="not simulated here"):
        simulate(tmp_path / "real", settings, 1, workers=1)


def test_a_file_has_decams_layout_and_cards(survey: SimulatedSurvey) -> None:
    for path in sorted(survey.images.rglob("*.fits.fz")):
        night, name = path.parent.name, path.name
        assert path.parent.parent == survey.images / "decam/CP/V5.5"
        with fitsio.FITS(str(path)) as fits:
            primary = fits[0].read_header()
            assert len(fits) == 63
            for hdu, ccd in zip(list(fits)[1:], CCDS, strict=True):
                header = hdu.read_header()
                assert header["EXTNAME"].strip() == ccd.name
                assert header["CCDNUM"] == ccd.num == DECAM.ccdnums[ccd.name]
                assert header["ZCMPTYPE"].strip() == "RICE_1"
                assert hdu.get_dims() == [SMALL.ny, SMALL.nx]
        assert name.startswith(f"c4d_{primary['DATE-OBS'][2:10].replace('-', '')}_")
        assert f"_ooi_{primary['FILTER'][0]}_v1" in name
        assert night == f"CP{primary['NITE']}"
        # night is the UTC date of half a day before
        date = np.datetime64("1858-11-17") + np.timedelta64(int(primary["MJD-OBS"] - 0.5), "D")
        assert str(date).replace("-", "") == primary["NITE"]
        for card in ("WCSCAL", "EXPNUM", "EXPTIME", "AIRMASS", "PROPID", "OBJECT", "PLVER"):
            assert primary[card] is not None
        assert primary["WCSCAL"].strip() == "Successful"


def test_table_agrees_with_the_images(survey: SimulatedSurvey, table: np.ndarray) -> None:
    assert len(table) == survey.n_ccds == 12 * 62
    for row in table[::41]:
        path = survey.images / str(row["image_filename"]).strip()
        with fitsio.FITS(str(path)) as fits:
            hdu = fits[int(row["image_hdu"])]
            header, primary = hdu.read_header(), fits[0].read_header()
            image = hdu.read()
        assert header["EXTNAME"].strip() == str(row["ccdname"]).strip()
        for column in ("crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2"):
            assert row[column] == pytest.approx(header[column.upper()], rel=1e-6)
        assert (row["width"], row["height"]) == (image.shape[1], image.shape[0])
        assert row["expnum"] == primary["EXPNUM"]
        assert row["mjd_obs"] == pytest.approx(primary["MJD-OBS"], abs=1e-7)
        assert row["fwhm"] == pytest.approx(header["FWHM"], rel=1e-5)
        sky = row["ccdskycounts"] * row["exptime"]
        assert sky == pytest.approx(np.median(image), abs=0.5 + 0.01 * abs(float(sky)))
        assert np.isfinite(image).all()


def test_table_has_the_columns_of_a_real_one(table: np.ndarray, shared_data: Path) -> None:
    real = fitsio.read(
        str(shared_data / "legacypipe/survey/testcase6/survey-ccds-1.fits.gz"), ext=1
    )
    assert table.dtype.names == (*real.dtype.names, "ebv")
    for name in real.dtype.names:
        assert table.dtype[name].kind in (real.dtype[name].kind, "U", "S"), name
        if real.dtype[name].kind in "iuf":
            assert table.dtype[name].itemsize == real.dtype[name].itemsize, name


def test_truth_and_plan_agree(survey: SimulatedSurvey) -> None:
    planned = {exposure.expnum: exposure for exposure in plan(SMALL, SEED)}
    rows = pq.read_table(survey.truth_exposures).to_pylist()
    assert [row["expnum"] for row in rows] == list(planned)
    ccds = pq.read_table(survey.truth).to_pylist()
    for row in rows:
        defect = planned[row["expnum"]].defect
        mine = [ccd for ccd in ccds if ccd["expnum"] == row["expnum"]]
        if defect is None:
            assert row["class"] == "good"
            assert row["strength"] == 0
            assert not mine
            continue
        assert row["class"] in CLASSES
        assert row["strength"] == pytest.approx(row["signal"] / row["scatter"])
        assert row["visible"] == (row["strength"] >= 3)
        assert row["ccdnums"] == [ccd["ccdnum"] for ccd in mine]
        assert all(ccd["ccdname"] == CCDS[ccd["ccdnum"] - 1].name for ccd in mine)
        assert json.loads(row["parameters"])
    assert survey.n_visible == sum(row["visible"] for row in rows)


def test_lists_read_back_as_their_makers_write_them(tmp_path: Path) -> None:
    settings = Settings(
        n_nights=2,
        exposures_per_night=14,
        nx=32,
        ny=32,
        strength_range=(5.0, 5.0),
        bad_fraction=0.9,
        stars_per_ccd=1,
    )
    survey = simulate(tmp_path, settings, 2, workers=1)
    rows = {row["expnum"]: row for row in pq.read_table(survey.truth_exposures).to_pylist()}
    listed: dict[int, str] = {}
    for line in survey.decam_list.read_text().splitlines():
        if not line.startswith("#"):
            expnum, reason = line.split(maxsplit=1)
            assert reason.strip()
            listed[int(expnum)] = survey.decam_list.name
    assert survey.delve_lists
    for path in survey.delve_lists:
        heading, *lines = path.read_text().splitlines()
        assert heading.startswith("#")
        for line in lines:
            night, expnum, *rest = line.split()
            assert night == rows[int(expnum)]["night"]
            if path.name.startswith("problem"):
                assert line.startswith(f"{night}  ")
                assert rest
            else:
                assert len(rest) == 3
                assert int(rest[2]) in rows[int(expnum)]["ccdnums"]
            listed[int(expnum)] = path.name
    assert listed == {num: row["listed_in"] for num, row in rows.items() if row["listed_in"]}


def test_label_errors_come_at_the_rates_of_the_settings() -> None:
    settings = Settings(
        n_nights=30,
        exposures_per_night=50,
        classes=("PSF", "NObjects", "Noise", "Telescope_moving", "Out_of_focus"),
        missing_label_rate=0.2,
        wrong_label_rate=0.1,
        false_label_rate=0.05,
    )
    exposures = plan(settings, 3)
    classes = listed_classes(exposures, settings, np.random.default_rng(0))
    visible = [one for one in exposures if one.defect is not None and one.defect.visible]
    named = [one for one in visible if one.expnum in classes]
    assert 1 - len(named) / len(visible) == pytest.approx(0.2, abs=0.07)
    wrong = [one for one in named if one.defect and classes[one.expnum] != one.defect.kind]
    assert len(wrong) / len(named) == pytest.approx(0.1, abs=0.06)
    good = [one for one in exposures if one.defect is None]
    assert sum(one.expnum in classes for one in good) / len(good) == pytest.approx(0.05, abs=0.03)
    hidden = [one for one in exposures if one.defect is not None and not one.defect.visible]
    assert not any(one.expnum in classes for one in hidden)


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_defects_lie_below_twice_visible_and_every_class_is_spread(seed: int) -> None:
    exposures = plan(Settings(), seed)
    defects = [one.defect for one in exposures if one.defect is not None]
    assert len(defects) == 84
    strengths = np.array([defect.strength for defect in defects])
    assert (strengths < 6).mean() >= 0.5
    assert strengths.min() < 0.4
    assert strengths.max() > 70
    for kind in CLASSES:
        mine = [defect.strength for defect in defects if defect.kind == kind]
        assert min(mine) < 1
        assert max(mine) > 15
    for night in {one.night for one in exposures}:
        assert sum(one.defect is not None for one in exposures if one.night == night) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"n_nights": 0},
        {"exposures_per_night": 0},
        {"nx": 2047},
        {"ny": 10},
        {"bands": ()},
        {"bands": ("q",)},
        {"bad_fraction": 1.5},
        {"strength_range": (3.0, 1.0)},
        {"missing_label_rate": -0.1},
        {"stars_per_ccd": 0.0},
        {"first_night": "2014-08-18"},
        {"classes": ("Asteroid",)},
    ],
)
def test_impossible_settings_are_refused_in_one_line(change: dict[str, object]) -> None:
    with pytest.raises(SurveyError) as error:
        Settings(**change)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SurveyError, match="taken"):
        simulate(tmp_path / "taken", SMALL, 1, workers=1)


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="at least 1"):
        simulate(tmp_path, SMALL, 1, workers=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SurveyError, match="seed -1"):
        plan(SMALL, -1)
