"""DINOv2, with and without registers: a CCD image to the class token of a vision transformer.

Oquab et al. 2023 (arXiv:2304.07193); registers: Darcet et al. 2023 (arXiv:2309.16588). The paper
on bad exposures (Luo et al. 2026, section 3.1) takes ``dinov2_vitb14_reg``: raw pixel values
without any stretch, the one channel repeated three times, 168 x 84 patches of 14 x 14 pixels,
the class token after the final norm. The resize is that of its published code: bilinear, not
antialiased. Smaller inputs are antialiased, since most pixels would be skipped otherwise; where
that is what is wanted (``.sampled``), the rows that are skipped are not even decoded.

The blocks are transformers'. How tokens are made and read is written out below: positions are
interpolated once, and as the makers' code does it (transformers' differs for models without
registers); and of the last block only the class token is computed, since nothing else is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embedders.pixels import STRETCHES, as_photograph
from embedders.tasks import View
from embedders.torch_embedder import PRECISIONS, TorchEmbedder, fast_attention, quiet
from embedders.weights import Published, checksum, find
from lake.errors import BadInput, Damaged

#: Height and width of the input in pixels: a DECam CCD (4094 x 2046) as 168 x 84 patches.
PAPER_SIZE = (2352, 1176)
PATCH = 14


@dataclass(frozen=True)
class Architecture:
    """The numbers that tell one model of the family from another."""

    dimension: int
    n_blocks: int
    n_heads: int
    n_registers: int = 0
    gated: bool = False  # SwiGLU in place of the two-layer perceptron


_SIZES = {
    "s": ("small", Architecture(384, 12, 6)),
    "b": ("base", Architecture(768, 12, 12)),
    "l": ("large", Architecture(1024, 24, 16)),
    "g": ("giant", Architecture(1536, 40, 24, gated=True)),
}


@dataclass(frozen=True)
class Preset:
    """How pixels are prepared; the default is the paper's."""

    pixels: str = "raw"
    size: tuple[int, int] = PAPER_SIZE
    masked: bool = False
    sampled: bool = False

    @property
    def antialias(self) -> bool:
        """Whether the resize weighs all pixels; the paper's does not, at its own size."""
        return self.size != PAPER_SIZE and not self.sampled

    @property
    def view(self) -> View:
        """What the model is shown of a CCD."""
        return View(masked=self.masked, height=self.size[0] if self.sampled else None)


def preset(modifiers: Sequence[str]) -> Preset:
    """Return what the modifiers behind a name ask for.

    ``asinh``, ``background`` (stretches), ``1176x588`` (height and width of the input), ``masked``,
    ``sampled`` (the paper's resize at another size than its own, of raw pixels).

    Raises `SurveyError` for one it does not know, for a size that is not made of patches, and for
    `sampled` where the rows in between are needed.
    """
    pixels, size, masked, sampled = "raw", PAPER_SIZE, False, False
    for modifier in modifiers:
        sides = re.fullmatch(r"(\d+)x(\d+)", modifier)
        if modifier in STRETCHES:
            pixels = modifier
        elif modifier == "masked":
            masked = True
        elif modifier == "sampled":
            sampled = True
        elif sides and all(int(side) > 0 and int(side) % PATCH == 0 for side in sides.groups()):
            size = (int(sides[1]), int(sides[2]))
        else:
            raise BadInput(
                f"embedder modifier .{modifier}: expected .{', .'.join(STRETCHES)}, .masked, "
                f".sampled, or .HEIGHTxWIDTH in multiples of {PATCH}"
            )
    if sampled and (masked or pixels != "raw" or size == PAPER_SIZE):
        raise BadInput(
            "embedder modifier .sampled: goes with a .HEIGHTxWIDTH and raw pixels, without .masked "
            "(at the paper's own size no row is skipped)"
        )
    return Preset(pixels, size, masked, sampled)


def architecture(name: str) -> Architecture:
    """Return the architecture of ``dinov2-vit{s,b,l,g}14[-reg]``."""
    _, plain = _SIZES[name.removeprefix("dinov2-vit")[0]]
    if not name.endswith("-reg"):
        return plain
    return Architecture(plain.dimension, plain.n_blocks, plain.n_heads, 4, plain.gated)


def published(name: str) -> Published:
    """Return where the weights of ``dinov2-vit{s,b,l,g}14[-reg]`` are to be had."""
    letter = name.removeprefix("dinov2-vit")[0]
    word, registers = _SIZES[letter][0], name.endswith("-reg")
    return Published(
        folder=f"dinov2_vit{letter}14",
        file=f"dinov2_vit{letter}14{'_reg4' if registers else ''}_pretrain.pth",
        repository=f"facebook/dinov2-{'with-registers-' if registers else ''}{word}",
    )


class Dinov2Embedder(TorchEmbedder):
    """A DINOv2 model as an embedder that works on a device.

    Parameters
    ----------
    name : ``dinov2-vit{s,b,l,g}14[-reg]`` and modifiers (see `preset`), joined by ``.``; any
        other name needs `shape` and `weights`.
    weights : file in the makers' format or folder in transformers'; found by itself when None.
    device : ``auto``, or as torch names it.
    precision : of the products inside the blocks, one of `PRECISIONS`; by default bfloat16 on a
        GPU and float32 on a CPU.
    batch_size : images at once; by default 8 on a GPU and 1 on a CPU.
    shape : the architecture, when `name` does not tell.

    Raises
    ------
    SurveyError : the weights cannot be found, or the device or precision do not exist.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: Path | None = None,
        device: str = "auto",
        precision: str | None = None,
        batch_size: int | None = None,
        shape: Architecture | None = None,
    ) -> None:
        self.name = name
        model, *modifiers = name.split(".")
        self._preset = preset(modifiers)
        self._shape = shape or architecture(model)
        super().__init__(device, precision, batch_size, self._preset.view)
        self._weights = weights if shape and weights else find(model, published(model), weights)
        self._checksum = checksum(self._weights)
        self._positions: dict[tuple[int, int], Tensor] = {}

    @property
    def dimension(self) -> int:
        """Length of the class token."""
        return self._shape.dimension

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the vectors."""
        return {
            "weights": self._checksum,
            "pixels": self._preset.pixels,
            **self.bad_pixels,
            "size": list(self._preset.size),
            "resize": f"bilinear{', antialiased' if self._preset.antialias else ''}",
            "pooling": "class token",
            "precision": self.precision,
        }

    def _shape_pixels(self, pixels: Tensor) -> Tensor:
        stretched = STRETCHES[self._preset.pixels](pixels)[None, None]
        return F.interpolate(
            stretched, self._preset.size, mode="bilinear", antialias=self._preset.antialias
        )[0, 0]

    def show(self, picture: Tensor, side: int) -> Tensor:
        """Return a square picture (3, n, n) of values 0 to 1 as the model knows photographs."""
        shown = F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]
        return as_photograph(shown)

    def _vectors(self, batch: Tensor) -> Tensor:
        model = self._loaded()
        # One channel is repeated; a picture has three of its own.
        pixels = batch[:, None].expand(-1, 3, -1, -1) if batch.ndim == 3 else batch
        grid = (pixels.shape[2] // PATCH, pixels.shape[3] // PATCH)
        if grid not in self._positions:
            learned, registers = model.embeddings.position_embeddings, self._shape.n_registers > 0
            # On the processor, so that positions are the same whatever the device.
            positions = interpolate(learned.cpu(), grid, registers)
            self._positions[grid] = positions.to(self.device)
        return class_token(model, pixels, self._positions[grid], PRECISIONS[self.precision])

    def _load(self) -> Any:
        model = load(self._weights, self._shape)
        # Products inside the blocks are what costs; tokens stay in float32 between them,
        # and so do the patches, since raw pixel values need more than eight bits.
        for module in model.encoder.modules():
            if isinstance(module, nn.Linear):
                module.to(PRECISIONS[self.precision])
        return model.to(self.device)


def class_token(
    model: Any, pixels: Tensor, positions: Tensor, precision: torch.dtype = torch.float32
) -> Tensor:
    """Return the class token after the final norm.

    n images, t = 1 + registers + patches tokens, d dimensions.
    """
    embeddings = model.embeddings
    n = len(pixels)
    patches = _patches(embeddings.patch_embeddings.projection, pixels) + positions[:, 1:]
    first = (embeddings.cls_token + positions[:, :1]).expand(n, -1, -1)  # (n, 1, d)
    parts = [first, patches]
    if hasattr(embeddings, "register_tokens"):
        parts.insert(1, embeddings.register_tokens.expand(n, -1, -1))  # (n, registers, d)
    tokens = torch.cat(parts, dim=1)  # (n, t, d)
    blocks = model.encoder.layer
    with torch.autocast(pixels.device.type, precision, enabled=precision != torch.float32):
        with fast_attention(pixels.device):
            for block in blocks[:-1]:
                tokens = block(tokens)
        token = _last_block(blocks[-1], tokens)  # (n, d)
    return model.layernorm(token)


def _patches(projection: Any, pixels: Tensor) -> Tensor:
    """Return the embedded patches (n, patches, d), in float32 proper.

    As a product of matrices: GPUs round the values that a convolution takes to ten bits by
    default (TF32), and raw pixel values need more.
    """
    squares = pixels.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (n, 3, y, 14, x, 14)
    squares = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (n, patches, 588)
    return F.linear(squares, projection.weight.flatten(1), projection.bias)


#: Parts of a block that transformers does not promise to keep.
_INNER_PARTS = (
    *("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"),
    *("attention.num_attention_heads", "attention.head_dim"),
    *("norm1", "norm2", "layer_scale1", "layer_scale2", "mlp"),
)


def _has_inner_parts(block: Any) -> bool:
    """Tell whether a block of the installed transformers is built as `_last_block` reads it."""
    try:
        return all(attrgetter(name)(block) is not None for name in _INNER_PARTS)
    except AttributeError:
        return False


def _last_block(block: Any, tokens: Tensor) -> Tensor:
    """Return what the last block makes of the class token, the only one that is read.

    Where the block is built otherwise, it computes all tokens, which gives the same.
    """
    if not _has_inner_parts(block):
        return torch.as_tensor(block(tokens)[:, 0])
    attention = block.attention
    heads = (attention.num_attention_heads, attention.head_dim)
    normed = block.norm1(tokens)  # (n, t, d)
    query = attention.q_proj(normed[:, :1]).unflatten(-1, heads).transpose(1, 2)  # (n, h, 1, d/h)
    key = attention.k_proj(normed).unflatten(-1, heads).transpose(1, 2)  # (n, h, t, d/h)
    value = attention.v_proj(normed).unflatten(-1, heads).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(query, key, value)  # (n, h, 1, d/h)
    mixed = attention.o_proj(mixed.transpose(1, 2).flatten(2))[:, 0]  # (n, d)
    token = tokens[:, 0] + block.layer_scale1(mixed)
    return token + block.layer_scale2(block.mlp(block.norm2(token)))


def interpolate(positions: Tensor, grid: tuple[int, int], registers: bool) -> Tensor:
    """Return the learned positions (1, 1 + m², d) on another grid, (1, 1 + ny·nx, d).

    Bicubic, as the makers' code has it: for models with registers to the exact size and
    antialiased; for those without by a scale factor that is 0.1 patch too large.
    """
    first, square = positions[:, :1].float(), positions[:, 1:].float()
    m = round(square.shape[1] ** 0.5)
    if grid == (m, m):
        return positions.float()
    square = square.unflatten(1, (m, m)).permute(0, 3, 1, 2)  # (1, d, m, m)
    if registers:
        moved = F.interpolate(square, grid, mode="bicubic", antialias=True)
    else:
        factors = [(length + 0.1) / m for length in grid]
        moved = F.interpolate(square, scale_factor=factors, mode="bicubic")
    return torch.cat([first, moved.flatten(2).transpose(1, 2)], dim=1)


def load(weights: Path, shape: Architecture) -> Any:
    """Return transformers' model with the weights of a file or folder, in float32, to evaluate.

    Raises `SurveyError` when they cannot be read or are another model's.
    """
    if weights.is_dir():
        kind = _kind(shape)
        try:
            with quiet():
                model = kind.from_pretrained(weights, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise Damaged(f"{weights}: cannot be read as a DINOv2 model ({error})") from error
        theirs = model.config
        found = (theirs.hidden_size, theirs.num_hidden_layers, theirs.num_attention_heads)
        if found != (shape.dimension, shape.n_blocks, shape.n_heads) or (
            getattr(theirs, "num_register_tokens", 0) != shape.n_registers
        ):
            raise Damaged(f"{weights}: the weights of another model than {shape}")
        return model.eval()

    state = convert(_read(weights))
    positions = state.get("embeddings.position_embeddings")
    if positions is None or (positions.shape[-1], _n_blocks(state)) != (
        shape.dimension,
        shape.n_blocks,
    ):
        raise BadInput(f"{weights}: not the weights of a DINOv2 model with {shape}")
    with torch.device("meta"):
        model = blank(shape, round((positions.shape[1] - 1) ** 0.5))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise Damaged(f"{weights}: the weights of another model ({error})") from error
    return model.float().eval()


def blank(shape: Architecture, grid: int = 37) -> Any:
    """Return transformers' model of `shape` for grid x grid patches, its weights drawn at random.

    37 x 37 patches are what the published models were trained on.
    """
    settings: dict[str, Any] = {
        "hidden_size": shape.dimension,
        "num_hidden_layers": shape.n_blocks,
        "num_attention_heads": shape.n_heads,
        "patch_size": PATCH,
        "image_size": PATCH * grid,
        "use_swiglu_ffn": shape.gated,
    }
    if shape.n_registers:
        settings["num_register_tokens"] = shape.n_registers
    kind = _kind(shape)
    return kind(kind.config_class(**settings))


def _kind(shape: Architecture) -> Any:
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    return Dinov2WithRegistersModel if shape.n_registers else Dinov2Model


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the makers' weights under transformers' names."""
    converted: dict[str, Tensor] = {}
    for original, tensor in state.items():
        name = original.replace("norm.", "layernorm.", 1) if original[:5] == "norm." else original
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part
        elif ".mlp.w12." in name:
            for half, part in zip(("gate", "up"), tensor.chunk(2), strict=True):
                converted[name.replace(".w12.", f".{half}_proj.")] = part
        else:
            converted[name] = tensor
    return converted


_RENAMED = (
    ("blocks.", "encoder.layer."),
    ("attn.proj.", "attention.o_proj."),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
    ("mlp.w3.", "mlp.down_proj."),
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("pos_embed", "embeddings.position_embeddings"),
    ("cls_token", "embeddings.cls_token"),
    ("register_tokens", "embeddings.register_tokens"),
    ("mask_token", "embeddings.mask_token"),
)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever the bytes provoke
        raise Damaged(f"{file}: cannot be read as weights ({error})") from error
    if not isinstance(state, dict):
        raise BadInput(f"{file}: holds {type(state).__name__}, not a table of weights")
    return state


def _n_blocks(state: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")})
