"""Where CCDs lie: exact for any camera, from nothing but the astrometry of the table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.focal_plane import Turn, layout
from simulator.camera import CCDS, FULL_NX, FULL_NY, Camera
from tests.embedders.planes import wcs


def decam(**where: float) -> list[dict[str, Any]]:
    return [wcs(Camera(), ccd, **where) for ccd in CCDS]


def rotated(row: Mapping[str, Any], degrees: float) -> dict[str, Any]:
    """The same CCD with the whole camera turned on the sky."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[row["cd1_1"], row["cd1_2"]], [row["cd2_1"], row["cd2_2"]]])
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ matrix
    names = ("cd1_1", "cd1_2", "cd2_1", "cd2_2")
    return {**row, **dict(zip(names, turned.ravel().tolist(), strict=True))}


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 360), st.floats(0, 359), st.floats(-85, 85))
def test_decam_has_its_true_places_wherever_it_points(turn: float, ra: float, dec: float) -> None:
    camera = Camera()
    plane = layout([rotated(row, turn) for row in decam(ra=ra, dec=dec)])
    assert not plane.unplaced
    found = np.array([(p.x + p.width / 2, p.y + p.height / 2) for p in plane.places])
    truth = np.array([camera.centre(ccd) for ccd in CCDS])
    np.testing.assert_allclose(found - found[0], truth - truth[0], atol=0.01)
    assert {place.turn for place in plane.places} == {Turn()}
    assert plane.height == pytest.approx(7 * FULL_NY + 6 * 153)
    assert plane.width == pytest.approx(12 * FULL_NX + 11 * 201)


TURNS = [Turn(*flags) for flags in itertools.product((False, True), repeat=3)]


@pytest.mark.parametrize("first", TURNS)
@pytest.mark.parametrize("second", TURNS)
def test_two_turns_are_one(first: Turn, second: Turn) -> None:
    image = np.arange(6).reshape(2, 3)
    both = first.then(second).apply(image)
    np.testing.assert_array_equal(both, second.apply(first.apply(image)))


def test_each_ccd_may_have_a_reference_point_of_its_own() -> None:
    camera = Camera()
    rows = []
    for ccd in CCDS:
        middle = ((FULL_NX + 1) / 2, (FULL_NY + 1) / 2)
        ra, dec = camera.sky_position(ccd, 150.0, 2.0, *middle)
        own = {"crpix1": middle[0], "crpix2": middle[1], "crval1": ra, "crval2": dec}
        rows.append(wcs(camera, ccd) | own)
    shared, own = layout(decam(ra=150.0, dec=2.0)), layout(rows)
    for one, other in zip(shared.places, own.places, strict=True):
        # Within a tenth of a per cent of the field: meridians converge.
        assert (one.x, one.y) == pytest.approx((other.x, other.y), abs=30)


def test_ccds_mounted_another_way_round_are_turned_into_the_frame() -> None:
    """What is seen at a point of the sky is in the same place whichever way its CCD is read."""
    step = 1e-4
    ways = {
        1: ((0.0, step), (step, 0.0)),  # x north, y east: most CCDs
        2: ((0.0, step), (step, 0.0)),
        3: ((0.0, -step), (-step, 0.0)),  # half a turn
        4: ((step, 0.0), (0.0, step)),  # transposed
        5: ((0.0, -step), (step, 0.0)),  # mirrored along y
    }
    rows, images = [], {}
    for number, matrix in ways.items():
        width, height = (20, 10) if number == 4 else (10, 20)
        centre = np.array([0.0, 0.01 * number])  # degrees east, north
        offset = np.linalg.solve(np.array(matrix), centre)
        rows.append(
            {
                "ccdnum": number, "width": width, "height": height,
                "crpix1": (width + 1) / 2 - offset[0], "crpix2": (height + 1) / 2 - offset[1],
                "crval1": 10.0, "crval2": 0.0,
                "cd1_1": matrix[0][0], "cd1_2": matrix[0][1],
                "cd2_1": matrix[1][0], "cd2_2": matrix[1][1],
            }
        )  # fmt: skip
        y, x = np.indices((height, width)) + 1.0
        # The image is a map of what lies at each point of the sky, in pixels of the frame.
        pixel = np.stack([x - rows[-1]["crpix1"], y - rows[-1]["crpix2"]], axis=-1)
        east, north = np.moveaxis(pixel @ np.array(matrix).T, -1, 0) / step
        images[number] = 3 * east + 7 * north
    plane = layout(rows)
    first = plane.places[0]
    for place in plane.places:
        assert (place.width, place.height) == (10, 20)
        assert place.shape == images[place.ccdnum].shape
        seen = place.turn.apply(images[place.ccdnum])
        y, x = np.indices(seen.shape)
        expected = images[1][0, 0] + 7 * (x + place.x - first.x) + 3 * (y + place.y - first.y)
        np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_a_ccd_without_astrometry_has_no_place_and_moves_no_other() -> None:
    rows = decam()
    whole = layout(rows)
    rows[4] = rows[4] | {"cd1_2": None}
    rows[5] = rows[5] | {"cd1_2": 0.0, "cd2_1": 0.0}
    rows[6] = rows[6] | {"width": None}
    rows[7] = rows[7] | {"crval2": -89.0}
    rows[8] = rows[8] | {"crpix1": float("nan")}
    plane = layout(rows)
    assert plane.unplaced == (5, 6, 7, 8, 9)
    kept = {place.ccdnum: place for place in whole.places}
    for place in plane.places:
        here = (kept[place.ccdnum].x, kept[place.ccdnum].y)
        assert (place.x, place.y) == pytest.approx(here, abs=0.01)


def test_one_ccd_alone_needs_no_astrometry() -> None:
    row = dict.fromkeys(decam()[0]) | {"ccdnum": 7, "width": 41, "height": 51}
    (place,) = layout([row]).places
    assert (place.ccdnum, place.x, place.y, place.shape) == (7, 0, 0, (51, 41))
    assert layout([row, row | {"ccdnum": 8}]).unplaced == (7, 8)
    assert layout([]).places == ()


def test_neighbours_touch() -> None:
    neighbours = layout(decam()).neighbours()
    names = {ccd.num: ccd.name for ccd in CCDS}
    numbers = {ccd.name: ccd.num for ccd in CCDS}

    def around(name: str) -> set[str]:
        return {names[other] for other in neighbours[numbers[name]]}

    # Rows of seven lie square to each other, those of six half a CCD beside them.
    assert around("N4") == {"N3", "N5", "S3", "S4", "S5", "N10", "N11"}
    assert around("N31") == {"N30", "N27", "N28"}
    for one, others in neighbours.items():
        assert one not in others
        assert all(one in neighbours[other] for other in others)


def test_real_cut_outs_of_one_exposure_lie_where_the_sky_says(shared_data: Any) -> None:
    import fitsio

    survey = shared_data / "legacypipe" / "survey"
    rows = []
    for case, number in (("testcase6", 28), ("testcase7", 22)):  # S4, S11
        table = fitsio.read(str(survey / case / "survey-ccds-1.fits.gz"), lower=True)
        (row,) = table[table["expnum"] == 396388]
        rows.append({n: row[n].item() for n in table.dtype.names if row[n].ndim == 0})
        rows[-1] |= {"ccdnum": number}
    plane = layout(rows)
    s11, s4 = plane.places
    moved = (rows[0]["crpix1"] - rows[1]["crpix1"], rows[0]["crpix2"] - rows[1]["crpix2"])
    assert (s11.x - s4.x, s11.y - s4.y) == pytest.approx(moved, abs=1)
