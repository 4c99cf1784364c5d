"""The vision transformer of DINOv2, written again from its papers and its weights' names.

An independent and slow account of what `embedders.dinov2` must compute: plain attention, every
token through every block, weights under their makers' names.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def random_weights(
    dimension: int, n_blocks: int, n_registers: int, grid: int, gated: bool, seed: int = 0
) -> dict[str, Tensor]:
    """Return random weights under the names of the makers' checkpoints."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 0.2) -> Tensor:
        return torch.randn(*shape, generator=random) * scale

    d, hidden = dimension, 4 * dimension
    state = {
        "cls_token": draw(1, 1, d),
        "pos_embed": draw(1, 1 + grid * grid, d),
        "mask_token": torch.zeros(1, d),
        "patch_embed.proj.weight": draw(d, 3, 14, 14, scale=0.02),
        "patch_embed.proj.bias": draw(d),
        "norm.weight": 1 + draw(d),
        "norm.bias": draw(d),
    }
    if n_registers:
        state["register_tokens"] = draw(1, n_registers, d)
    for block in range(n_blocks):
        shapes = {
            "norm1.weight": (d,),
            "norm1.bias": (d,),
            "attn.qkv.weight": (3 * d, d),
            "attn.qkv.bias": (3 * d,),
            "attn.proj.weight": (d, d),
            "attn.proj.bias": (d,),
            "ls1.gamma": (d,),
            "norm2.weight": (d,),
            "norm2.bias": (d,),
            "ls2.gamma": (d,),
        }
        if gated:
            half = (int(hidden * 2 / 3) + 7) // 8 * 8
            shapes |= {"mlp.w12.weight": (2 * half, d), "mlp.w12.bias": (2 * half,)}
            shapes |= {"mlp.w3.weight": (d, half), "mlp.w3.bias": (d,)}
        else:
            shapes |= {"mlp.fc1.weight": (hidden, d), "mlp.fc1.bias": (hidden,)}
            shapes |= {"mlp.fc2.weight": (d, hidden), "mlp.fc2.bias": (d,)}
        for name, shape in shapes.items():
            shift = 1.0 if name in ("norm1.weight", "norm2.weight") else 0.0
            state[f"blocks.{block}.{name}"] = shift + draw(*shape)
    return state


def class_token(state: dict[str, Tensor], image: Tensor, n_heads: int) -> Tensor:
    """Return the class token of one image of shape (3, height, width)."""
    kernel = state["patch_embed.proj.weight"]
    d, ny, nx = kernel.shape[0], image.shape[1] // 14, image.shape[2] // 14
    squares = image.reshape(3, ny, 14, nx, 14).permute(1, 3, 0, 2, 4).reshape(ny * nx, -1)
    patches = squares @ kernel.reshape(d, -1).T + state["patch_embed.proj.bias"]

    registers = state.get("register_tokens")
    first, positions = state["pos_embed"][0, :1], state["pos_embed"][0, 1:]
    m = int(len(positions) ** 0.5)
    square = positions.reshape(1, m, m, d).permute(0, 3, 1, 2)
    if registers is not None:
        moved = F.interpolate(square, size=(ny, nx), mode="bicubic", antialias=True)
    else:
        scale = ((ny + 0.1) / m, (nx + 0.1) / m)
        moved = F.interpolate(square, scale_factor=scale, mode="bicubic", antialias=False)
    patches = patches + moved[0].permute(1, 2, 0).reshape(ny * nx, d)
    middle = [] if registers is None else [registers[0]]
    x = torch.cat([state["cls_token"][0] + first, *middle, patches])

    n_blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for number in range(n_blocks):
        block = {
            name.removeprefix(f"blocks.{number}."): value
            for name, value in state.items()
            if name.startswith(f"blocks.{number}.")
        }
        x = x + block["ls1.gamma"] * _attention(_norm(x, block, "norm1."), block, n_heads)
        x = x + block["ls2.gamma"] * _perceptron(_norm(x, block, "norm2."), block)
    return _norm(x, state, "norm.")[0]


def _norm(x: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[f"{prefix}weight"] + weights[f"{prefix}bias"]


def _attention(x: Tensor, block: dict[str, Tensor], n_heads: int) -> Tensor:
    t, d = x.shape
    qkv = x @ block["attn.qkv.weight"].T + block["attn.qkv.bias"]
    q, k, v = qkv.reshape(t, 3, n_heads, d // n_heads).permute(1, 2, 0, 3)
    keys = k.transpose(1, 2) / (d // n_heads) ** 0.5
    mixed = torch.cat([(part @ keys).softmax(-1) @ v for part in q.split(1024, dim=1)], dim=1)
    mixed = mixed.transpose(0, 1).reshape(t, d)
    return mixed @ block["attn.proj.weight"].T + block["attn.proj.bias"]


def _perceptron(x: Tensor, block: dict[str, Tensor]) -> Tensor:
    if "mlp.w12.weight" in block:
        gate, up = (x @ block["mlp.w12.weight"].T + block["mlp.w12.bias"]).chunk(2, -1)
        return (F.silu(gate) * up) @ block["mlp.w3.weight"].T + block["mlp.w3.bias"]
    hidden = F.gelu(x @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"])
    return hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]


def resized(image: np.ndarray, size: tuple[int, int], antialias: bool = True) -> np.ndarray:
    """Return `image` resized by triangle weights as wide as an output pixel (antialiased).

    Without `antialias` they are as wide as an input pixel: the two nearest of a side count.
    """
    for axis, length in enumerate(size):
        matrix = _triangles(image.shape[axis], length, antialias)
        image = np.moveaxis(np.tensordot(matrix, image.astype(np.float64), (1, axis)), 0, axis)
    return image


def _triangles(source: int, target: int, antialias: bool) -> np.ndarray:
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    width = max(scale, 1.0) if antialias else 1.0
    distances = np.abs(np.arange(source) + 0.5 - centres[:, None]) / width
    weights = np.clip(1 - distances, 0, None)
    return weights / weights.sum(1, keepdims=True)
