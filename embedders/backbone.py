"""Any vision backbone of transformers, from a folder: DINOv3, MAE, CLIP's image half, ResNet, …

The folder holds what transformers saves: ``config.json``, weights, and usually
``preprocessor_config.json``. Pixels are compressed to a photograph's range (arcsinh in units of
the noise, percentiles 0.5 and 99.8 to black and white) and then normalised and sized as that file
says, since such models know photographs and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embedders.pixels import photograph
from embedders.tasks import View
from embedders.torch_embedder import PRECISIONS, TorchEmbedder, quiet
from embedders.weights import checksum
from lake.errors import BadInput

#: What ImageNet-trained models expect, where a folder does not say.
_MEAN, _SCATTER = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BackboneEmbedder(TorchEmbedder):
    """A model of transformers by its folder.

    The vector is the pooled output where the model has one, else the class token, else the mean
    over the last feature map.

    Raises
    ------
    SurveyError : the folder is not a vision model's, or the device or precision do not exist.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        device: str = "auto",
        precision: str | None = None,
        batch_size: int | None = None,
        masked: bool = False,
    ) -> None:
        super().__init__(device, precision, batch_size, View(masked=masked))
        self.name = name
        self._folder = folder
        self._config = _json(folder / "config.json")
        self._size, self._mean, self._scatter = _preprocessing(folder, self._config)
        self._checksum = checksum(folder)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self._size

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        config = self._config.get("vision_config", self._config)
        if "hidden_size" in config:
            return int(config["hidden_size"])
        if "hidden_sizes" in config:
            return int(config["hidden_sizes"][-1])
        raise BadInput(f"{self._folder}/config.json: names no hidden_size; not a vision model?")

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the vectors."""
        return {
            "model": self._config.get("model_type"),
            "weights": self._checksum,
            "pixels": "photograph",
            **self.bad_pixels,
            "size": list(self._size),
            "resize": "bilinear, antialiased",
            "mean": list(self._mean),
            "scatter": list(self._scatter),
            "precision": self.precision,
        }

    def _shape_pixels(self, pixels: Tensor) -> Tensor:
        return self._normalised(photograph(pixels)[None])

    def show(self, picture: Tensor, side: int) -> Tensor:
        """Return a square picture (3, n, n) of values 0 to 1 in the size that the model takes."""
        return self._normalised(picture)

    def _normalised(self, picture: Tensor) -> Tensor:
        shaped = F.interpolate(picture[None], self._size, mode="bilinear", antialias=True)[0]
        mean, scatter = (
            torch.tensor(values, device=picture.device)[:, None, None]
            for values in (self._mean, self._scatter)
        )
        return (shaped - mean) / scatter  # (3, ny, nx)

    def _vectors(self, batch: Tensor) -> Tensor:
        model = self._loaded()
        precision = PRECISIONS[self.precision]
        mixed = precision != torch.float32
        more: dict[str, Tensor] = {}
        if self._config.get("model_type") == "vit_mae":
            # MAE shuffles patches by random numbers; these leave them where they are.
            n_patches = model.embeddings.patch_embeddings.num_patches
            order = torch.arange(n_patches, device=batch.device, dtype=torch.float32)
            more["noise"] = order.expand(len(batch), -1)
        with torch.autocast(self.device.type, precision, enabled=mixed):
            output = model(pixel_values=batch, **more)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            last = output.last_hidden_state  # (n, tokens, d) or (n, d, ny, nx)
            pooled = last[:, 0] if last.ndim == 3 else last.mean((2, 3))
        return pooled.flatten(1)

    def _load(self) -> Any:
        from transformers import AutoConfig, AutoModel

        try:
            config = AutoConfig.from_pretrained(self._folder, local_files_only=True)
            if hasattr(config, "mask_ratio"):  # MAE hides patches at random unless told not to
                config.mask_ratio = 0.0
            with quiet():
                model = AutoModel.from_pretrained(
                    self._folder, config=config, local_files_only=True, dtype=torch.float32
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"--weights {self._folder}: not a model that transformers can read ({error})"
            ) from error
        return getattr(model, "vision_model", model).eval().to(self.device)


def _preprocessing(
    folder: Path, config: Mapping[str, Any]
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Return (height, width), mean and scatter that the model wants."""
    file = folder / "preprocessor_config.json"
    settings = _json(file) if file.is_file() else {}
    size = settings.get("crop_size") or settings.get("size")
    if size is None:
        size = config.get("vision_config", config).get("image_size", 224)
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", 224)
        size = (size.get("height", edge), size.get("width", edge))
    elif isinstance(size, int):
        size = (size, size)
    mean = tuple(settings.get("image_mean", _MEAN))
    scatter = tuple(settings.get("image_std", _SCATTER))
    return (int(size[0]), int(size[1])), mean, scatter


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise BadInput(f"{file}: expected an object")
    return found
