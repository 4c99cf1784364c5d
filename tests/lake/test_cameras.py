"""Names and numbers of CCDs, as the survey numbers them."""

from __future__ import annotations

import pytest

from lake.cameras import DECAM_CCDS, ccd_name, ccd_number, viewer_url

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
    assert sorted(DECAM_CCDS.values()) == list(range(1, 63))
    assert ccd_name("decam", 0) is ccd_name("decam", 63) is None
    assert [ccd_number("decam", name) for name in ("N32", "S0", "Q1", "", "63", "0")] == [None] * 6


@pytest.mark.parametrize("camera", ["mosaic", "90prime"])
@pytest.mark.parametrize("form", ["ccd{}", "CCD{}", " CCD{} ", "{}", "0{}"])
def test_the_four_ccd_cameras(camera: str, form: str) -> None:
    numbers = [ccd_number(camera, form.format(number)) for number in range(6)]
    assert numbers == [None, 1, 2, 3, 4, None]


def test_where_a_person_looks_at_a_ccd() -> None:
    page = "https://www.legacysurvey.org/viewer/ccd/ls-dr10/decam-349590-N12.xhtml"
    assert viewer_url("decam", 349590, "N12") == page
    assert viewer_url("decam", 349590, "N12", "dr9") == page.replace("dr10", "dr9")
    assert viewer_url("90prime", 74100199, "CCD1") is None
