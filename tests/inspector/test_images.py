"""Stretches, the focal plane, binning, the cache: what is drawn is what is there."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from images.pixels import bin_image
from images.stretch import STRETCHES, Stretch, grey, scale_of
from inspector.cache import ImageCache
from inspector.facts import Facts
from inspector.focal_plane import COLUMNS, THUMBNAIL_SIZE, Layout, layout
from inspector.pixels import read_binned
from inspector.render import NoImage, Renderer
from inspector.rounds import Subject
from lake import cameras
from lake.cameras import CAMERAS
from lake.record import Record
from lake.store import Lake
from simulator.camera import CCDS, Camera
from tests.inspector.conftest import Survey, make_round

CAMERA = Camera(64, 128)


def rows(angle: float = 0.0, mirrored: bool = False) -> list[dict[str, Any]]:
    """Return the CCD table of a simulated exposure whose camera is turned by `angle` degrees."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ np.reshape(CAMERA.cd_matrix(), (2, 2))
    if mirrored:
        turned = turned @ np.diag([-1, 1])
    found = []
    for ccd in CCDS:
        crpix = CAMERA.crpix(ccd)
        found.append(
            {
                "ccdnum": ccd.num,
                "ccdname": ccd.name,
                "image_filename": "x.fits.fz",
                "image_hdu": ccd.num,
                "width": 64,
                "height": 128,
                "crpix1": crpix[0],
                "crpix2": crpix[1],
                "crval1": 10.0,
                "crval2": -5.0,
                "cd1_1": turned[0, 0],
                "cd1_2": turned[0, 1],
                "cd2_1": turned[1, 0],
                "cd2_2": turned[1, 1],
            }
        )
    return found


def boxes(found: Layout) -> dict[str, tuple[float, float, float, float]]:
    return {p.ccdname: (p.left, p.top, p.width, p.height) for p in found.places}


@pytest.mark.parametrize("angle", [0, 3, 90, 180, 272])
@pytest.mark.parametrize("mirrored", [False, True])
def test_no_two_ccds_overlap_whatever_the_angle(angle: float, mirrored: bool) -> None:
    found = layout(rows(angle, mirrored))
    placed = list(boxes(found).values())
    for number, (left, top, width, height) in enumerate(placed):
        assert -1e-6 <= left <= left + width <= 1 + 1e-6
        assert -1e-6 <= top <= top + height <= 1 + 1e-6
        for other in placed[number + 1 :]:
            across = min(left + width, other[0] + other[2]) - max(left, other[0])
            down = min(top + height, other[1] + other[3]) - max(top, other[1])
            assert min(across, down) < 1e-6
    area = sum(width * height for _, _, width, height in placed) * found.width * found.height
    assert area == pytest.approx(62 * 64 * 128)


def test_north_is_up_and_east_is_left() -> None:
    found = boxes(layout(rows()))
    for ccd in CCDS:
        ra, dec = CAMERA.sky_position(ccd, 10.0, -5.0, 32.5, 64.5)
        left, top, width, height = found[ccd.name]
        # The simulated focal plane is symmetric about its axis, which lies in the middle.
        assert np.sign(0.5 - (left + width / 2)) == pytest.approx(np.sign(ra - 10), abs=1)
        assert (left + width / 2 - 0.5) * (ra - 10) <= 1e-9
        assert (top + height / 2 - 0.5) * (dec + 5) <= 1e-6


def test_a_pixel_is_turned_with_its_ccd() -> None:
    # x runs south and y east in this camera: the last row of the image is the leftmost column.
    place = layout(rows()).places[0]
    image = np.zeros((128, 64))
    image[127, 0] = 1
    turned = place.turn.apply(image)
    assert turned.shape == (64, 128)
    assert np.argwhere(turned == 1).tolist() == [[0, 0]]


@pytest.mark.parametrize("known", CAMERAS.values(), ids=CAMERAS)
def test_without_any_astrometry_ccds_stand_as_they_are_mounted(known: cameras.Camera) -> None:
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    table = [columns | {"ccdnum": ccd.num, "ccdname": ccd.name} for ccd in known.ccds]
    found = layout(table, known.name)
    places = boxes(found)
    centres = {name: (left + w / 2, top + h / 2) for name, (left, top, w, h) in places.items()}
    middle = np.mean([*centres.values()], axis=0)
    for ccd in known.ccds:
        across, down = np.subtract(centres[ccd.name], middle) * (found.width, found.height)
        assert (across, -down) == pytest.approx(np.multiply((ccd.x, ccd.y), known.pitch), abs=1e-3)
        left, top, width, height = places[ccd.name]
        assert (width * found.width, height * found.height) == pytest.approx(known.size)
        assert min(left, top) >= -1e-6 and max(left + width, top + height) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("camera", "seeing"), [("90prime", "1.36″"), ("decam", "0.79″"), ("hsc", "3.0 pix")]
)
def test_seeing_without_astrometry_is_told_in_the_camera_s_arcsec(
    lake: Lake, camera: str, seeing: str
) -> None:
    keys = {"release": "x", "camera": camera, "night": "20160101"}
    rows = pa.table({"expnum": [1], "fwhm": pa.array([3.0], pa.float32())})
    lake.write("exposures", keys, rows, Record("ingest"))
    shown = Facts(lake).exposure(Subject(camera, 1, release="x", night="20160101"))
    assert dict(shown.facts)["seeing"] == seeing


def test_ccds_that_a_camera_does_not_have_stand_in_a_grid() -> None:
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    table = [columns | {"ccdnum": number, "ccdname": f"x{number}"} for number in (1, 2, 77)]
    assert len({*boxes(layout(table, "mosaic")).values()}) == 3


def test_ccds_without_astrometry_stand_in_a_grid_below_the_others() -> None:
    table = rows()
    table[7]["cd1_2"] = table[9]["width"] = None
    found = boxes(layout(table))
    assert len(set(found.values())) == 62
    lost = {table[7]["ccdname"], table[9]["ccdname"]}
    lowest = max(top + height for name, (_, top, _, height) in found.items() if name not in lost)
    assert all(found[name][1] >= lowest for name in lost)
    for row in table:
        row["crval1"] = None
    assert len(set(boxes(layout(table)).values())) == 62
    with pytest.raises(ValueError, match="no CCDs"):
        layout([])


@pytest.mark.parametrize("stretch", STRETCHES)
def test_a_stretch_shows_the_sky_and_survives_anything(stretch: Stretch) -> None:
    rng = np.random.default_rng(0)
    sky = rng.normal(1000, 10, (200, 300)).astype(np.float32)
    sky[50:60, 50:60] = 60_000
    scale = scale_of(sky, stretch)
    assert 900 < scale.low < 1000 < scale.high
    levels = grey(sky, scale)
    assert levels[55, 55] == 255
    assert 20 < np.median(levels) < 200
    assert levels.std() > 5
    for odd in (np.full((9, 9), np.nan), np.full((9, 9), 3.0), np.array([[np.inf, -np.inf, 1.0]])):
        values = odd.astype(np.float32)
        assert grey(values, scale_of(values, stretch)).shape == odd.shape
    assert grey(np.array([np.nan], np.float32), scale)[0] == 0


def test_a_few_bright_ccds_do_not_blacken_the_others() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.uniform(100, 400, 62), 1000) + rng.normal(0, 2, 62_000)
    levels[:4000] = 1e5
    values = levels.astype(np.float32)
    assert np.median(grey(values, scale_of(values, "zscale"))[4000:]) > 30


def test_binning_some_rows_gives_the_mean_of_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = np.add.outer(np.linspace(0, 400, 161), np.zeros(131)).astype(np.float32)
    image += rng.normal(1000, 1, image.shape).astype(np.float32)
    path = tmp_path / "image.fits.fz"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None)
        file.write(image, extname="N1", compress="RICE", qlevel=16)
    found = read_binned(str(path), [(1, "N1", 1), (2, "N2", 2)], 16)
    assert found[1].shape == (10, 8)  # type: ignore[union-attr]
    # Means of the first 4 of 16 rows: 6 rows, or 15 counts, below the mean of all.
    assert np.abs(found[1] + 15 - bin_image(image, 16)).max() < 2
    assert isinstance(found[2], str)
    assert "no such HDU" in found[2]
    assert "no such file" in str(read_binned(str(tmp_path / "none"), [(1, "N1", 1)], 2)[1])


def test_the_cache_keeps_what_was_used_last_within_its_limit(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 100)
    image = b"\xff\xd8" + b"x" * 26 + b"\xff\xd9"
    for name in "abcd":
        cache.put(name, image)
        cache.get("a")
    assert cache.size <= 100
    assert [cache.has(name) for name in "abcd"] == [True, False, True, True]
    again = ImageCache(tmp_path, 100)
    assert again.get("a") == image
    (tmp_path / "a.jpg").unlink()
    assert again.get("a") is None
    for damaged in (b"", image[:-1], b"\0" * 30):
        again.put("c", damaged)
        assert again.get("c") is None
        assert not again.has("c")
    assert sum(path.stat().st_size for path in tmp_path.glob("*")) <= 100


def drawn(survey: Survey, use: Callable[[Renderer, Layout], Awaitable[bytes]]) -> Image.Image:
    """Draw with a renderer of one process."""
    subject = make_round(survey.lake).subjects[0]
    found = Facts(survey.lake).layout(subject)
    assert found is not None

    async def run() -> bytes:
        cache = ImageCache(survey.directory / "cache", 10**8)
        renderer = Renderer(survey.images, cache, workers=1)
        await renderer.start()
        try:
            return await use(renderer, found)
        finally:
            await renderer.stop()

    return Image.open(io.BytesIO(asyncio.run(run())))


def test_a_cache_that_cannot_be_written_keeps_nothing_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ImageCache(tmp_path / "file" / "images", 1000)
    cache.put("a", b"image")
    assert cache.get("a") is None


def test_a_mosaic_holds_every_ccd_in_its_place(survey: Survey) -> None:
    async def use(renderer: Renderer, found: Layout) -> bytes:
        one, other = await asyncio.gather(
            renderer.mosaic(found, 900, "zscale"), renderer.mosaic(found, 900, "zscale")
        )
        assert one is other  # drawn once
        assert renderer.is_ready(found, 900, "zscale")
        assert not renderer.is_ready(found, 900, "arcsinh")
        small = Image.open(io.BytesIO(await renderer.mosaic(found, THUMBNAIL_SIZE, "zscale")))
        assert max(small.size) < 400
        partly = np.asarray(Image.open(io.BytesIO(await renderer.partial(found, 1800, "arcsinh"))))
        assert partly.any()
        whole = Image.open(io.BytesIO(await renderer.whole(found, 28, "percentile")))
        assert whole.size == (128, 64)
        with pytest.raises(NoImage, match="no CCD 99"):
            await renderer.whole(found, 99, "zscale")
        return one

    image = np.asarray(drawn(survey, use))
    mask = image > 8
    # 62 CCDs of 64 x 128 and nothing between them.
    assert mask.sum() == pytest.approx(62 * 64 * 128, rel=0.05)
    assert not mask[:20, :20].any()


def test_a_ccd_that_cannot_be_read_is_crossed_out_and_the_others_are_shown(
    survey: Survey,
) -> None:
    async def use(renderer: Renderer, found: Layout) -> bytes:
        first, other, *_ = found.places
        lost = replace(other, file="nowhere.fits.fz")
        pair = replace(found, places=(replace(first, top=0.0), replace(lost, top=0.5)))
        with pytest.raises(NoImage, match="no such file"):
            await renderer.mosaic(replace(found, places=(lost,)), 900, "zscale")
        return await renderer.mosaic(pair, 900, "zscale")

    image = np.asarray(drawn(survey, use))
    above, below = (half > 30 for half in np.array_split(image, 2))
    # Two lines, a pixel wide.
    assert 0 < below.sum() < 0.2 * above.sum()


def test_nothing_outside_the_image_folder_is_read(survey: Survey) -> None:
    secret = survey.directory / "secret.fits"
    fitsio.write(str(secret), np.ones((64, 128), np.float32))
    for name in (f"../{survey.directory.name}/secret.fits", str(secret), "", "a\0b", "."):
        row = dict(rows()[0], image_filename=name)

        async def use(renderer: Renderer, found: Layout, row: dict[str, Any] = row) -> bytes:
            for draw in (
                renderer.mosaic(layout([row]), 900, "zscale"),
                renderer.whole(layout([row]), 1, "zscale"),
                renderer.partial(layout([row]), 900, "zscale"),
            ):
                with pytest.raises(NoImage):
                    await draw
            return await renderer.mosaic(found, 100, "zscale")

        survey.lake.remove("rounds", {"round": "first"})
        drawn(survey, use)


def test_an_exposure_that_no_table_knows_has_no_layout(survey: Survey) -> None:
    assert Facts(survey.lake).layout(Subject("decam", 1)) is None
