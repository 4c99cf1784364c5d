"""DINOv2: the makers' class token, the paper's pixels, and weights wherever they are."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from embedders import weights
from embedders.dinov2 import (
    PAPER_SIZE,
    Architecture,
    Dinov2Embedder,
    architecture,
    convert,
    load,
    published,
)
from embedders.engine import run
from lake.errors import SurveyError
from lake.store import Lake
from tests.embedders import reference
from tests.embedders.skies import image_name, make

#: Small, and as far from square as the paper's input.
SIZE = (14 * 12, 14 * 6)
#: Wide enough that torch would share its sums among threads.
WIDE = Architecture(384, 2, 6)
SHAPES = [
    Architecture(32, 3, 2, registers, gated) for registers in (0, 4) for gated in (False, True)
]


def checkpoint(folder: Path, shape: Architecture, seed: int = 0) -> Path:
    """Write random weights in the makers' format."""
    state = reference.random_weights(
        shape.dimension, shape.n_blocks, shape.n_registers, 5, shape.gated, seed
    )
    file = folder / f"weights-{seed}.pth"
    torch.save(state, file)
    return file


def tiny(file: Path, shape: Architecture = SHAPES[2], **options: object) -> Dinov2Embedder:
    return Dinov2Embedder("dinov2-tiny.168x84", weights=file, shape=shape, **options)  # type: ignore[arg-type]


def sky(shape: tuple[int, int] = (300, 150)) -> np.ndarray:
    random = np.random.default_rng(0)
    pixels = random.normal(900, 30, shape)
    pixels[40:44, 60:64] = 40_000
    return pixels.astype(np.float32)


def expected(file: Path, image: np.ndarray, shape: Architecture) -> np.ndarray:
    pixels = torch.from_numpy(reference.resized(image, SIZE)).float().expand(3, -1, -1)
    return reference.class_token(torch.load(file), pixels, shape.n_heads).numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_class_token_is_the_original_implementations(tmp_path: Path, shape: Architecture) -> None:
    file = checkpoint(tmp_path, shape)
    images = [sky(), sky((200, 400)) / 3]
    vectors = tiny(file, shape, batch_size=2).embed(images)
    for vector, image in zip(vectors, images, strict=True):
        assert vector == pytest.approx(expected(file, image, shape), abs=2e-4)


class Opaque(torch.nn.Module):
    """A block of which nothing is known but that it maps tokens to tokens."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.whole = block

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.whole(tokens)
        return result


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_that_are_built_otherwise_give_the_same(tmp_path: Path, shape: Architecture) -> None:
    file, image = checkpoint(tmp_path, shape), sky()
    embedder = tiny(file, shape)
    expected_vector = embedder.embed([image])
    blocks = embedder._loaded().encoder.layer
    blocks[-1] = Opaque(blocks[-1])
    np.testing.assert_allclose(embedder.embed([image]), expected_vector, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_formats_of_the_weights_are_one_model(tmp_path: Path, shape: Architecture) -> None:
    file = checkpoint(tmp_path, shape)
    save_file(torch.load(file), tmp_path / "weights.safetensors")
    load(file, shape).save_pretrained(tmp_path / "folder")
    vectors = [
        tiny(path, shape).embed([sky()])
        for path in (file, tmp_path / "weights.safetensors", tmp_path / "folder")
    ]
    # Where the weights lie in memory decides the order of some sums.
    np.testing.assert_allclose(vectors[1], vectors[0], atol=2e-5)
    np.testing.assert_allclose(vectors[2], vectors[0], atol=2e-5)


def test_class_token_at_the_papers_size(tmp_path: Path) -> None:
    shape = Architecture(8, 1, 1, n_registers=4)
    file = checkpoint(tmp_path, shape)
    embedder = Dinov2Embedder("dinov2-tiny", weights=file, shape=shape)
    assert embedder.settings["size"] == [168 * 14, 84 * 14]
    prepared = embedder.prepare(sky((409, 204)))
    wanted = reference.class_token(torch.load(file), prepared.expand(3, -1, -1), 1)
    np.testing.assert_allclose(embedder.embed_prepared([prepared])[0], wanted, atol=1e-4)


@pytest.mark.parametrize("shape", [(4094, 2046), (251, 251), (41, 60)])
def test_pixels_are_raw_values_resized(tmp_path: Path, shape: tuple[int, int]) -> None:
    embedder = Dinov2Embedder(
        "dinov2-tiny", weights=checkpoint(tmp_path, SHAPES[2]), shape=SHAPES[2]
    )
    image = sky(shape)
    prepared = embedder.prepare(image).numpy()
    assert prepared.shape == PAPER_SIZE and prepared.dtype == np.float32
    scale = np.abs(image).max()
    wanted = reference.resized(image, PAPER_SIZE, antialias=False)
    np.testing.assert_allclose(prepared, wanted, atol=1e-5 * scale)


def test_pixels_of_a_real_image(tmp_path: Path, shared_data: Path) -> None:
    embedder = Dinov2Embedder(
        "dinov2-tiny", weights=checkpoint(tmp_path, SHAPES[2]), shape=SHAPES[2]
    )
    survey = shared_data / "legacypipe" / "survey"
    for file in sorted(survey.glob("*/images/**/*_ooi_*.fits*"))[:3]:
        image = fitsio.read(str(file), ext=1).astype(np.float32)
        wanted = reference.resized(image, PAPER_SIZE, antialias=False)
        scale = np.abs(image).max()
        np.testing.assert_allclose(embedder.prepare(image).numpy(), wanted, atol=1e-5 * scale)


def test_smaller_inputs_leave_no_pixel_out(tmp_path: Path) -> None:
    small, image = tiny(checkpoint(tmp_path, SHAPES[2])), sky((4094, 2046))
    wanted = reference.resized(image, SIZE)
    np.testing.assert_allclose(small.prepare(image).numpy(), wanted, atol=1e-5 * image.max())
    paper = Dinov2Embedder("dinov2-tiny", weights=checkpoint(tmp_path, SHAPES[2]), shape=SHAPES[2])
    assert small.settings["resize"] != paper.settings["resize"] == "bilinear"


def test_sampled_inputs_are_the_published_ways(lake: Lake, tmp_path: Path) -> None:
    images, file = tmp_path / "images", checkpoint(tmp_path, SHAPES[2])
    make(lake, images, {"20140101": (1,)}, names=("S29", "S30"))
    name = "dinov2-tiny.28x42.sampled"
    sampled = Dinov2Embedder(name, weights=file, shape=SHAPES[2])
    assert run(lake, sampled, images, workers=1).n_images == 2
    keys = {"embedder": name, "camera": "decam", "night": "20140101"}
    found = lake.read("embeddings", keys)["embedding"].to_pylist()
    frames = [
        fitsio.read(str(images / image_name("20140101", 1)), ext=ext) for ext in ("S29", "S30")
    ]
    for vector, whole, pixels in zip(found, sampled.embed(frames), frames, strict=True):
        shown = reference.resized(pixels, (28, 42), antialias=False)
        three = torch.from_numpy(shown).float().expand(3, -1, -1)
        wanted = reference.class_token(torch.load(file), three, SHAPES[2].n_heads).numpy()
        assert vector == pytest.approx(wanted, abs=5e-3)
        assert whole == pytest.approx(wanted, abs=2e-4)


@pytest.mark.parametrize(
    "name", ["sampled", "asinh.28x42.sampled", "28x42.masked.sampled", "background.sampled.28x42"]
)
def test_sampled_goes_with_raw_pixels_and_a_size_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(SurveyError, match=r"\.sampled: goes with"):
        Dinov2Embedder(f"tiny.{name}", weights=checkpoint(tmp_path, SHAPES[2]), shape=SHAPES[2])


def test_pixels_that_are_not_finite_take_the_median(tmp_path: Path) -> None:
    embedder = tiny(checkpoint(tmp_path, SHAPES[2]))
    image = np.full((50, 40), 7, np.float32)
    image[3, 4], image[10] = np.nan, np.inf
    assert (embedder.prepare(image) == 7).all()


def test_presets_prepare_pixels_otherwise(tmp_path: Path) -> None:
    file, image = checkpoint(tmp_path, SHAPES[2]), sky((400, 300))
    image += np.linspace(0, 500, 400, dtype=np.float32)[:, None]
    options = {"weights": file, "shape": SHAPES[2]}
    asinh = Dinov2Embedder("tiny.asinh.168x84", **options)  # type: ignore[arg-type]
    stretched = asinh.prepare(image)
    assert stretched.shape == SIZE and -2.11 < stretched.min() < stretched.max() < 2.61
    # A stretch in units of the noise does not see the unit of the pixels.
    np.testing.assert_allclose(asinh.prepare(3 * image + 70), stretched, atol=2e-3)

    flat = Dinov2Embedder("tiny.background", **options)  # type: ignore[arg-type]
    subtracted = flat.prepare(image)
    left, right = (float(part.median()) for part in subtracted.chunk(2))
    assert abs(left - right) < 0.5 and subtracted.max() > 100  # the ramp was 17 times the noise
    assert len({str(sorted(e.settings.items())) for e in (asinh, flat, tiny(file))}) == 3
    for constant in (np.zeros((30, 20), np.float32), np.ones((1, 1), np.float32)):
        assert asinh.prepare(constant).isfinite().all() and flat.prepare(constant).isfinite().all()
    for wrong in ("tiny.log", "tiny.100x100", "tiny.0x14"):
        with pytest.raises(SurveyError, match=r"modifier \."):
            Dinov2Embedder(wrong, **options)  # type: ignore[arg-type]


def test_an_image_may_be_overwritten_once_it_is_prepared(tmp_path: Path) -> None:
    embedder = tiny(checkpoint(tmp_path, SHAPES[2]))
    image = sky(SIZE)  # nothing to resize: no reason to copy either
    prepared = embedder.prepare(image)
    before = prepared.clone()
    image[:] = 0
    assert torch.equal(prepared, before)


def test_bfloat16_agrees_with_float32(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, SHAPES[2])
    full, half = (
        tiny(file, precision=precision).embed([sky()])[0] for precision in ("float32", "bfloat16")
    )
    cosine = full @ half / np.linalg.norm(full) / np.linalg.norm(half)
    assert cosine >= 0.999 and (full != half).any()


def test_settings_tell_vectors_apart(tmp_path: Path) -> None:
    one, other = (tiny(checkpoint(tmp_path, SHAPES[2], seed)) for seed in (1, 2))
    assert one.settings != other.settings
    assert one.settings != tiny(checkpoint(tmp_path, SHAPES[2], 1), precision="bfloat16").settings
    assert one.settings == tiny(checkpoint(tmp_path, SHAPES[2], 1), batch_size=3).settings


def test_through_the_engine(lake: Lake, tmp_path: Path) -> None:
    images = tmp_path / "images"
    make(lake, images, {"20140101": (1,)}, names=("S29", "S30"))
    file = checkpoint(tmp_path, SHAPES[2])
    summary = run(lake, tiny(file), images, workers=1)
    assert (summary.n_images, summary.n_failed) == (2, 0)
    keys = {"embedder": "dinov2-tiny.168x84", "camera": "decam", "night": "20140101"}
    (first, _) = lake.read("embeddings", keys)["embedding"].to_pylist()
    pixels = fitsio.read(str(images / image_name("20140101", 1)), ext="S29")
    assert first == pytest.approx(expected(file, pixels, SHAPES[2]), abs=5e-3)
    with pytest.raises(SurveyError, match="weights"):
        run(lake, tiny(checkpoint(tmp_path, SHAPES[2], seed=3)), images)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, SHAPES[2])
    for wrong in (SHAPES[0], SHAPES[3], Architecture(64, 3, 2, 4), Architecture(32, 2, 2, 4)):
        with pytest.raises(SurveyError, match="weights"):
            tiny(file, wrong).embed([sky()])
    load(file, SHAPES[2]).save_pretrained(tmp_path / "folder")
    with pytest.raises(SurveyError, match="another model"):
        tiny(tmp_path / "folder", Architecture(32, 2, 2, 4)).embed([sky()])
    file.write_bytes(b"not weights")
    with pytest.raises(SurveyError, match="cannot be read as weights"):
        tiny(file).embed([sky()])


def test_weights_are_found_where_others_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, where = "dinov2-vitb14-reg", published("dinov2-vitb14-reg")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(weights, "_cached_snapshot", lambda repository: None)
    monkeypatch.setattr(weights, "_download", lambda repository: None)
    with pytest.raises(SurveyError) as caught:
        weights.find(name, where, None)
    message = str(caught.value)
    assert where.url in message and str(tmp_path / "torch") in message and "--weights" in message

    monkeypatch.setattr(weights, "_download", lambda repository: tmp_path / repository)
    assert weights.find(name, where, None) == (tmp_path / "facebook" / "dinov2-with-registers-base")
    cached = weights.hub_folder() / "dinov2_vitb14_reg4_pretrain.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert weights.find(name, where, None) == cached
    assert weights.find(name, where, cached.parent) == cached
    for wrong in (tmp_path / "nothing", tmp_path):
        with pytest.raises(SurveyError, match="--weights"):
            weights.find(name, where, wrong)


def test_the_family() -> None:
    assert architecture("dinov2-vitb14-reg") == Architecture(768, 12, 12, 4)
    assert architecture("dinov2-vits14") == Architecture(384, 12, 6)
    assert architecture("dinov2-vitl14-reg") == Architecture(1024, 24, 16, 4)
    assert architecture("dinov2-vitg14") == Architecture(1536, 40, 24, 0, gated=True)
    assert published("dinov2-vitg14").file == "dinov2_vitg14_pretrain.pth"
    assert published("dinov2-vitl14").repository == "facebook/dinov2-large"


@pytest.mark.parametrize("name", ["dinov2-vits14", "dinov2-vitb14-reg", "dinov2-vitg14-reg"])
def test_names_of_the_makers_weights_are_all_known(name: str) -> None:
    """Every name of a published checkpoint has its place in transformers' model."""
    from transformers import Dinov2Config, Dinov2Model
    from transformers import Dinov2WithRegistersConfig as RegisterConfig
    from transformers import Dinov2WithRegistersModel as RegisterModel

    shape = architecture(name)
    small = Architecture(16, 2, 2, shape.n_registers, shape.gated)
    state = reference.random_weights(16, 2, small.n_registers, 37, small.gated)
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 518,
        "patch_size": 14,
        "use_swiglu_ffn": shape.gated,
    }
    model = (
        RegisterModel(RegisterConfig(**settings))
        if small.n_registers
        else Dinov2Model(Dinov2Config(**settings))
    )
    assert {key: value.shape for key, value in convert(state).items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "--device abacus"),
        ({"precision": "float64"}, "--precision float64"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SurveyError, match=message):
        tiny(checkpoint(tmp_path, SHAPES[2]), **options)


def test_vectors_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    embedder = Dinov2Embedder(
        "small.asinh.168x84", weights=checkpoint(tmp_path, WIDE), shape=WIDE, device="cpu"
    )
    images, before = [sky(), sky((200, 400)), sky((64, 64))], torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = embedder.embed(images)
        torch.set_num_threads(4)
        together = embedder.embed(images)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(together, alone)


def test_a_run_leaves_the_number_of_threads_as_it_was(lake: Lake, tmp_path: Path) -> None:
    images, before = tmp_path / "images", torch.get_num_threads()
    make(lake, images, {"20140101": (1, 2, 3)})
    embedder = tiny(checkpoint(tmp_path, SHAPES[2]), device="cpu")
    try:
        torch.set_num_threads(4)
        run(lake, embedder, images, workers=2)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
