"""The focal plane has DECam's names and places."""

from __future__ import annotations

import numpy as np
import pytest

from lake.cameras import DECAM
from simulator.camera import CCDS, Camera

FULL = Camera()


def test_ccds_carry_decam_numbers_and_names() -> None:
    assert {ccd.num: ccd.name for ccd in CCDS} == DECAM.ccdnames


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S4", (12289, 12289)),
        ("N2", (14337, 4097)),
        ("N10", (16385, 10241)),
        ("N12", (16385, 18433)),
        ("S9", (10241, 6145)),
        ("S11", (10241, 14337)),
        ("N15", (18433, 6145)),
        ("N6", (14337, 20481)),
    ],
)
def test_detsec_is_where_real_headers_put_the_ccd(name: str, expected: tuple[int, int]) -> None:
    # real headers trim up to five pixels at the edges
    section = FULL.detsec(next(ccd for ccd in CCDS if ccd.name == name))
    x, y = (int(part.split(":")[0]) for part in section.strip("[]").split(","))
    assert (x, y) == expected


@pytest.mark.parametrize("camera", [FULL, Camera(128, 256), Camera(300, 100)])
def test_ccds_do_not_overlap_and_gaps_keep_their_share(camera: Camera) -> None:
    corners = []
    for ccd in CCDS:
        crpix1, crpix2 = camera.crpix(ccd)
        corners.append((1 - crpix1, camera.nx - crpix1, 1 - crpix2, camera.ny - crpix2))
    for i, (a0, a1, b0, b1) in enumerate(corners):
        for c0, c1, d0, d1 in corners[i + 1 :]:
            assert a1 < c0 or c1 < a0 or b1 < d0 or d1 < b0
    assert camera.pitch[0] / camera.nx == pytest.approx(FULL.pitch[0] / FULL.nx)
    assert camera.pitch[1] / camera.ny == pytest.approx(FULL.pitch[1] / FULL.ny)


def test_north_is_where_x_falls_and_the_centres_average_to_the_boresight() -> None:
    positions = np.array(
        [FULL.sky_position(ccd, 150.0, 2.0, FULL.nx / 2, FULL.ny / 2) for ccd in CCDS]
    )
    assert positions.mean(axis=0) == pytest.approx([150.0, 2.0], abs=0.01)
    south_row = [index for index, ccd in enumerate(CCDS) if ccd.name in ("S29", "S30", "S31")]
    # DECam's S CCDs see the north of the field
    assert (positions[south_row, 1] > 2.8).all()
    # 2.2 degrees across
    assert np.ptp(positions[:, 1]) == pytest.approx(1.8, abs=0.1)


def test_sky_position_is_the_tangent_plane_of_astropy() -> None:
    wcs = pytest.importorskip("astropy.wcs")
    ccd = CCDS[10]
    header = wcs.WCS(naxis=2)
    header.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    header.wcs.crval = [359.9, -29.0]
    header.wcs.crpix = FULL.crpix(ccd)
    header.wcs.cd = np.reshape(FULL.cd_matrix(), (2, 2))
    expected = header.wcs_pix2world([[100.0, 3000.0]], 1)[0]
    assert FULL.sky_position(ccd, 359.9, -29.0, 100.0, 3000.0) == pytest.approx(tuple(expected))
