"""Whole exposures: the mosaic, its statistics, its picture for models, and the engine's part."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.engine import run
from embedders.focal_plane import FocalPlaneEmbedder, modifiers, picture
from embedders.mosaic import CCD, LEVEL, NOISE, Mosaic, binned
from embedders.plan import STAGE
from embedders.statistics.focal_plane import FEATURES, FocalPlaneStatistics, features
from lake.errors import SurveyError
from lake.focal_plane import layout
from lake.store import Lake
from simulator.camera import CCDS, Camera
from simulator.conditions import Exposure, Settings
from simulator.render import simulate_exposure
from simulator.survey import plan
from tests.embedders import planes
from tests.embedders.planes import CAMERA, Light, arc, dark

NIGHT = "20140101"
NAME = "focal-plane-statistics"
#: What a min-max scaler would divide by.
SPAN = np.array([feature.high - feature.low for feature in FEATURES])


def mosaic(
    seed: int, light: Light = dark, camera: Camera = CAMERA, size: int = 480, without: int = 0
) -> np.ndarray:
    made = Mosaic(layout([planes.wcs(camera, ccd) for ccd in CCDS]), size)
    for ccd in CCDS:
        if ccd.num != without:
            made.put(ccd.num, planes.pixels(ccd, seed, light, camera))
    return made.planes


def feature(vector: np.ndarray, name: str) -> float:
    return float(vector[[f.name for f in FEATURES].index(name)])


# ---- the mosaic


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_bins_are_medians_of_cell_means(by: int, ny: int, nx: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.normal(100, 5, (ny, nx)).astype(np.float32)
    image[random.random((ny, nx)) < 0.2] = np.nan
    level, noise = binned(image, by)
    sides = (min(by, ny), min(by, nx))
    assert level.shape == noise.shape == (ny // sides[0], nx // sides[1])
    for (row, column), value in np.ndenumerate(level):
        part = image[row * sides[0] :, column * sides[1] :][: sides[0], : sides[1]]
        # Below 16 pixels a cell is a pixel.
        if np.isfinite(part).any():
            assert value == pytest.approx(np.nanmedian(part), rel=1e-5)
        else:
            assert np.isnan(value)


def test_stars_hardly_touch_a_bin_and_noise_is_that_of_a_pixel() -> None:
    random = np.random.default_rng(1)
    image = random.normal(300, 7, (256, 256)).astype(np.float32)
    image[40:46, 40:46] += 20_000
    level, noise = binned(image, 64)
    assert level == pytest.approx(np.full((4, 4), 300), abs=1)
    assert noise == pytest.approx(np.full((4, 4), 7), rel=0.25)
    assert noise.mean() == pytest.approx(7, rel=0.07)


@pytest.mark.parametrize(("nx", "size"), [(32, 480), (70, 100), (40, 2000)])
def test_every_bin_lies_where_its_pixels_do(nx: int, size: int) -> None:
    """Light that is linear over the focal plane is linear over the mosaic, across all gaps."""
    camera = Camera(nx, 2 * nx)
    by = layout([planes.wcs(camera, ccd) for ccd in CCDS]).binning(size)
    made = mosaic(1, lambda u, v: 3e4 * (u + 2 * v), camera, size)
    level = made[LEVEL]
    y, x = np.nonzero(np.isfinite(level))
    a = np.stack([np.ones_like(x), x, y], axis=1).astype(float)
    solution, *_ = np.linalg.lstsq(a, level[y, x], rcond=None)
    slope = 3e4 * by / camera.radius
    assert solution[1:] == pytest.approx([slope, 2 * slope], rel=0.02)
    off = np.abs(level[y, x] - a @ solution)
    # CCDs are placed to the nearest bin: half a bin along each axis, and the noise.
    assert off.max() < 1.6 * slope + 60


def test_gaps_and_missing_ccds_are_marked() -> None:
    whole, lacking = mosaic(1), mosaic(1, without=28)
    assert set(np.unique(whole[CCD])) == {0.0, *(float(ccd.num) for ccd in CCDS)}
    assert np.isnan(whole[LEVEL][whole[CCD] == 0]).all()
    missing = whole[CCD] == 28
    assert (lacking[CCD][missing] == -28).all() and (lacking[CCD] < 0).sum() == missing.sum()
    assert np.isnan(lacking[LEVEL][missing]).all() and np.isnan(lacking[NOISE][missing]).all()
    np.testing.assert_array_equal(lacking[LEVEL][~missing], whole[LEVEL][~missing])


def test_an_image_of_another_size_than_the_table_says_is_refused() -> None:
    made = Mosaic(layout([planes.wcs(CAMERA, ccd) for ccd in CCDS]), 480)
    with pytest.raises(SurveyError, match=r"31 x 64 pixels, the CCD table says 32 x 64"):
        made.put(1, np.zeros((64, 31), np.float32))


# ---- its statistics


def test_an_arc_over_several_ccds_moves_the_vector_far_more_than_noise() -> None:
    good = np.array([features(mosaic(seed)) for seed in range(4)]) / SPAN
    ghost = features(mosaic(0, arc))
    noise = max(np.linalg.norm(one - other) for one in good for other in good)
    assert np.linalg.norm(ghost / SPAN - good[0]) > 4 * noise
    assert feature(ghost, "bright_ccds") > np.log10(1 + 5)
    assert feature(ghost, "bright_fill") < 0.7


def test_a_simulated_ghost_moves_the_vector_far_more_than_noise() -> None:
    survey = Settings(
        n_nights=1,
        exposures_per_night=1,
        bad_fraction=1,
        classes=("Ghost_scatter",),
        strength_range=(19.9, 20.1),
    )
    (ghost,) = plan(survey, seed=4)
    clean = replace(ghost, conditions=replace(ghost.conditions, patterns=()))

    def vector(exposure: Exposure) -> np.ndarray:
        made = Mosaic(layout([planes.wcs(survey.camera, ccd) for ccd in CCDS]), 480)
        for ccd, image in simulate_exposure(exposure, survey):
            made.put(ccd.num, image)
        return features(made.planes) / SPAN

    first, *others = (vector(replace(clean, seed=seed)) for seed in (1, 2, 3))
    noise = max(np.linalg.norm(other - first) for other in others)
    # Stars, cosmic rays and the PSF differ too from one seed to the next.
    assert np.linalg.norm(vector(replace(ghost, seed=1)) - first) > 3 * noise


def test_light_that_spans_ccds_is_told_from_the_same_light_shuffled_between_them() -> None:
    """As many CCDs are as bright, but nothing goes on beyond a gap."""
    turns = dict(zip((c.num for c in CCDS), np.random.default_rng(3).permutation(62), strict=True))
    made = Mosaic(layout([planes.wcs(CAMERA, ccd) for ccd in CCDS]), 480)
    for ccd in CCDS:
        made.put(ccd.num, planes.pixels(CCDS[turns[ccd.num]], 0, arc))
    shuffled, ghost = features(made.planes), features(mosaic(0, arc))
    assert feature(ghost, "continuity") > feature(shuffled, "continuity") + 0.2
    assert feature(ghost, "bright_ccds") > feature(shuffled, "bright_ccds") + 0.2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ccd_level_high", lambda ccd, image: image * (1.05 if ccd == 20 else 1)),
        ("ccd_level_low", lambda ccd, image: image * (0.95 if ccd == 20 else 1)),
        ("ccd_noise_high", lambda ccd, image: 400 + (image - 400) * (1.5 if ccd == 20 else 1)),
        ("noisy_ccds", lambda ccd, image: 400 + (image - 400) * (1.5 if ccd in (20, 30) else 1)),
        ("amplifier_step", lambda ccd, image: image * np.repeat([1, 1.04], 16)),
        ("gradient", lambda ccd, image: image * (1 + 0.002 * ccd)),
        ("missing_share", lambda ccd, image: None if ccd in (2, 61) else image),
        ("sky_level", lambda ccd, image: image + 4000),
    ],
)
def test_what_is_planted_shows_in_its_feature(name: str, change) -> None:
    made = Mosaic(layout([planes.wcs(CAMERA, ccd) for ccd in CCDS]), 480)
    for ccd in CCDS:
        image = change(ccd.num, planes.pixels(ccd, 0))
        if image is not None:
            made.put(ccd.num, image.astype(np.float32))
    good = [feature(features(mosaic(seed)), name) for seed in range(3)]
    assert feature(features(made.planes), name) > max(good) + 3 * max(np.std(good), 0.01)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9), st.sampled_from([0, 1, 1e9]))
def test_any_mosaic_gives_finite_features(ny: int, nx: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    made = (random.normal(0, scale, (3, ny, nx))).astype(np.float32)
    made[CCD] = random.integers(-3, 4, (ny, nx))
    made[LEVEL][made[CCD] <= 0] = np.nan
    made[NOISE][made[CCD] <= 0] = np.nan
    made[LEVEL, 0, 0], made[CCD, 0, 0] = 5, 1
    found = features(made)
    assert np.isfinite(found).all()
    assert all(f.low <= value <= f.high for f, value in zip(FEATURES, found, strict=True))


# ---- its picture


def test_the_picture_marks_gaps_and_missing_ccds_and_keeps_strength() -> None:
    shown = picture(torch.from_numpy(mosaic(1, without=28)))
    made = mosaic(1)
    assert shown.shape[0] == 3 and shown.shape[1] == shown.shape[2] == max(made[CCD].shape)
    assert shown.isfinite().all() and shown.min() >= 0 and shown.max() <= 1
    top = (shown.shape[1] - made.shape[1]) // 2
    left = (shown.shape[2] - made.shape[2]) // 2
    inner = shown[:, top : top + made.shape[1], left : left + made.shape[2]].numpy()
    assert (inner[2][made[CCD] == 28] == 0).all()
    assert inner[2][made[CCD] == 0] == pytest.approx(0.2)
    assert (inner[2][(made[CCD] > 0) & (made[CCD] != 28)] > 0.4).all()
    assert (inner[:2, made[CCD] == 0] == 0.5).all()

    def strength(part: float) -> float:
        level = picture(torch.from_numpy(mosaic(1, lambda u, v: part * arc(u, v))))[0]
        return float(level.quantile(0.99))

    assert strength(0) + 0.02 < strength(1) < strength(4) - 0.02


class Channels:
    """A model whose vector is the mean of each channel and the side of the picture."""

    batch_size, has_memory, dimension = 2, False, 4

    def __init__(self) -> None:
        self.settings = {"weights": "none", "pixels": "raw", "size": [1, 1]}

    def devices(self, asked: str) -> list[str]:
        return [asked]

    def at_work(self):
        return nullcontext()

    def on_device(self, image, shape):
        return shape(torch.from_numpy(image.copy()))

    def show(self, picture, side):
        return torch.nn.functional.interpolate(picture[None], (side, side))[0]

    def embed_prepared(self, batch):
        return np.array(
            [[*image.mean((1, 2)), image.shape[-1]] for image in batch], dtype=np.float32
        )


def test_several_sides_give_one_vector() -> None:
    embedder = FocalPlaneEmbedder("focal-plane-channels", Channels(), (28, 14))
    assert (embedder.dimension, embedder.view.mosaic) == (8, 28)
    images = [mosaic(seed, size=28) for seed in range(3)]
    vectors = embedder.embed(images)
    assert vectors.shape == (3, 8) and set(vectors[:, 3]) == {28} and set(vectors[:, 7]) == {14}
    together = embedder.embed_prepared([embedder.prepare(image) for image in images])
    np.testing.assert_array_equal(vectors, together)
    assert "pixels" not in embedder.settings and embedder.settings["sides"] == [28, 14]


def test_modifiers_of_a_focal_plane() -> None:
    assert modifiers("focal-plane-dinov2-vits14") == ((924,), False)
    assert modifiers("focal-plane-dinov2-vits14.462.28.masked") == ((462, 28), True)
    for wrong in ("asinh", "100", "0"):
        with pytest.raises(SurveyError, match=r"multiples of 14"):
            modifiers(f"focal-plane-dinov2-vits14.{wrong}")


# ---- the engine


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


def rows(lake: Lake, embedder: str = NAME) -> list[dict]:
    keys = {"embedder": embedder, "camera": "decam", "night": NIGHT}
    return lake.read("embeddings", keys).to_pylist()


def failures(lake: Lake, embedder: str = NAME) -> list[tuple[int, int, str]]:
    where = {"stage": STAGE, "camera": "decam", "night": NIGHT}
    found = lake.read("failures", where, part=embedder).to_pylist()
    return [(row["expnum"], row["ccdnum"], row["error"]) for row in found]


def test_an_exposure_is_a_row_made_of_all_its_ccds(lake: Lake, images: Path) -> None:
    planes.write(lake, images, NIGHT, (1, 2))
    summary = run(lake, NAME, images, workers=1, ccds_per_exposure=3)
    assert (summary.n_images, summary.n_failed) == (2, 0)
    found = rows(lake)
    assert [(row["expnum"], row["ccdnum"]) for row in found] == [(1, 0), (2, 0)]
    for row in found:
        expected = features(mosaic(row["expnum"]))
        assert row["embedding"] == pytest.approx(expected, rel=2e-3, abs=1e-3)
    # The number of CCDs to draw does not apply, so it is no reason to embed again.
    assert run(lake, NAME, images, workers=1).n_skipped == 1


def test_a_bad_ccd_is_a_missing_one_and_is_found_again(lake: Lake, images: Path) -> None:
    planes.write(lake, images, NIGHT, (1,), without=(7, 40))
    path = images / planes.file_name(NIGHT, 1)
    with fitsio.FITS(str(path), "rw") as file:
        file["N3"].write(np.full((64, 32), np.nan, np.float32))
    summary = run(lake, NAME, images, workers=1)
    assert (summary.n_images, summary.n_failed) == (1, 3)
    assert [(expnum, ccd) for expnum, ccd, _ in failures(lake)] == [(1, 7), (1, 34), (1, 40)]
    (row,) = rows(lake)
    assert feature(np.array(row["embedding"]), "missing_share") == pytest.approx(3 / 62, rel=1e-3)
    assert run(lake, NAME, images, workers=1).n_skipped == 1

    planes.write(lake, images, "20140102", (3,))
    before = failures(lake)
    # Another exposure of the night is new: only that one is read, and nothing is forgotten.
    planes.write_rows(lake, NIGHT, (1, 2))
    summary = run(lake, NAME, images, workers=1, partitions=[f"night={NIGHT}"])
    assert (summary.n_images, summary.n_reused, summary.n_failed) == (0, 1, 3 + 62 + 1)
    assert [found for found in failures(lake) if found[0] == 1] == before
    assert failures(lake)[3] == (2, 0, "none of its 62 CCD images could be used")
    assert [row["expnum"] for row in rows(lake)] == [1]


def test_ccds_without_a_place_fail_and_an_exposure_without_any_does(
    lake: Lake, images: Path
) -> None:
    planes.write(lake, images, NIGHT, (1,))
    planes.write_rows(lake, NIGHT, (1,), crval1=None)
    summary = run(lake, NAME, images, workers=1)
    assert (summary.n_images, summary.n_failed) == (0, 63)
    assert "no place in the focal plane" in failures(lake)[1][2]


def test_geometry_that_changes_is_a_reason_to_embed_again(lake: Lake, images: Path) -> None:
    planes.write(lake, images, NIGHT, (1,))
    run(lake, NAME, images, workers=1)
    step = CAMERA.cd_matrix()[1]
    planes.write_rows(lake, NIGHT, (1,), cd1_2=step / 2, cd2_1=-step / 2)
    assert run(lake, NAME, images, workers=1).n_reused == 1  # the plane in pixels is the same
    planes.write_rows(lake, NIGHT, (1,), width=31)
    summary = run(lake, NAME, images, workers=1)
    assert (summary.n_reused, summary.n_failed) == (0, 63)


def test_a_device_is_shown_focal_planes(lake: Lake, images: Path) -> None:
    planes.write(lake, images, NIGHT, (1, 2, 3))
    embedder = FocalPlaneEmbedder("focal-plane-channels", Channels(), (28,))
    summary = run(lake, embedder, images, workers=1)
    assert summary.n_images == 3
    expected = embedder.embed([mosaic(seed, size=28) for seed in (1, 2, 3)])
    found = [row["embedding"] for row in rows(lake, "focal-plane-channels")]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_real_cut_outs_have_focal_planes_too(tmp_path: Path, shared_data: Path) -> None:
    from ingest.ccds import ingest

    survey = shared_data / "legacypipe" / "survey"
    lake = Lake(tmp_path / "real.lake", create=True)
    folders = []
    for case in ("testcase6", "testcase7"):  # an exposure of two CCDs, in a file each
        ingest(lake, [survey / case / "survey-ccds-1.fits.gz"], case)
        folders.append(survey / case / "images")
    summary = run(lake, FocalPlaneStatistics(), folders, workers=1)
    found = [
        row
        for partition in lake.partitions("embeddings")
        for row in lake.read("embeddings", dict(partition.keys)).to_pylist()
    ]
    assert len(found) == summary.n_images == 6 and summary.n_failed == 0
    n_ccds = {row["expnum"]: feature(np.array(row["embedding"]), "n_ccds") for row in found}
    assert n_ccds.pop(396388) == pytest.approx(np.log10(3), rel=1e-3)
    assert list(n_ccds.values()) == pytest.approx([np.log10(2)] * 5, rel=1e-3)
