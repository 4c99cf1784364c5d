"""What every embedder that runs a torch model on a device has in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from embedders.pixels import smooth_background
from embedders.tasks import CCD_BY_CCD, View
from lake.errors import BadInput

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: Images in a batch on a device with a memory of its own, for the paper's input.
_BATCH = 8


class TorchEmbedder(ABC):
    """The device, and the way of images onto it and of vectors back.

    A model adds `dimension`, `settings`, `_shape_pixels`, `show`, `_load` and `_vectors`.

    Parameters
    ----------
    device : ``auto``, or as torch names it.
    precision : one of `PRECISIONS`; by default bfloat16 on a GPU and float32 on a CPU.
    batch_size : images at once; by default 8 on a GPU and 1 on a CPU.
    view : what the model is shown of an exposure.

    Raises
    ------
    SurveyError : the device or precision do not exist.
    """

    def __init__(
        self,
        device: str,
        precision: str | None,
        batch_size: int | None,
        view: View = CCD_BY_CCD,
    ) -> None:
        self.view = view
        self.device = _device(device)
        self.has_memory = self.device.type != "cpu"
        self.precision = precision or ("bfloat16" if self.has_memory else "float32")
        if self.precision not in PRECISIONS:
            raise BadInput(f"--precision {precision}: expected {' or '.join(PRECISIONS)}")
        if batch_size is not None and batch_size < 1:
            raise BadInput(f"--batch-size {batch_size}: expected 1 or more")
        self.batch_size = batch_size or (_BATCH if self.has_memory else 1)
        self._model: Any = None
        # Images are copied and resized beside the model's own work.
        self._side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All that changes the vectors."""

    @abstractmethod
    def _shape_pixels(self, pixels: Tensor) -> Tensor:
        """Return pixels (ny, nx) as the model wants them; all are finite."""

    @abstractmethod
    def show(self, picture: Tensor, side: int) -> Tensor:
        """Return a square picture (3, n, n) of values 0 to 1 as the model wants it, `side` long.

        A model whose input has a fixed size keeps to that.
        """

    @abstractmethod
    def _load(self) -> Any:
        """Return the model, on the device."""

    @abstractmethod
    def _vectors(self, batch: Tensor) -> Tensor:
        """Return the vectors (n, dimension) of n stacked images."""

    def _loaded(self) -> Any:
        """Return the model; the first thread to ask loads it."""
        with _loading:
            if self._model is None:
                self._model = self._load()
        return self._model

    def devices(self, asked: str) -> list[str]:
        """Return the devices that ``--device`` stands for: ``auto`` is all GPUs, else the CPU."""
        if asked == "auto" and self.device.type == "cuda":
            return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        return asked.split(",")

    @property
    def bad_pixels(self) -> dict[str, str]:
        """The settings that say what becomes of pixels that are of no use."""
        if not self.view.masked:
            return {"not_finite": "median"}
        return {"masked": "ood, oow", "not_finite": "local background"}

    def prepare(self, image: np.ndarray) -> Tensor:
        """Return a CCD image, all of it or as `view` has it, as the model wants it.

        Float32, on the device.

        Pixels that are not finite take the median of those that are (masked ones the local
        background): a model has no way to leave a pixel out, and a single one would spoil every
        token.
        """
        return self.on_device(image, lambda pixels: self._shape_pixels(self._filled(pixels)))

    def _filled(self, pixels: Tensor) -> Tensor:
        # One sum tells, nearly always, at a twentieth of the cost of asking every pixel.
        if pixels.sum().isfinite():
            return pixels
        finite = pixels.isfinite()
        if finite.all():
            return pixels
        if self.view.masked:
            return pixels.where(finite, smooth_background(pixels.where(finite, torch.nan)))
        return pixels.where(finite, pixels[finite].median())

    @torch.inference_mode()
    def on_device(self, image: np.ndarray, shape: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `shape` makes of an image on the device, beside the model's own work.

        Raises `MemoryError` when the device has not enough memory for it.
        """
        with torch.cuda.stream(self._side) if self._side else self.at_work(), _short_of_memory():
            given = torch.from_numpy(image)
            shaped = shape(given.to(self.device, torch.float32))
            if shaped.data_ptr() == given.data_ptr():  # nothing to do, and nothing done
                shaped = shaped.clone()
        if self._side is not None:
            self._side.synchronize()
            shaped.record_stream(torch.cuda.default_stream(self.device))
        return shaped

    @torch.inference_mode()
    def embed_prepared(self, batch: Sequence[Tensor]) -> np.ndarray:
        """Return the vectors of n prepared images, float32 of shape (n, dimension).

        Raises `MemoryError` when the device has not enough memory for n at once.
        """
        with self.at_work(), _short_of_memory():
            found = self._vectors(torch.stack(list(batch)))
            vectors: np.ndarray = found.float().cpu().numpy()
        return vectors

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vectors of images of any shapes, `batch_size` at a time."""
        starts = range(0, len(images), self.batch_size)
        batches = [images[start : start + self.batch_size] for start in starts]
        with ThreadPoolExecutor(1 if self.has_memory else torch.get_num_threads()) as pool:
            found = pool.map(
                lambda batch: self.embed_prepared(list(map(self.prepare, batch))), batches
            )
            return np.concatenate([np.empty((0, self.dimension), np.float32), *found])

    def at_work(self) -> AbstractContextManager[None]:
        """Keep to one core a thread where the cores are the device."""
        return nullcontext() if self.has_memory else _one_core()


@contextmanager
def _short_of_memory() -> Iterator[None]:
    """Raise torch's error as Python's own, with what torch keeps in store given back."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise MemoryError(str(error)) from error


def fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """Have attention prefer cuDNN's kernel on Hopper GPUs, for shapes that it serves.

    There it is about twice as fast as the one that torch prefers, and slower on all others
    (measured in pull request 48163 of huggingface/transformers).
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9:
        return nullcontext()
    order = (
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    )
    preferred: AbstractContextManager[None] = sdpa_kernel(list(order), set_priority=True)
    return preferred


_loading = threading.Lock()
_counting = threading.Lock()
_n_on_one_core = 0
_n_threads = 1


@contextmanager
def _one_core() -> Iterator[None]:
    """Have torch compute on the core of the calling thread, of which there may be many.

    Sums over several cores depend on their number in the last bits. Threads that take an image
    each are faster, too: none waits for another. What was set before is set again for the thread
    that leaves last, and for threads that start later.
    """
    global _n_on_one_core, _n_threads
    with _counting:
        if not _n_on_one_core:
            _n_threads = torch.get_num_threads()
        _n_on_one_core += 1
        torch.set_num_threads(1)  # of the calling thread and, for MKL, of all
    try:
        yield
    finally:
        with _counting:
            _n_on_one_core -= 1
            if not _n_on_one_core:
                torch.set_num_threads(_n_threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing a bar for what takes a second."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"--device {name}: not usable here ({error})") from error
    return device
