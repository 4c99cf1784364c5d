"""Backbones of transformers by their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedders import registry
from embedders.backbone import BackboneEmbedder
from embedders.kinds import DeviceEmbedder
from embedders.registry import Options
from lake.errors import SurveyError

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def vit() -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**TINY, intermediate_size=64, image_size=32, patch_size=8))


def mae() -> Any:
    from transformers import ViTMAEConfig, ViTMAEModel

    return ViTMAEModel(ViTMAEConfig(**TINY, intermediate_size=64, image_size=32, patch_size=8))


def clip() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    settings = {**TINY, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    return CLIPVisionModel(CLIPVisionConfig(**settings))


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    )


@pytest.fixture
def sky() -> np.ndarray:
    pixels = np.random.default_rng(0).normal(900, 30, (90, 60)).astype(np.float32)
    pixels[40:44, 20:24] = 40_000
    pixels[3, 3] = np.nan
    return pixels


@pytest.mark.parametrize("build", [vit, mae, clip, resnet])
def test_a_folder_is_an_embedder(tmp_path: Path, sky: np.ndarray, build: Any) -> None:
    torch.manual_seed(0)
    build().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3})
    )
    embedder = registry.embedder(Options("mine", weights=tmp_path, device="cpu"))
    assert isinstance(embedder, DeviceEmbedder) and embedder.dimension == 32
    first, again = (embedder.embed_prepared([embedder.prepare(sky)]) for _ in range(2))
    assert first.shape == (1, 32) and np.isfinite(first).all() and (first == again).all()
    darker = embedder.embed_prepared([embedder.prepare(np.zeros_like(sky) + sky[::-1])])
    assert (darker != first).any()
    assert embedder.settings["mean"] == [0.5] * 3 and embedder.settings["size"] == [32, 32]


def test_pixels_are_a_normalised_photograph(tmp_path: Path, sky: np.ndarray) -> None:
    vit().save_pretrained(tmp_path)
    shaped = BackboneEmbedder("mine", tmp_path).prepare(sky)
    assert shaped.shape == (3, 32, 32)
    back = shaped * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    back = back + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    assert back.min() > -1e-5 and back.max() < 1 + 1e-5
    np.testing.assert_allclose(back[0], back[2], atol=1e-5)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    options = Options("mine", weights=tmp_path)
    with pytest.raises(SurveyError, match="config.json"):
        registry.embedder(options)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    embedder = registry.embedder(options)
    assert isinstance(embedder, DeviceEmbedder)
    with pytest.raises(SurveyError, match="not a model"):
        embedder.embed_prepared([embedder.prepare(np.ones((8, 8), np.float32))])
    with pytest.raises(SurveyError, match="no embedder 'mine'"):
        registry.embedder(Options("mine", weights=tmp_path / "nothing"))
