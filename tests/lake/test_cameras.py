"""The cameras: names, numbers and places of their CCDs, and what tells their vectors apart."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import fitsio
import numpy as np
import pytest

from lake.cameras import (
    CAMERAS,
    DECAM,
    LSSTCAM,
    Camera,
    camera,
    camera_of_instrument,
    ccd_name,
    ccd_number,
    named_constants,
    viewer_url,
)
from lake.errors import SurveyError

ALL = pytest.mark.parametrize("known", CAMERAS.values(), ids=CAMERAS)

#: First and last name of each row of the focal plane, and their numbers.
ROWS = [
    ("S29", "S31", 1, 3), ("S25", "S28", 4, 7), ("S20", "S24", 8, 12), ("S14", "S19", 13, 18),
    ("S8", "S13", 19, 24), ("S1", "S7", 25, 31), ("N1", "N7", 32, 38), ("N8", "N13", 39, 44),
    ("N14", "N19", 45, 50), ("N20", "N24", 51, 55), ("N25", "N28", 56, 59), ("N29", "N31", 60, 62),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "low", "high"), ROWS)
def test_rows_of_decam(first: str, last: str, low: int, high: int) -> None:
    start = int(first[1:])
    names = [f"{first[0]}{number}" for number in range(start, int(last[1:]) + 1)]
    assert [ccd_number("decam", name) for name in names] == list(range(low, high + 1))
    assert [ccd_name("decam", number) for number in range(low, high + 1)] == names


def test_decam_has_62_ccds_and_no_others() -> None:
    assert sorted(DECAM.ccdnums.values()) == list(range(1, 63))
    assert ccd_name("decam", 0) is ccd_name("decam", 63) is None
    assert [ccd_number("decam", name) for name in ("N32", "S0", "Q1", "", "63", "0")] == [None] * 6


@pytest.mark.parametrize("camera", ["mosaic", "90prime"])
@pytest.mark.parametrize("form", ["ccd{}", "CCD{}", " CCD{} ", "{}", "0{}"])
def test_the_four_ccd_cameras(camera: str, form: str) -> None:
    numbers = [ccd_number(camera, form.format(number)) for number in range(6)]
    assert numbers == [None, 1, 2, 3, 4, None]


@ALL
def test_names_and_numbers_are_one_to_one(known: Camera) -> None:
    numbers = [ccd.num for ccd in known.ccds]
    assert numbers == list(range(1, len(known.ccds) + 1))
    names = [ccd_name(known.name, number) for number in numbers]
    assert len({*names}) == len(names) and None not in names
    assert [ccd_number(known.name, name or "") for name in names] == numbers
    assert ccd_name(known.name, 0) is ccd_name(known.name, len(numbers) + 1) is None
    assert len(names) == {"decam": 62, "mosaic": 4, "90prime": 4, "lsstcam": 189}[known.name]


@ALL
def test_every_ccd_has_a_place_of_its_own(known: Camera) -> None:
    centres = np.array([(ccd.x, ccd.y) for ccd in known.ccds]) * known.pitch
    for first, second in combinations(centres, 2):
        assert (np.abs(first - second) >= known.size).any()
    np.testing.assert_allclose(centres.mean(axis=0), 0, atol=1e-6)
    # Fields of view as their makers give them: 2.2, 0.6, 1.1 and 3.5 degrees, less the edges.
    across = (np.ptp(centres, axis=0) + known.size).max() * known.pixel_scale / 3600
    expected = {"decam": 2.12, "mosaic": 0.605, "90prime": 1.08, "lsstcam": 3.52}[known.name]
    assert across == pytest.approx(expected, rel=0.02)


def test_detectors_of_lsstcam_are_numbered_as_the_project_does_but_from_1() -> None:
    # obs_lsst, policy/rafts.yaml: id0 of some rafts.
    first = {"R01": 0, "R10": 27, "R14": 63, "R22": 90, "R34": 153, "R43": 180}
    for raft, detector in first.items():
        assert ccd_number("lsstcam", f"{raft}_S00") == detector + 1
        assert ccd_number("lsstcam", f"{raft}_s22") == detector + 9
    (middle,) = (ccd for ccd in LSSTCAM.ccds if ccd.name == "R22_S11")
    assert (middle.x, middle.y) == (0, 0)
    (corner,) = (ccd for ccd in LSSTCAM.ccds if ccd.name == "R14_S02")
    # 254 + 42.25 mm along x, -127 - 42.25 mm along y, in pixels of 10 micrometres.
    assert np.multiply((corner.x, corner.y), LSSTCAM.pitch) == pytest.approx([29_625, -16_925])
    assert ccd_number("lsstcam", "R00_SG0") is None


def test_a_camera_is_asked_for_by_name_and_by_instrument() -> None:
    assert camera("90prime").pixel_scale == 0.453
    cards = {"DECam": "decam", "Mosaic3": "mosaic", "90prime": "90prime", "LSSTCam ": "lsstcam"}
    for instrume, name in cards.items():
        assert camera_of_instrument(instrume) is camera(name)
    assert camera_of_instrument("HSC") is None
    with pytest.raises(SurveyError) as error:
        camera("hsc")
    known = "decam, mosaic, 90prime, lsstcam"
    assert str(error.value) == f"camera 'hsc' is not known: the cameras are {known}"


def test_the_ccds_of_a_camera_that_is_not_known_have_numbers() -> None:
    assert ccd_number("hsc", "ccd103") == 103 and ccd_name("hsc", 103) == "ccd103"
    assert ccd_number("hsc", "N4") is None
    assert viewer_url("hsc", 1, "ccd1") is None
    assert named_constants("hsc") == {}


def test_only_constants_that_are_not_decams_are_named() -> None:
    assert named_constants("decam") == {}
    assert named_constants("lsstcam") == {
        "pixel_scale": 0.2, "gain": 1.51, "read_noise": 5.6, "saturation": 135_000.0
    }  # fmt: skip
    assert named_constants("mosaic")["is_per_second"] is True


def test_constants_of_decam_are_those_of_real_headers(shared_data: Path) -> None:
    files = sorted((shared_data / "legacypipe" / "survey").glob("*/images/**/*_ooi_*.fits*"))
    headers = [fitsio.read_header(str(file), 1) for file in files]
    assert {fitsio.read_header(str(file))["INSTRUME"] for file in files} == {"DECam"}
    assert all(ccd_number("decam", header["DETPOS"]) == header["CCDNUM"] for header in headers)

    def median(card: str) -> float:
        return float(np.median([header[card] for header in headers]))

    def scale(header: fitsio.FITSHDR) -> float:
        matrix = [[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]
        return 3600 * float(np.sqrt(abs(np.linalg.det(matrix))))

    assert median("GAINA") == pytest.approx(DECAM.gain, rel=0.02)
    assert median("SATURATA") == pytest.approx(DECAM.saturation, rel=0.02)
    assert np.median([scale(header) for header in headers]) == pytest.approx(
        DECAM.pixel_scale, rel=0.01
    )
    noise = np.array([[header["RDNOISEA"], header["RDNOISEB"]] for header in headers])
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(DECAM.read_noise, rel=0.15)


def test_where_a_person_looks_at_a_ccd() -> None:
    page = "https://www.legacysurvey.org/viewer/ccd/ls-dr10/decam-349590-N12.xhtml"
    assert viewer_url("decam", 349590, "N12") == page
    assert viewer_url("decam", 349590, "N12", "dr9") == page.replace("dr10", "dr9")
    north = "https://www.legacysurvey.org/viewer/ccd/ls-dr9-north/90prime-74100199-CCD1.xhtml"
    assert viewer_url("90prime", 74100199, "CCD1") == north
    assert viewer_url("lsstcam", 2025050100007, "R22_S11") is None
