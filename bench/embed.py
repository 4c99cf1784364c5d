"""How fast images become vectors: ``python -m bench.embed``.

Makes full-size, Rice-compressed exposures and measures, in one run and on the same images and
weights: what the cores can decode at best, what the device can multiply at best, each stage of
the engine by itself, the engine from files to the lake, and the way of working that the paper on
bad exposures published (Luo et al. 2026: a file opened per CCD, resized on the CPU, batch 1,
single precision, one HDF5 dataset an image).

Runs on a bare node with torch, transformers, numpy, pyarrow and fitsio. Weights are random unless
named: the cost is the same. Only what is measured is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa

from embedders.dinov2 import PATCH, Architecture, Dinov2Embedder, architecture, blank
from embedders.engine import run
from embedders.readers import Readers, cores
from embedders.tasks import Ccd, FileTask
from embedders.torch_embedder import PRECISIONS
from lake.cameras import DECAM_CCDS
from lake.store import Lake, Record

NIGHT = "20140818"


def main() -> None:
    """Run the benchmark and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedder", help="[dinov2-vitb14-reg on a GPU, a small one on a CPU]")
    parser.add_argument("--weights", type=Path, help="[random]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, default=cores(), help="[one a core]")
    parser.add_argument("--exposures", type=int, default=4, help="files to make [4]")
    parser.add_argument("--ccds", type=int, default=8, help="CCDs in each [8]")
    parser.add_argument("--shape", type=int, nargs=2, default=(4094, 2046), metavar=("NY", "NX"))
    parser.add_argument("--images", type=int, help="images of the published way [all]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-embed-") as folder:
        figures = Bench(arguments, Path(folder)).run()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


class Bench:
    """One run of the benchmark in a folder of its own."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        import torch

        self.arguments, self.folder = arguments, folder
        self.figures: dict[str, Any] = {}
        on_gpu = arguments.device != "cpu" and torch.cuda.is_available()
        name = arguments.embedder or (
            "dinov2-vitb14-reg" if on_gpu else "dinov2-vits14-reg.336x168"
        )
        self.shape = architecture(name.split(".")[0])
        weights = arguments.weights or folder / "weights"
        if arguments.weights is None:
            torch.manual_seed(0)
            blank(self.shape).save_pretrained(weights)
        self.embedder = Dinov2Embedder(
            name,
            weights=weights,
            device=arguments.device,
            precision=arguments.precision,
            batch_size=arguments.batch_size,
        )
        where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
        if not on_gpu:
            print("no GPU here: the model runs on the cores, with an input they can bear")
        self.tell("machine", f"{arguments.workers} reading processes, {cores()} cores, {where}")
        load = os.getloadavg()[0]
        self.tell("load before", load, "processes", "busy: not a fair run" if load > 0.5 else "")
        self.tell("embedder", f"{name}, {self.embedder.precision}, batch {self.batch_size}")

    @property
    def batch_size(self) -> int:
        """Images in a batch; the engine may have lowered it."""
        return self.embedder.batch_size

    def tell(self, name: str, value: Any, unit: str = "", note: str = "") -> None:
        """Print a figure and keep it."""
        self.figures[name] = value
        text = f"{value:,.3g}" if isinstance(value, float) else str(value)
        print(f"{name:34s} {text} {unit}  {note}".rstrip(), flush=True)

    def run(self) -> dict[str, Any]:
        """Measure everything; see the module's head."""
        tasks = make_exposures(self.folder / "images", self.arguments)
        n = sum(len(task.ccds) for task in tasks)
        size = sum(task.path.stat().st_size for task in tasks) / n / 1e6
        ny, nx = self.arguments.shape
        self.tell("images", n, "CCDs", f"{ny} x {nx} pixels, {size:.1f} MB each on disk")

        limit = decode_limit(tasks, self.arguments.workers)
        self.tell("decoding, limit of the cores", limit, "images/s")
        reading = self.reading(tasks)
        self.tell("reading alone", reading, "images/s", f"{reading / limit:.0%} of the limit")
        prepared = self.preparing(tasks)
        model = self.model(prepared)
        whole = self.engine(n)
        slowest = min(reading, model)
        self.tell("engine, files to lake", whole, "images/s", f"{whole / slowest:.0%} of the least")
        self.published(tasks, whole)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self.tell("peak memory of the run itself", peak, "GB")
        return self.figures

    def reading(self, tasks: list[FileTask]) -> float:
        """Return the rate of the reading processes when nobody else wants the cores."""
        with Readers[None](self.arguments.workers) as readers:
            first = [FileTask(task.file, task.path, task.ccds[:1]) for task in tasks]
            self._read(readers, first[:1] * self.arguments.workers)  # start the processes
            began = time.perf_counter()
            n = self._read(readers, tasks)
            return n / (time.perf_counter() - began)

    @staticmethod
    def _read(readers: Readers[None], tasks: list[FileTask]) -> int:
        waiting, n = list(tasks), 0
        while waiting or readers.busy:
            while waiting and readers.hungry:
                readers.submit(None, waiting.pop())
            for read in readers.poll(1):
                if read.error is not None:
                    raise RuntimeError(read.error)
                read.release()
                n += 1
        return n

    def preparing(self, tasks: list[FileTask]) -> list[Any]:
        """Measure transfer and resize; return a batch of prepared images."""
        images = [pixels for task in tasks[:1] for pixels in decode(task)]
        self.embedder.prepare(images[0])
        began = time.perf_counter()
        for image in images:
            self.embedder.prepare(image)
        self.tell("transfer and resize", len(images) / (time.perf_counter() - began), "images/s")
        return [self.embedder.prepare(images[i % len(images)]) for i in range(self.batch_size)]

    def model(self, prepared: list[Any]) -> float:
        """Measure the model alone, beside what the device multiplies at best."""
        import torch

        dtype = PRECISIONS[self.embedder.precision]
        device = prepared[0].device
        best = matrix_rate(device, dtype)
        self.tell("matrix products, limit", best / 1e12, "TFLOP/s", self.embedder.precision)
        self.embedder.embed_prepared(prepared)
        times = repeat(lambda: self.embedder.embed_prepared(prepared), seconds=5)
        rate = len(prepared) / times
        height, width = self.embedder.settings["size"]
        done = flop(self.shape, (height // PATCH) * (width // PATCH)) * rate
        self.tell("model alone", rate, "images/s", f"{done / best:.0%} of the matrix rate")
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 1e9
            self.tell("peak memory of the device", peak, "GB", f"batch {len(prepared)}")
        return rate

    def engine(self, n: int) -> float:
        """Return the rate from compressed files to committed partitions, processes' start included.

        The model is loaded already, as it is for all but the first seconds of a long run.
        """
        lake = Lake(self.folder / "lake", create=True)
        rows = [
            {
                "expnum": int(path.name.split("_")[1]),
                "ccdnum": DECAM_CCDS[name],
                "ccdname": name,
                "image_filename": path.name,
            }
            for path in sorted((self.folder / "images").iterdir())
            for name in ccd_names(self.arguments.ccds)
        ]
        keys = {"release": "bench", "camera": "decam", "night": NIGHT}
        lake.write("ccds", keys, pa.Table.from_pylist(rows), Record("bench"))
        summary = run(lake, self.embedder, self.folder / "images", workers=self.arguments.workers)
        if summary.n_images != n:
            raise RuntimeError(f"{summary.n_images} of {n} images embedded")
        return summary.rate

    def published(self, tasks: list[FileTask], ours: float) -> None:
        """Measure the published way on the same images and weights."""
        from embedders.dinov2 import load

        model = load(self.embedder._weights, self.shape).to(self.embedder.device)
        ccds = [(task, ccd) for task in tasks for ccd in task.ccds][: self.arguments.images]
        height, width = self.embedder.settings["size"]
        with vectors_file(self.folder) as keep:
            published_way(model, *ccds[0], (height, width))  # the first call is not typical
            began = time.perf_counter()
            for task, ccd in ccds:
                keep(f"{task.file}/{ccd.name}", published_way(model, task, ccd, (height, width)))
            rate = len(ccds) / (time.perf_counter() - began)
        if importlib.util.find_spec("h5py") is None:
            print("h5py is not installed: the published way is spared its HDF5 datasets")
        self.tell("the published way", rate, "images/s", f"the engine is {ours / rate:.1f} times")


def make_exposures(folder: Path, arguments: argparse.Namespace) -> list[FileTask]:
    """Write exposures of sky, noise and stars, an extension a CCD, Rice-compressed as DECam's."""
    folder.mkdir()
    names, shape = ccd_names(arguments.ccds), tuple(arguments.shape)
    tasks = []
    for expnum in range(1, arguments.exposures + 1):
        random = np.random.default_rng(expnum)
        path = folder / f"c4d_{expnum:06d}_ooi_r_v1.fits.fz"
        with fitsio.FITS(str(path), "rw") as file:
            file.write(None)
            for name in names:
                pixels = random.normal(1500, 40, shape).astype(np.float32)
                y, x = (random.integers(8, side - 8, 3000) for side in shape)
                flux = 100 * (1 + random.pareto(1.2, 3000)).clip(max=1e4)
                spread = np.arange(-6, 7)
                profile = np.exp(-(spread[:, None] ** 2 + spread**2) / 8)
                for dy in spread:
                    for dx in spread:
                        np.add.at(pixels, (y + dy, x + dx), flux * profile[dy + 6, dx + 6])
                file.write(pixels, extname=name, compress="RICE")
        ccds = tuple(Ccd(expnum, DECAM_CCDS[name], None, name) for name in names)
        tasks.append(FileTask(path.name, path, ccds))
    return tasks


def ccd_names(n: int) -> list[str]:
    """Return the names of the first `n` CCDs."""
    return list(DECAM_CCDS)[:n]


def decode(task: FileTask) -> list[np.ndarray]:
    """Return the CCDs of a file, with nothing but fitsio."""
    with fitsio.FITS(str(task.path)) as file:
        return [file[number].read() for number in range(1, len(task.ccds) + 1)]


def decode_limit(tasks: list[FileTask], workers: int) -> float:
    """Return the images per second that `workers` processes decode when they do nothing else."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(_decode_alone, [tasks[0]] * workers, chunksize=1)  # start and warm
        rounds = 2
        given = [tasks[i % len(tasks)] for i in range(rounds * workers)]
        rates = pool.map(_decode_alone, given, chunksize=1)
    return sum(rates) / rounds


def _decode_alone(task: FileTask) -> float:
    began = time.perf_counter()
    with fitsio.FITS(str(task.path)) as file:
        for number in range(1, len(task.ccds) + 1):
            file[number].read()
    return len(task.ccds) / (time.perf_counter() - began)


def matrix_rate(device: Any, dtype: Any) -> float:
    """Return the FLOP/s of the product of two large square matrices."""
    import torch

    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    product()
    return 2 * side**3 / repeat(product, seconds=2)


def repeat(work: Callable[[], Any], seconds: float) -> float:
    """Return the median time of `work`, called for about `seconds` and at least three times."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def flop(shape: Architecture, n_patches: int) -> float:
    """Return the floating-point operations of an image as they are carried out.

    Of the last block only the class token is computed, whose keys and values need every token.
    """
    d, t = shape.dimension, 1 + shape.n_registers + n_patches
    return (shape.n_blocks - 1) * (24 * t * d**2 + 4 * t**2 * d) + 4 * t * d**2


def published_way(model: Any, task: FileTask, ccd: Ccd, size: tuple[int, int]) -> np.ndarray:
    """Return the class token of a CCD as the paper's code computes it."""
    import torch

    with fitsio.FITS(str(task.path)) as file, torch.inference_mode():
        pixels = torch.from_numpy(file[ccd.name].read())
        channels = pixels.expand(1, 3, -1, -1)
        resized = torch.nn.functional.interpolate(channels, size, mode="bilinear", antialias=True)
        tokens = model(resized.to(model.device)).last_hidden_state
        vector: np.ndarray = tokens[0, 0].cpu().numpy()
    return vector


@contextmanager
def vectors_file(folder: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Yield what writes a vector as an HDF5 dataset of its own; nothing without h5py."""
    if importlib.util.find_spec("h5py") is None:
        yield lambda name, vector: None
        return
    import h5py

    with h5py.File(folder / "vectors.h5", "w") as file:
        yield lambda name, vector: file.create_dataset(name, data=vector)


if __name__ == "__main__":
    main()
