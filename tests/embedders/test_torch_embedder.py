"""What every model on a device does when memory is short, and which attention it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedders.dinov2 import Architecture, Dinov2Embedder
from embedders.engine import run
from embedders.torch_embedder import fast_attention
from lake.errors import SurveyError
from lake.store import Lake
from tests.embedders import reference
from tests.embedders.skies import make

NIGHT = "20140101"
SHAPE = Architecture(32, 2, 2)


class ShortOfMemory(Dinov2Embedder):
    """A device that holds `most` images at once, and `spare` times fails to take another."""

    most, spare = 3, 0

    def _vectors(self, batch: Tensor) -> Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError(f"{len(batch)} images")
        return super()._vectors(batch)

    def _shape_pixels(self, pixels: Tensor) -> Tensor:
        if self.spare:
            self.spare -= 1
            raise torch.OutOfMemoryError("one image")
        return super()._shape_pixels(pixels)


@pytest.fixture
def images(lake: Lake, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    make(lake, folder, {NIGHT: (1, 2, 3)})
    return folder


@pytest.fixture
def embedder(tmp_path: Path) -> ShortOfMemory:
    state = reference.random_weights(SHAPE.dimension, SHAPE.n_blocks, 0, 5, False, 0)
    torch.save(state, tmp_path / "weights.pth")
    weights = tmp_path / "weights.pth"
    return ShortOfMemory("short.28x28", weights=weights, shape=SHAPE, device="cpu", batch_size=8)


@pytest.mark.parametrize("spare", [0, 1])
def test_short_memory_halves_the_batch_and_goes_on(
    lake: Lake, images: Path, embedder: ShortOfMemory, spare: int
) -> None:
    embedder.spare = spare
    assert run(lake, embedder, images, workers=2).n_images == 12
    assert embedder.batch_size == 2
    found = lake.path("embeddings", {"embedder": "short.28x28", "camera": "decam", "night": NIGHT})
    with_little = found.read_bytes()
    embedder.most = 100
    run(lake, embedder, images, workers=1, force=True)
    assert found.read_bytes() == with_little


@pytest.mark.parametrize(("most", "spare"), [(0, 0), (3, 10)])
def test_memory_for_not_even_one_image_is_said_so(
    lake: Lake, images: Path, embedder: ShortOfMemory, most: int, spare: int
) -> None:
    embedder.most, embedder.spare = most, spare
    with pytest.raises(SurveyError, match="not enough memory for one image"):
        run(lake, embedder, images, workers=1)
    assert not lake.partitions("embeddings")


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0)])
def test_any_gpu_gets_an_attention_that_this_torch_knows(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    query = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    attend = torch.nn.functional.scaled_dot_product_attention
    wanted = attend(query, query, query)
    with fast_attention(torch.device("cuda")):
        found = attend(query, query, query)
    torch.testing.assert_close(found, wanted)
