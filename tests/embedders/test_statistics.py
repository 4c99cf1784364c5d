"""Each family of features answers to its own defect, on any image, of any size and camera."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.sample.vectors import vector_settings
from embedders.engine import run
from embedders.statistics import FEATURES, StatisticsEmbedder, features
from lake.cameras import CAMERAS, Camera, ccd_number, named_constants
from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake, Partition
from tests.embedders.doubles import Mean

#: Vectors of the images of `golden_images`, as version 0.1.0 measured them: (8, 67) float32.
GOLDEN = Path(__file__).with_name("statistics_decam.npy")
NAMES = [f.name for f in FEATURES]
SKY, NOISE = 400.0, 10.0


def star(fwhm: float, half: int = 20) -> np.ndarray:
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return np.asarray((1 + (x**2 + y**2) * 4 * (2 ** (1 / 3) - 1) / fwhm**2) ** -3.0)


def sky(
    seed: int, shape: tuple[int, int] = (256, 128), psf: np.ndarray | None = None, n: float = 1e-3
) -> np.ndarray:
    """Noise and stars of one profile, 4 pixels wide, `n` of them a pixel."""
    rng = np.random.default_rng(seed)
    psf = star(4.0) if psf is None else psf
    psf = psf / psf.sum()
    half = psf.shape[0] // 2
    ny, nx = shape
    light = np.zeros((ny + 2 * half, nx + 2 * half))
    for _ in range(rng.poisson(n * ny * nx)):
        y, x = rng.integers(0, ny), rng.integers(0, nx)
        light[y : y + psf.shape[0], x : x + psf.shape[1]] += psf * 1500 * (1 + rng.pareto(1.0))
    image = SKY + np.minimum(light[half : half + ny, half : half + nx], 25_000)
    return np.asarray(image + rng.normal(0, NOISE, shape), dtype=np.float32)


def vector(image: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, (float(v) for v in features(image)), strict=True))


@pytest.fixture(scope="module")
def good() -> tuple[dict[str, float], dict[str, float]]:
    """Mean and scatter of each feature over 24 good images."""
    vectors = np.array([features(sky(seed)) for seed in range(24)])
    spread = np.maximum(vectors.std(axis=0), 0.01)
    return (
        dict(zip(NAMES, vectors.mean(axis=0), strict=True)),
        dict(zip(NAMES, spread, strict=True)),
    )


def trail(image: np.ndarray) -> np.ndarray:
    psf = sum(np.roll(star(4.0), (k, k), axis=(0, 1)) for k in range(-5, 6))
    return sky(99, psf=np.asarray(psf))


def donut(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[-20:21, -20:21]
    r = np.hypot(x, y)
    return sky(99, psf=((r < 9) & (r > 4)).astype(float))


def double(image: np.ndarray) -> np.ndarray:
    return sky(99, psf=star(4.0) + 0.7 * np.roll(star(4.0), (8, 6), axis=(0, 1)))


def wide(image: np.ndarray) -> np.ndarray:
    return sky(99, psf=star(8.0))


def gradient(image: np.ndarray) -> np.ndarray:
    return image + np.linspace(0, 40, image.shape[0])[:, None]


def ring(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    r = np.hypot(y - 128, x - 64)
    return image + 20 * ((r > 40) & (r < 60))


def amplifier(image: np.ndarray) -> np.ndarray:
    return image + 5 * (np.arange(image.shape[1]) >= image.shape[1] // 2)


def row_noise(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(7)
    return image + rng.normal(0, 0.5 * NOISE, (image.shape[0], 1))


def column_noise(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(2)
    return image + rng.normal(0, 0.3 * NOISE, image.shape[1])[None, :]


def interference(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(7)
    phase = rng.uniform(0, 2 * np.pi, (image.shape[0], 1))
    return image + 0.6 * NOISE * np.sin(2 * np.pi * np.arange(image.shape[1]) / 7 + phase)


def dead_columns(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[:, [20, 40, 90]] = 0
    return image


def dead_half(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[:, :64] = 0
    return image


def saturated(image: np.ndarray) -> np.ndarray:
    return np.minimum(image * 200, 45_000)


def few_stars(image: np.ndarray) -> np.ndarray:
    return sky(99, n=5e-5)


def satellite(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return image + 2 * NOISE * np.exp(-(((y - 2 * x - 10) / np.sqrt(5)) ** 2) / 8)


def oversubtracted(image: np.ndarray) -> np.ndarray:
    return 2 * SKY - image


def cosmic_rays(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    rng = np.random.default_rng(3)
    image[rng.integers(1, 255, 60), rng.integers(1, 127, 60)] += 60 * NOISE
    return image


@pytest.mark.parametrize(
    ("defect", "moved"),
    [
        (trail, ["psf_ellipticity", "psf_trail", "ellipticity_coherence", "repeat_ellipticity"]),
        (donut, ["psf_dip", "psf_fwhm", "psf_half_light", "effective_area"]),
        (double, ["psf_secondary", "repeat_secondary"]),
        (wide, ["psf_fwhm", "psf_half_light", "source_size"]),
        (gradient, ["gradient"]),
        (ring, ["structure_32", "sky_rms", "sky_peak", "sky_edge"]),
        (amplifier, ["amplifier_step"]),
        (row_noise, ["row_noise", "row_correlation"]),
        (column_noise, ["column_noise", "column_correlation"]),
        (interference, ["pattern_x", "pattern_x_frequency"]),
        (dead_columns, ["bad_column_fraction", "zero_fraction", "low_fraction"]),
        (dead_half, ["zero_fraction", "flat_fraction", "amplifier_step"]),
        (saturated, ["saturated_fraction", "sky_level", "flat_fraction"]),
        (few_stars, ["source_density", "psf_stars"]),
        (satellite, ["line"]),
        (oversubtracted, ["negative_density"]),
        (cosmic_rays, ["spike_fraction"]),
    ],
)
def test_a_defect_moves_its_own_features(
    good: tuple[dict[str, float], dict[str, float]],
    defect: Callable[[np.ndarray], np.ndarray],
    moved: list[str],
) -> None:
    mean, scatter = good
    found = vector(defect(sky(99)))
    away = {name: abs(found[name] - mean[name]) / scatter[name] for name in NAMES}
    assert {name: round(away[name], 1) for name in moved if away[name] < 5} == {}


@pytest.mark.parametrize(
    ("defect", "families"),
    [
        (gradient, ("psf_", "row_", "pattern_", "bad_", "source_size", "negative_")),
        (amplifier, ("psf_", "pattern_", "bad_", "source_size", "zero_")),
        (trail, ("amplifier_", "row_", "bad_", "zero_", "gradient", "masked_")),
        (donut, ("amplifier_", "row_", "bad_", "zero_", "gradient", "masked_")),
        (few_stars, ("amplifier_", "row_", "pattern_", "bad_", "zero_", "noise")),
        (interference, ("bad_", "zero_", "amplifier_step", "gradient", "structure_64")),
    ],
)
def test_a_defect_leaves_other_features_alone(
    good: tuple[dict[str, float], dict[str, float]],
    defect: Callable[[np.ndarray], np.ndarray],
    families: tuple[str, ...],
) -> None:
    mean, scatter = good
    found = vector(defect(sky(99)))
    far = {
        name: (found[name], mean[name])
        for name in NAMES
        if name.startswith(families) and abs(found[name] - mean[name]) > 6 * scatter[name]
    }
    assert far == {}


def test_a_cut_out_and_its_frame_agree() -> None:
    frame = sky(5, shape=(1024, 768))
    whole = vector(frame)
    parts = [vector(frame[:256, :256]), vector(frame[700:, 300:600]), vector(frame[300:700])]
    for name in (
        *("sky_level", "noise", "noise_to_poisson", "source_size", "flux_median", "psf_fwhm"),
        *("psf_half_light", "psf_e1", "correlation_x", "row_noise", "structure_8"),
        *("structure_16", "source_density", "repeat_fwhm", "pattern_x", "zero_fraction"),
    ):
        for part in parts:
            assert part[name] == pytest.approx(whole[name], abs=0.15), name


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", ">i4", "<i2", ">u2"])
def test_type_and_byte_order_do_not_matter(dtype: str) -> None:
    image = np.minimum(np.rint(sky(1)), 30_000)
    assert np.array_equal(features(image.astype(dtype)), features(image.astype(np.float32)))


def test_non_contiguous_images_are_measured_and_left_as_they_were() -> None:
    image = sky(2, shape=(256, 256))
    view = image[:, ::2]
    before = view.copy()
    assert np.array_equal(features(view), features(before))
    assert np.array_equal(view, before)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_changes_only_signs(axis: int) -> None:
    image = sky(3, psf=star(4.0) + np.roll(star(4.0), (3, 3), axis=(0, 1)))
    plain, flipped = vector(image), vector(np.flip(image, axis))
    assert plain["psf_e2"] > 0.1
    for name in NAMES:
        expected = -plain[name] if name in ("e2", "psf_e2") else plain[name]
        # Sub-pixel positions round the other way and windows of the mesh shift by a pixel.
        assert flipped[name] == pytest.approx(expected, abs=0.12), name


def test_a_mask_and_a_weight_hide_bad_pixels() -> None:
    image = sky(4)
    sick = image.copy()
    sick[50:60, 30:90] = 50_000
    mask = np.zeros(image.shape, dtype=np.int16)
    mask[50:60, 30:90] = 8
    found = dict(zip(NAMES, features(sick, mask=mask), strict=True))
    assert found["saturated_fraction"] == vector(image)["saturated_fraction"]
    assert found["masked_fraction"] == pytest.approx(np.log10(1e-3 + 600 / image.size), abs=0.01)
    assert np.array_equal(features(sick, mask=mask), features(sick, weight=1.0 - (mask > 0)))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((50, 40), np.nan), "no good pixel"),
        (np.full((50, 40), np.inf), "no good pixel"),
        (np.zeros((0, 40)), "empty"),
        (np.zeros((3, 50, 40)), "3 axes"),
        (np.zeros(7), "1 axes"),
        (np.full((50, 40), "x"), "not numbers"),
        (np.zeros((50, 40), dtype=complex), "not numbers"),
    ],
)
def test_nothing_to_measure_is_said_in_one_line(image: np.ndarray, words: str) -> None:
    with pytest.raises(SurveyError, match=words) as error:
        features(image)
    assert "\n" not in str(error.value)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(SurveyError, match="mask"):
        features(sky(0), mask=np.zeros((3, 3)))


def sane(values: np.ndarray) -> None:
    """Finite, inside each feature's range, and the same after storage as float16."""
    assert values.shape == (len(FEATURES),)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    for value, f in zip(values, FEATURES, strict=True):
        assert f.low - 1e-6 <= value <= f.high + 1e-6, f.name
    assert np.allclose(values, values.astype(np.float16), rtol=1e-3, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    base=st.sampled_from([0.0, -5e3, 1.0, 65_535.0, 3e38, -3e38, 1e-30]),
    noise=st.sampled_from([0.0, 1e-20, 1.0, 1e4, 1e37]),
    holes=st.sampled_from([0.0, 0.1, 0.6]),
    hole=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e38]),
    seed=st.integers(0, 2**16),
)
def test_hostile_images_give_sane_vectors(
    shape: tuple[int, int], base: float, noise: float, holes: float, hole: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = base + noise * rng.standard_normal(shape)
    image[rng.random(shape) < holes] = hole
    image[0, 0] = 1.0
    sane(features(image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (5, 7), (64, 64), (700, 9)])
@pytest.mark.parametrize("value", [0.0, 123.0, -7.0, 65_535.0])
def test_constant_images_give_sane_vectors(shape: tuple[int, int], value: float) -> None:
    sane(features(np.full(shape, value)))


def test_half_of_the_image_missing_is_measured_on_the_other() -> None:
    image = sky(6)
    whole = vector(image)
    image[:128] = np.nan
    half = vector(image)
    for name in ("sky_level", "noise", "psf_fwhm", "correlation_x", "amplifier_step"):
        assert half[name] == pytest.approx(whole[name], abs=0.15), name


def test_names_are_sql_columns() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.isidentifier() and name == name.lower() for name in NAMES)
    assert all(f.unit and f.meaning and f.low <= f.neutral <= f.high for f in FEATURES)


def test_the_embedder_returns_the_features() -> None:
    embedder = StatisticsEmbedder()
    images = [sky(0), sky(1, shape=(60, 41))]
    vectors = embedder.embed(images)
    assert vectors.shape == (2, embedder.dimension)
    assert np.array_equal(vectors[1], features(images[1]))
    assert embedder.embed([]).shape == (0, embedder.dimension)
    assert embedder.settings["features"] == NAMES


def golden_images() -> list[np.ndarray]:
    defects = (saturated, donut, trail, satellite, dead_half)
    good = [sky(0), sky(1, shape=(60, 41)), sky(2, shape=(512, 300))]
    return [*good, *(defect(sky(99)) for defect in defects)]


def test_vectors_of_decam_are_those_of_version_0_1_0() -> None:
    vectors = StatisticsEmbedder().embed(golden_images(), camera="decam")
    # As they are stored: the last bit of float32 is the processor's.
    assert np.array_equal(vectors.astype(np.float16), np.load(GOLDEN).astype(np.float16))
    assert StatisticsEmbedder().settings == {
        "version": 1, "pixel_scale": 0.262, "features": NAMES
    }  # fmt: skip


@pytest.mark.parametrize("known", CAMERAS.values(), ids=CAMERAS)
@pytest.mark.parametrize("seeing", [1.2, 1.8])
def test_seeing_is_in_arcsec_whatever_the_camera(known: Camera, seeing: float) -> None:
    """Stars of a known width on each camera's pixels."""
    image = sky(7, shape=(512, 512), psf=star(seeing / known.pixel_scale), n=4e-4)
    found = dict(zip(NAMES, features(image, camera=known), strict=True))
    # The stack is smoothed by 1-2-1 along both axes, which has a variance of half a pixel; its
    # isophote is counted in whole pixels.
    expected = np.hypot(seeing, 2.355 * np.sqrt(0.5) * known.pixel_scale)
    assert 10 ** found["psf_fwhm"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("known", CAMERAS.values(), ids=CAMERAS)
def test_noise_is_that_of_the_camera_s_electrons(known: Camera) -> None:
    rng = np.random.default_rng(0)
    electrons = rng.poisson(60.0, (512, 256)) + rng.normal(0, known.read_noise, (512, 256))
    image = electrons / known.gain
    found = dict(zip(NAMES, features(image, camera=known), strict=True))
    assert found["noise_to_poisson"] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("known", CAMERAS.values(), ids=CAMERAS)
def test_a_full_well_is_saturated_and_half_of_one_is_not(known: Camera) -> None:
    def share(level: float) -> float:
        image = sky(8)
        image[100:120, 20:60] = level * known.saturation
        found = dict(zip(NAMES, features(image, camera=known), strict=True))
        return 10 ** found["saturated_fraction"] - 1e-3

    size = 20 * 40 / (256 * 128)
    assert share(1.0) - share(0.5) == pytest.approx(size, rel=0.01)


def test_a_camera_that_is_not_known_is_refused() -> None:
    with pytest.raises(SurveyError, match="camera 'hsc' is not known: the cameras are decam"):
        StatisticsEmbedder().embed([sky(0)], camera="hsc")


# --- In a lake: each camera's images with its own constants ---

NIGHT, SEEING, EXPTIME = "20170429", 1.5, 80.0
PLACES = {"decam": "N4", "mosaic": "ccd3", "90prime": "ccd4", "lsstcam": "R22_S11", "hsc": "ccd1"}


def observe(lake: Lake, images: Path, name: str, exptime: float | None = EXPTIME) -> None:
    """Write an image as the camera's pipeline does, in its units, and the CCD row that names it."""
    known = CAMERAS.get(name, CAMERAS["decam"])
    light = sky(7, shape=(512, 512), psf=star(SEEING / known.pixel_scale), n=4e-4)
    pixels = light * known.gain / EXPTIME if known.is_per_second else light
    file = f"{name}.fits"
    images.mkdir(exist_ok=True)
    with fitsio.FITS(str(images / file), "rw", clobber=True) as fits:
        fits.write(None, header={} if exptime is None else {"EXPTIME": exptime})
        fits.write(pixels.astype(np.float32), extname=PLACES[name])
    row = {
        "expnum": 1, "ccdnum": ccd_number(name, PLACES[name]), "ccdname": PLACES[name],
        "image_hdu": 1, "image_filename": file,
    }  # fmt: skip
    keys = {"release": "x", "camera": name, "night": NIGHT}
    lake.write("ccds", keys, pa.Table.from_pylist([row]), Record("ingest", inputs={name: "x"}))


def partition(name: str) -> dict[str, str]:
    return {"embedder": "statistics", "camera": name, "night": NIGHT}


def test_every_camera_in_a_lake_is_measured_with_its_own_constants(
    lake: Lake, tmp_path: Path
) -> None:
    for name in CAMERAS:
        observe(lake, tmp_path / "images", name)
    summary = run(lake, "statistics", tmp_path / "images", workers=1)
    assert summary.n_images == len(CAMERAS)
    for name, known in CAMERAS.items():
        (row,) = lake.read("embeddings", partition(name)).to_pylist()
        found = dict(zip(NAMES, row["embedding"], strict=True))
        expected = np.hypot(SEEING, 2.355 * np.sqrt(0.5) * known.pixel_scale)
        assert 10 ** found["psf_fwhm"] == pytest.approx(expected, rel=0.1), name
        # Whatever the images count, the sky is in ADU.
        assert found["sky_level"] == pytest.approx(np.arcsinh(SKY / 10), abs=0.02), name
        record = lake.record("embeddings", partition(name))
        assert record is not None
        assert record.settings["embedder"] == StatisticsEmbedder().settings
        assert record.settings.get("camera", {}) == named_constants(name)
    assert "camera" not in (lake.record("embeddings", partition("decam")) or Record("")).settings
    # Made with one algorithm, they may stand in one sample.
    assert len({vector_settings(part) for part in lake.partitions("embeddings")}) == 1
    again = run(lake, "statistics", tmp_path / "images", workers=1)
    assert again.n_skipped == len(CAMERAS)


def test_vectors_made_with_decams_constants_count_as_made_by_another_algorithm(
    lake: Lake, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    for name in ("decam", "90prime"):
        observe(lake, images, name)
    run(lake, "statistics", images, workers=1)
    # As version 0.1.0 left them.
    for name in ("decam", "90prime"):
        record = lake.record("embeddings", partition(name))
        assert record is not None
        old = replace(record, settings={"embedder": record.settings["embedder"]})
        lake.write("embeddings", partition(name), lake.read("embeddings", partition(name)), old)
    decam, ninety = (
        Partition("embeddings", tuple(partition(name).items()), lake.path("embeddings",
                  partition(name))) for name in ("decam", "90prime")
    )  # fmt: skip
    assert vector_settings(decam) != vector_settings(ninety)
    with pytest.raises(SurveyError, match=r"camera=90prime.*pixel_scale 0.262 there, 0.453 now"):
        run(lake, "statistics", images, workers=1)
    before = decam.path.stat().st_mtime_ns
    run(lake, "statistics", images, partitions=["camera=90prime"], force=True, workers=1)
    assert vector_settings(decam) == vector_settings(ninety)
    assert run(lake, "statistics", images, workers=1).n_skipped == 2
    assert decam.path.stat().st_mtime_ns == before


@pytest.mark.parametrize("exptime", [None, 0.0, -1.0])
def test_counts_per_second_without_an_exposure_time_fail(
    lake: Lake, tmp_path: Path, exptime: float | None
) -> None:
    observe(lake, tmp_path / "images", "mosaic", exptime)
    observe(lake, tmp_path / "images", "decam", exptime)
    assert run(lake, "statistics", tmp_path / "images", workers=1).n_images == 1
    where = {"stage": "embed", "camera": "mosaic", "night": NIGHT}
    (row,) = lake.read("failures", where, part="statistics").to_pylist()
    assert row["error"] == f"mosaic counts electrons per second, but EXPTIME is {exptime!r}"


def test_a_camera_that_is_not_known_fails_where_constants_count(lake: Lake, tmp_path: Path) -> None:
    for name in ("hsc", "decam"):
        observe(lake, tmp_path / "images", name)
    assert run(lake, "statistics", tmp_path / "images", workers=1).n_images == 1
    where = {"stage": "embed", "camera": "hsc", "night": NIGHT}
    (row,) = lake.read("failures", where, part="statistics").to_pylist()
    assert row["error"].startswith("camera 'hsc' is not known")
    assert run(lake, Mean(), tmp_path / "images", workers=1).n_images == 2


def test_real_images_give_sane_vectors(shared_data: Path) -> None:
    files = sorted((shared_data / "legacypipe" / "survey").glob("*/images/**/*_ooi_*.fits*"))
    assert len(files) >= 19
    for file in files:
        with fitsio.FITS(file) as hdus:
            images = [hdu.read() for hdu in hdus if hdu.has_data()]
        assert images, file
        for image in images:
            sane(features(image))
            # DECam's noise is that of its photons: the cut-outs are real and read aright.
            assert abs(vector(image)["noise_to_poisson"]) < 0.5, file
