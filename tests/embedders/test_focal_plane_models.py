"""Vision models that are shown focal planes: what reaches them, and under which names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedders import registry
from embedders.dinov2 import Architecture, Dinov2Embedder, architecture
from embedders.engine import run
from embedders.focal_plane import FocalPlaneEmbedder, picture
from embedders.kinds import DeviceEmbedder
from embedders.registry import Options
from lake.errors import SurveyError
from lake.store import Lake
from simulator.camera import Camera
from tests.embedders import planes, reference
from tests.embedders.test_backbone import vit
from tests.embedders.test_dinov2 import checkpoint
from tests.embedders.test_focal_plane import mosaic

SMALL = Architecture(32, 3, 2, n_registers=4)


def small(file: Path, sides: tuple[int, ...]) -> FocalPlaneEmbedder:
    return FocalPlaneEmbedder(
        "focal-plane-tiny", Dinov2Embedder("tiny", weights=file, shape=SMALL), sides
    )


def test_the_class_token_is_that_of_the_picture_at_each_side(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, SMALL)
    images = [mosaic(1, size=150), mosaic(2, planes.arc, size=100, without=20)]
    vectors = small(file, (112, 56)).embed(images)
    assert vectors.shape == (2, 64)
    for image, vector in zip(images, vectors, strict=True):
        shown = picture(torch.from_numpy(image)).numpy()
        for side, part in ((112, vector[:32]), (56, vector[32:])):
            channels = np.stack([reference.resized(one, (side, side)) for one in shown])
            # The range of photographs after the normalisation that the model was trained with.
            pixels = torch.from_numpy(-2.1 + 4.7 * channels).float()
            token = reference.class_token(torch.load(file), pixels, SMALL.n_heads)
            assert part == pytest.approx(token.numpy(), abs=2e-4)


def test_an_arc_changes_the_patches_it_crosses_far_more_than_noise_changes_any() -> None:
    camera = Camera(64, 128)  # in bins of 8 pixels

    def patches(seed: int, light: planes.Light) -> np.ndarray:
        shown = picture(torch.from_numpy(mosaic(seed, light, camera, 112)))
        side = shown.shape[-1] // 14 * 14
        return shown[:, :side, :side].unfold(1, 14, 14).unfold(2, 14, 14).mean((3, 4)).numpy()

    first, other = (patches(seed, planes.dark) for seed in (0, 1))
    ghost = patches(0, planes.arc)
    noise = np.abs(other - first).max(axis=(1, 2))
    change = np.abs(ghost - first)
    assert (change[0] > 4 * noise[0]).sum() >= 5
    # Noise and coverage do not take part in it.
    assert change[1].max() < 4 * noise[1] and change[2].max() < 0.05


def test_the_published_models_by_name_through_the_engine(lake: Lake, tmp_path: Path) -> None:
    planes.write(lake, tmp_path / "images", "20140101", (1, 2), without=(9,))
    weights = checkpoint(tmp_path, architecture("dinov2-vits14"))
    name = "focal-plane-dinov2-vits14.56.28"
    summary = run(lake, name, tmp_path / "images", weights=weights, device="cpu", workers=1)
    assert (summary.n_images, summary.n_failed) == (2, 2)
    keys = {"embedder": name, "camera": "decam", "night": "20140101"}
    rows = lake.read("embeddings", keys).to_pylist()
    assert [(row["expnum"], row["ccdnum"]) for row in rows] == [(1, 0), (2, 0)]
    embedder = registry.embedder(Options(name, "cpu", weights))
    assert isinstance(embedder, DeviceEmbedder) and embedder.dimension == 2 * 384
    image = embedder.prepare(mosaic(1, size=56, without=9))
    expected = embedder.embed_prepared([image])[0]
    assert rows[0]["embedding"] == pytest.approx(expected, rel=5e-3, abs=5e-3)
    again = run(lake, name, tmp_path / "images", weights=weights, device="cpu", workers=1)
    assert again.n_skipped == 1


def test_a_backbone_of_transformers_by_its_folder(tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path)
    options = Options("focal-plane-mine.masked", "cpu", tmp_path)
    embedder = registry.embedder(options)
    assert isinstance(embedder, FocalPlaneEmbedder)
    assert (embedder.view.mosaic, embedder.view.masked, embedder.dimension) == (32, True, 32)
    prepared = embedder.prepare(mosaic(1, size=32))
    assert prepared[0].shape == (3, 32, 32)
    assert np.isfinite(embedder.embed_prepared([prepared, prepared])).all()
    assert "size" not in embedder.settings and embedder.settings["model"] == "vit"
    with pytest.raises(SurveyError, match="no embedder 'focal-plane-mine'"):
        registry.embedder(Options("focal-plane-mine"))


def test_names_and_modifiers(tmp_path: Path) -> None:
    assert {"focal-plane-statistics", "focal-plane-dinov2-vitb14-reg"} <= set(registry.names())
    weights = checkpoint(tmp_path, architecture("dinov2-vits14"))
    masked = registry.embedder(Options("dinov2-vits14.asinh.masked", "cpu", weights))
    plain = registry.embedder(Options("dinov2-vits14.asinh", "cpu", weights))
    assert isinstance(masked, Dinov2Embedder) and masked.view.masked
    assert masked.settings != plain.settings
    with pytest.raises(SurveyError, match=r"knows no modifier but .masked"):
        registry.embedder(Options("focal-plane-statistics.asinh"))
    with pytest.raises(SurveyError, match="no weights and no precision"):
        registry.embedder(Options("focal-plane-statistics", weights=weights))
    with pytest.raises(SurveyError, match=r"expected .masked"):
        registry.embedder(Options("focal-plane-dinov2-vits14.asinh", weights=weights))
