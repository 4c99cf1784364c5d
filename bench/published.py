"""The published way of embedding (Luo et al. 2026), step by step as its code has it.

Repository Brookluo/ssl-bad-exposure-identification, commit 62f375f:

`src/master_eval.py`
    a process for each GPU, batch 1, ten loading processes, input 2352 x 1176.
`src/decam_dataset.py`
    an image is an item: astropy opens its file, takes the HDU by its number, decodes it, and the
    pixels are copied to the machine's byte order.
`src/parallel_eval.py`
    torch's ``DataLoader`` in the order of the list, without pinned memory; in the main process
    the one channel is repeated three times, *then* resized on the CPU (torchvision's ``Resize``
    with ``antialias=False``, for a tensor the ``interpolate`` below), moved to the device, and
    given to the model in single precision; the HDF5 file is opened anew for each image, whose
    vector becomes a dataset in double precision.

Three things differ, all in its favour: the model is transformers', which is faster than the one of
torch hub and gives the same class tokens; no more loading processes are started than there are
cores; and where the cores are the device torch takes one thread, since loading wants them too.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

#: Loading processes for each GPU.
LOADERS = 10


class Images(Dataset):
    """CCD images by (path, number of the HDU)."""

    def __init__(self, rows: Sequence[tuple[Path, int]]) -> None:
        self._rows = rows
        self._read = _with_astropy if importlib.util.find_spec("astropy") else _with_fitsio

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        pixels = self._read(*self._rows[index])[None]
        return pixels.astype(pixels.dtype.newbyteorder("="))


def _with_astropy(path: Path, hdu: int) -> np.ndarray:
    from astropy.io import fits

    with fits.open(path) as file:
        pixels: np.ndarray = file[hdu].data
    return pixels


def _with_fitsio(path: Path, hdu: int) -> np.ndarray:
    with fitsio.FITS(str(path)) as file:
        pixels: np.ndarray = file[hdu].read()
    return pixels


def embed(
    model: Any, rows: Sequence[tuple[Path, int]], size: tuple[int, int], output: Path, loaders: int
) -> tuple[float, np.ndarray]:
    """Return seconds, processes' start included, and the vectors (n, d) of the images."""
    vectors = []
    n_threads = torch.get_num_threads()
    if model.device.type == "cpu":
        torch.set_num_threads(1)
    began = time.perf_counter()
    keep = _keeper(output)
    loader = DataLoader(Images(rows), batch_size=1, num_workers=loaders)
    with torch.no_grad():
        for number, image in enumerate(loader):
            channels = image.expand(-1, 3, -1, -1)
            resized = torch.nn.functional.interpolate(
                channels, size, mode="bilinear", align_corners=False, antialias=False
            )
            tokens = model(resized.to(model.device)).last_hidden_state
            vector = tokens[:, 0].numpy(force=True)
            keep(f"idx_{number}_label_0", vector)
            vectors.append(vector[0])
    seconds = time.perf_counter() - began
    torch.set_num_threads(n_threads)
    return seconds, np.array(vectors)


def spared() -> list[str]:
    """Return what this machine cannot have the published way do, so that it is faster."""
    missing = {"h5py": "its HDF5 datasets", "astropy": "astropy (fitsio reads in its place)"}
    return [what for module, what in missing.items() if not importlib.util.find_spec(module)]


def _keeper(output: Path) -> Callable[[str, np.ndarray], None]:
    if importlib.util.find_spec("h5py") is None:
        return lambda name, vector: None
    import h5py

    with h5py.File(output, "w") as file:
        file.create_group("images")

    def keep(name: str, vector: np.ndarray) -> None:
        with h5py.File(output, "r+") as file:
            file["images"].create_dataset(name, data=vector, dtype="float")

    return keep
