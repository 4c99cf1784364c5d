"""Pixels that the pipeline's mask or weights call bad, left out."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import fitsio
import numpy as np
import pytest
import torch

from embedders.engine import run
from embedders.plan import STAGE
from embedders.tasks import View
from embedders.torch_embedder import TorchEmbedder
from lake.store import Lake
from tests.embedders.doubles import Mean
from tests.embedders.skies import NAMES, image_name, make, write_rows

NIGHT = "20140101"


class Masked(Mean):
    """Mean and scatter of the good pixels."""

    name = "mean.masked"
    view = View(masked=True)


@pytest.fixture
def images(lake: Lake, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    make(lake, folder, {NIGHT: (1, 2)})
    return folder


def beside(images: Path, expnum: int, kind: str, planes: list[np.ndarray]) -> Path:
    path = images / image_name(NIGHT, expnum).replace("_ooi_", f"_{kind}_")
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(None)
        for name, plane in zip(NAMES, planes, strict=False):
            file.write(plane, extname=name)
    return path


def pixels(images: Path, expnum: int, ccdnum: int) -> np.ndarray:
    return fitsio.read(str(images / image_name(NIGHT, expnum)), ext=NAMES[ccdnum - 1])


def vectors(lake: Lake, embedder: str = "mean.masked") -> dict[tuple[int, int], list[float]]:
    keys = {"embedder": embedder, "camera": "decam", "night": NIGHT}
    rows = lake.read("embeddings", keys).to_pylist()
    return {(row["expnum"], row["ccdnum"]): row["embedding"] for row in rows}


def masks() -> list[np.ndarray]:
    made = [np.zeros((96, 64), np.int16) for _ in NAMES]
    for number, plane in enumerate(made):
        plane[10 * number : 10 * number + 20] = 1 + number
    return made


def test_masked_pixels_do_not_count(lake: Lake, images: Path) -> None:
    weights = [np.ones((96, 64), np.float32) for _ in NAMES]
    weights[0][:, 5], weights[1][:, 6] = 0, np.nan
    beside(images, 1, "ood", masks())
    beside(images, 1, "oow", weights)
    summary = run(lake, Masked(), images, workers=1)
    assert (summary.n_images, summary.n_failed, summary.n_unmasked) == (8, 0, 4)
    found = vectors(lake)
    for number in range(4):
        image = pixels(images, 1, number + 1)
        good = (masks()[number] == 0) & (weights[number] > 0)
        expected = [image[good].mean(), image[good].std()]
        assert found[1, number + 1] == pytest.approx(expected, rel=2e-3)
    # The other exposure has no mask: it is as if unmasked, and counted.
    image = pixels(images, 2, 3)
    assert found[2, 3] == pytest.approx([image.mean(), image.std()], rel=2e-3)
    (partition,) = lake.partitions("embeddings")
    record = partition.record()
    assert record is not None and record.notes["n_unmasked"] == 4


def test_a_mask_that_arrives_later_is_a_reason_to_embed_again(lake: Lake, images: Path) -> None:
    assert run(lake, Masked(), images, workers=1).n_unmasked == 8
    assert run(lake, Masked(), images, workers=1).n_skipped == 1
    beside(images, 2, "ood", masks())
    summary = run(lake, Masked(), images, workers=1)
    assert (summary.n_images, summary.n_reused, summary.n_unmasked) == (4, 4, 4)
    # One that is not asked for changes nothing.
    run(lake, Mean(), images, workers=1)
    beside(images, 1, "ood", masks())
    assert run(lake, Mean(), images, workers=1).n_skipped == 1


def test_a_mask_that_cannot_be_used_fails_its_ccd(lake: Lake, images: Path) -> None:
    beside(images, 1, "ood", [masks()[0], np.zeros((9, 9), np.int16), np.ones((96, 64), np.int16)])
    beside(images, 2, "ood", masks()).write_bytes(b"not FITS")
    summary = run(lake, Masked(), images, workers=1)
    assert (summary.n_images, summary.n_failed) == (1, 7)
    where = {"stage": STAGE, "camera": "decam", "night": NIGHT}
    errors = [row["error"] for row in lake.read("failures", where, part="mean.masked").to_pylist()]
    assert "is not the image's shape" in errors[0] and "no finite pixel" in errors[1]
    assert "no such HDU" in errors[2] and "_ood_" in errors[2]
    assert "not a readable FITS file" in errors[3]


def test_an_uncompressed_mask_and_a_name_without_a_kind(lake: Lake, images: Path) -> None:
    path = beside(images, 1, "ood", masks())
    path.rename(path.with_suffix(""))
    path = images / image_name(NIGHT, 2)
    path.rename(path.with_name("other.fits"))
    assert run(lake, Masked(), images, workers=1).n_unmasked == 4
    write_rows(lake, NIGHT, (2,), image_filename=str(path.with_name("other.fits")))
    assert run(lake, Masked(), images, workers=1).n_unmasked == 4


def test_statistics_know_masked_pixels_as_bad(lake: Lake, images: Path) -> None:
    beside(images, 1, "ood", masks())
    run(lake, "statistics.masked", images, workers=1)
    run(lake, "statistics", images, workers=1)
    (record,) = (p.record() for p in lake.partitions("embeddings", embedder="statistics.masked"))
    assert record is not None and record.settings["embedder"]["masked"] == "ood, oow"
    place = record.notes["features"].index("masked_fraction")
    masked, whole = vectors(lake, "statistics.masked"), vectors(lake, "statistics")
    assert masked[1, 1][place] == pytest.approx(np.log10(20 / 96), abs=0.01)
    assert whole[1, 1][place] == masked[2, 1][place] == -3


class Itself(TorchEmbedder):
    """Shows what a model is given."""

    dimension = 1
    settings: ClassVar[dict[str, object]] = {}

    def _shape_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def show(self, picture: torch.Tensor, side: int) -> torch.Tensor:
        return picture

    def _load(self) -> None:
        return None

    def _vectors(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(1, 2))[:, None]


def test_a_model_is_given_the_local_background_in_their_place() -> None:
    y, x = np.indices((512, 512), dtype=np.float32)
    sky = 300 + x / 4 + y / 8
    image = sky + np.random.default_rng(1).normal(0, 2, sky.shape).astype(np.float32)
    image[20:40, 400:440] = np.nan
    bad = np.isnan(image)
    shown = Itself("cpu", None, None, View(masked=True)).prepare(image).numpy()
    assert shown[bad] == pytest.approx(sky[bad], abs=8)
    np.testing.assert_array_equal(shown[~bad], image[~bad])
    plain = Itself("cpu", None, None).prepare(image).numpy()
    assert plain[bad] == pytest.approx(np.nanmedian(image), abs=0.1)
    image[:, :256] = np.nan  # whole meshes
    assert np.isfinite(Itself("cpu", None, None, View(masked=True)).prepare(image).numpy()).all()
