"""Embedders that misbehave on purpose, and one that is only a mean."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedders.engine import run
from lake.store import Lake


class Mean:
    """Mean and scatter of an image; dies on demand.

    Parameters
    ----------
    deadly : file size of which each byte is a death still to die; None never dies.
    """

    name = "mean"
    dimension = 2

    def __init__(self, deadly: Path | None = None, version: int = 1) -> None:
        self.deadly = deadly
        self.settings: dict[str, Any] = {"version": version}

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        if self.deadly is not None and images[0][0, 0] < -1000:
            lives = self.deadly.stat().st_size
            if lives:
                os.truncate(self.deadly, lives - 1)
                os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[np.nanmean(image), np.nanstd(image)] for image in images], np.float32)


class MeanOnDevice:
    """The same by way of batches, of which no more than `most` images fit."""

    name = "mean-on-device"
    dimension = 2
    has_memory = False

    def __init__(self, batch_size: int = 4, most: int = 100, spoil: float = np.inf) -> None:
        self.batch_size, self.most, self.spoil = batch_size, most, spoil
        self.settings: dict[str, Any] = {}
        self.batches: list[int] = []

    def devices(self, asked: str) -> list[str]:
        return asked.split(",")

    def prepare(self, image: np.ndarray) -> tuple[float, float]:
        return float(image.mean()), float(image.std())

    def embed_prepared(self, batch: Sequence[tuple[float, float]]) -> np.ndarray:
        if len(batch) > self.most:
            raise MemoryError(f"{len(batch)} images")
        self.batches.append(len(batch))
        vectors = np.array(batch, np.float32)
        vectors[vectors[:, 0] > self.spoil] = np.nan
        return vectors


def embed_share(root: Path, images: Path, share: str) -> None:
    """Embed a share of a lake with `Mean`, as the task of an array job does."""
    run(Lake(root), Mean(), images, partitions=[share], workers=1)
