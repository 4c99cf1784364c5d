"""The measurements of `bench.embed`, one after the other."""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bench import exposures, published
from bench.memory import Watch
from embedders.dinov2 import PATCH, Architecture, Dinov2Embedder, architecture, blank, load
from embedders.engine import run
from embedders.progress import EmbedSummary
from embedders.readers import Readers, cores
from embedders.tasks import FileTask
from embedders.torch_embedder import PRECISIONS, quiet
from embedders.vectors import read_vectors
from images.pixels import open_images, read_ccd
from lake.record import Record
from lake.store import Lake

NIGHT = {"camera": "decam", "night": "20140818"}


class Bench:
    """One run of the benchmark in a folder of its own."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.figures: dict[str, Any] = {}
        self._about = ""
        self.on_gpu = on_gpu = arguments.device != "cpu" and torch.cuda.is_available()
        where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
        if not on_gpu:
            print("no GPU here: the model runs on the cores, with inputs they can bear")
        self.tell("machine", f"{arguments.workers} reading processes, {cores()} cores, {where}")
        load = os.getloadavg()[0]
        self.tell("load before", load, "processes", "busy: not a fair run" if load > 0.5 else "")

    def tell(self, name: str, value: Any, unit: str = "", note: str = "") -> None:
        """Print a figure and keep it."""
        self.figures[f"{self._about}{name}"] = value
        text = f"{value:,.3g}" if isinstance(value, float) else str(value)
        print(f"{name:34s} {text} {unit}  {note}".rstrip(), flush=True)

    def run(self, small: Sequence[str]) -> dict[str, Any]:
        """Measure everything; the embedders are those of `small` where none is named and no GPU."""
        asked = self.arguments
        what = exposures.Exposures(asked.exposures, n_drawn=asked.drawn, shape=tuple(asked.shape))
        tasks = exposures.make(self.folder / "images", what, asked.workers)
        n = sum(len(task.ccds) for task in tasks)
        size = sum(task.path.stat().st_size for task in tasks) / (what.n * what.n_ccds) / 1e6
        ny, nx = what.shape
        drawn = f"of {what.n} files of {what.n_ccds}, {ny} x {nx} pixels, {size:.1f} MB each"
        self.tell("images", n, "CCDs", drawn)
        limit = exposures.decode_limit(tasks, asked.workers)
        self.tell("decoding, limit of the cores", limit, "images/s")
        reading = self.reading(tasks)
        self.tell("reading alone", reading, "images/s", f"{reading / limit:.0%} of the limit")
        if not asked.embedder:
            self.statistics(tasks, reading)
        for name in asked.embedder or (["dinov2-vitb14-reg"] if self.on_gpu else small):
            self._about = f"{name}: "
            one = OneEmbedder(self, name)
            if height := one.embedder.view.height:
                weighed = [replace(task, height=height) for task in tasks]
                rate = self.reading(weighed)
                self.tell("reading the rows that it weighs", rate, "images/s")
                one.run(weighed, rate)
            else:
                one.run(tasks, reading)
        return self.figures

    def statistics(self, tasks: list[FileTask], reading: float) -> None:
        """Measure the embedder that needs no weights, where what it needs is installed."""
        missing = [name for name in ("sep", "scipy") if not importlib.util.find_spec(name)]
        if missing:
            print(f"statistics is not measured: {' and '.join(missing)} not installed here")
            return
        lake = make_lake(self.folder, tasks)
        workers = self.arguments.workers
        summary = run(lake, "statistics", self.folder / "images", workers=workers)
        check(summary, tasks)
        note = f"{summary.rate / reading:.0%} of reading alone"
        self.tell("statistics, files to lake", summary.rate, "images/s", note)

    def reading(self, tasks: list[FileTask]) -> float:
        """Return the rate of the reading processes when nobody else wants the cores."""
        with Readers[None](self.arguments.workers) as readers:
            first = replace(tasks[0], ccds=tasks[0].ccds[:1])
            self._read(readers, [first] * self.arguments.workers)  # start the processes
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


class OneEmbedder:
    """The part of the benchmark that is done for each embedder."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.asked, self.folder, self.tell = bench.arguments, bench.folder, bench.tell
        self.shape = architecture(name.split(".")[0])
        self.weights = self.asked.weights or self.folder / f"weights-{name.split('.')[0]}"
        if not self.weights.exists():
            torch.manual_seed(0)
            with quiet():
                blank(self.shape).save_pretrained(self.weights)
        self.embedder = self.make(name, self.asked.precision)
        self.size = tuple(self.embedder.settings["size"])
        batch = f"batch {self.embedder.batch_size}"
        print()
        self.tell("embedder", name, note=f"{self.embedder.precision}, {batch}")

    def make(self, name: str, precision: str | None) -> Dinov2Embedder:
        """Return the embedder called `name` with this run's weights, device and batch size."""
        return Dinov2Embedder(
            name,
            weights=self.weights,
            device=self.asked.device,
            precision=precision,
            batch_size=self.asked.batch_size,
        )

    def run(self, tasks: list[FileTask], reading: float) -> None:
        """Measure the stages one by one, the engine, and the published way."""
        prepared = self.preparing(tasks)
        model = self.model(prepared)
        if self.embedder.has_memory:
            limit, name = min(reading, model), "the slower of reading and model"
        else:  # both use the same cores, one after the other
            limit, name = 1 / (1 / reading + 1 / model), "what reading and model leave room for"
        whole, vectors = self.engine(tasks)
        self.tell("engine, files to lake", whole, "images/s", f"{whole / limit:.0%} of {name}")
        self.published(tasks, whole, vectors)

    def preparing(self, tasks: list[FileTask]) -> list[Any]:
        """Measure transfer and resize; return a batch of prepared images."""
        task = tasks[0]
        with open_images(task.path) as file:
            images = [
                read_ccd(file, task.path, ccd.hdu, ccd.name, task.height)
                for ccd in task.ccds[: self.embedder.batch_size + 3]
            ]
        self.embedder.prepare(images[0])
        began = time.perf_counter()
        for image in images:
            self.embedder.prepare(image)
        self.tell("transfer and resize", len(images) / (time.perf_counter() - began), "images/s")
        n = self.embedder.batch_size
        return [self.embedder.prepare(images[i % len(images)]) for i in range(n)]

    def model(self, prepared: list[Any]) -> float:
        """Measure the model alone, beside what the device multiplies at best."""
        dtype = PRECISIONS[self.embedder.precision]
        device = prepared[0].device
        best = matrix_rate(device, dtype)
        self.tell("matrix products, limit", best / 1e12, "TFLOP/s", self.embedder.precision)
        self.embedder.embed_prepared(prepared)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        # Where the cores are the device, each has a batch of its own, as in the engine.
        n_threads = 1 if self.embedder.has_memory else self.asked.workers
        with ThreadPoolExecutor(n_threads) as pool:
            batches = [prepared] * n_threads
            times = repeat(lambda: list(pool.map(self.embedder.embed_prepared, batches)), seconds=5)
        rate = n_threads * len(prepared) / times
        height, width = self.size
        work = flop(self.shape, (height // PATCH) * (width // PATCH))
        share = f"{work * rate / best:.0%} of the matrix rate, {work / 1e9:,.0f} GFLOP an image"
        self.tell("model alone", rate, "images/s", share)
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 1e9
            self.tell("device memory, model", peak, "GB", f"batch {len(prepared)}")
        if self.embedder.precision != "float32":
            exact = self.make(self.embedder.name, "float32").embed_prepared(prepared)
            off = 1 - least_cosine(exact, self.embedder.embed_prepared(prepared))
            self.tell("1 - least cosine with float32", off, note=self.embedder.precision)
        return rate

    def engine(self, tasks: list[FileTask]) -> tuple[float, np.ndarray]:
        """Return the rate from compressed files to committed partitions, and the vectors (n, d).

        Processes' start is included. The model is loaded already, as it is for all but the first
        seconds of a long run.
        """
        lake = make_lake(self.folder, tasks)
        if self.embedder.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.embedder.device)
        before = core_seconds()
        with Watch() as watch:
            summary = run(lake, self.embedder, self.folder / "images", workers=self.asked.workers)
        spent = (core_seconds() - before) / summary.n_images
        self.tell("engine, cores' time", spent, "s an image")
        check(summary, tasks)
        if half := len(watch.samples) // 2:
            first, second = (
                max(part) / 1e9 for part in (watch.samples[:half], watch.samples[half:])
            )
            note = f"with the readers'; {second:,.3g} in the second half of the run"
            self.tell("memory, first half", first, "GB", note)
        if self.embedder.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.embedder.device) / 1e9
            self.tell("device memory, engine", peak, "GB", f"batch {self.embedder.batch_size}")
        vectors = read_vectors(lake, {"embedder": self.embedder.name, **NIGHT})
        ordered = [vectors[ccd.key] for task in tasks for ccd in task.ccds]
        return summary.rate, np.array(ordered, np.float32)

    def published(self, tasks: list[FileTask], ours: float, vectors: np.ndarray) -> None:
        """Measure the published way on the same images and weights."""
        model = load(self.weights, self.shape).to(self.embedder.device)
        rows = [(task.path, ccd.hdu) for task in tasks for ccd in task.ccds if ccd.hdu]
        rows = rows[: self.asked.images]
        loaders = self.asked.loaders or min(published.LOADERS, cores())
        output = self.folder / "vectors.h5"
        published.embed(model, rows[:1], self.size, output, 1)  # the first call is not typical
        before = core_seconds()
        seconds, theirs = published.embed(model, rows, self.size, output, loaders)
        spent = (core_seconds() - before) / len(rows)
        self.tell("the published way, cores' time", spent, "s an image")
        for what in published.spared():
            print(f"the published way is spared {what}, not installed here")
        rate = len(rows) / seconds
        self.tell("the published way", rate, "images/s", f"{loaders} loading processes")
        self.tell("engine / published way", ours / rate)
        off = 1 - least_cosine(vectors[: len(rows)], theirs)
        self.tell("1 - least cosine of the two ways", off)


def check(summary: EmbedSummary, tasks: list[FileTask]) -> None:
    """Raise `RuntimeError` when an image of `tasks` was not embedded."""
    wanted = sum(len(task.ccds) for task in tasks)
    if summary.n_images != wanted:
        raise RuntimeError(f"{summary.n_images} of {wanted} images embedded")


def make_lake(folder: Path, tasks: list[FileTask]) -> Lake:
    """Return a lake whose CCD table names the CCDs of `tasks`."""
    lake = Lake(folder / "lake", create=True)
    rows = [
        {
            "expnum": ccd.expnum,
            "ccdnum": ccd.ccdnum,
            "ccdname": ccd.name,
            "image_hdu": ccd.hdu,
            "image_filename": task.file,
        }
        for task in tasks
        for ccd in task.ccds
    ]
    keys = {"release": "bench", **NIGHT}
    lake.write("ccds", keys, pa.Table.from_pylist(rows), Record("bench"))
    return lake


def core_seconds() -> float:
    """Return the time that this process and those it has ended spent on the cores."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the least cosine between the rows of `a` and those of `b`, both (n, d)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def matrix_rate(device: Any, dtype: Any) -> float:
    """Return the FLOP/s of the product of two large square matrices."""
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
