"""Full-size exposures to read: sky, noise and stars, Rice-compressed, with DECam's 61 CCDs."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fitsio
import numpy as np

from embedders.tasks import Ccd, FileTask
from lake.cameras import DECAM

#: Header cards of a Community Pipeline file: its primary HDU's, and those of each CCD.
_CARDS = (200, 115)
#: Different frames of an exposure; the CCDs take them in turn.
_FRAMES = 4
_STARS = 3000


@dataclass(frozen=True)
class Exposures:
    """What to make: files, CCDs in each and how many of them are wanted, pixels (ny, nx)."""

    n: int
    n_ccds: int = 61
    n_drawn: int = 20
    shape: tuple[int, int] = DECAM.size[::-1]


def make(folder: Path, what: Exposures, processes: int) -> list[FileTask]:
    """Write the exposures and return what is wanted of them, evenly over the focal plane."""
    folder.mkdir()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(partial(_exposure, folder, what), range(1, what.n + 1), chunksize=1)


def _exposure(folder: Path, what: Exposures, expnum: int) -> FileTask:
    names = list(DECAM.ccdnums)[: what.n_ccds]
    frames = [_frame(what.shape, seed) for seed in range(_FRAMES * expnum, _FRAMES * (expnum + 1))]
    path = folder / f"c4d_{expnum:06d}_ooi_r_v1.fits.fz"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None, header=_header(_CARDS[0]))
        for number, name in enumerate(names):
            pixels = frames[number % _FRAMES]
            file.write(pixels, extname=name, compress="RICE", header=_header(_CARDS[1]))
    drawn = np.linspace(0, len(names) - 1, min(what.n_drawn, len(names))).round().astype(int)
    ccds = [Ccd(expnum, DECAM.ccdnums[names[i]], int(i) + 1, names[i]) for i in drawn]
    return FileTask(path.name, path, tuple(ccds))


def _header(n_cards: int) -> list[dict[str, object]]:
    comment = "as long as comments usually are"
    return [{"name": f"KEY{n:04d}", "value": n * 1.25, "comment": comment} for n in range(n_cards)]


def _frame(shape: tuple[int, int], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    pixels = random.normal(1500, 40, shape).astype(np.float32)
    y, x = (random.integers(8, side - 8, _STARS) for side in shape)
    flux = 100 * (1 + random.pareto(1.2, _STARS)).clip(max=1e4)
    spread = np.arange(-6, 7)
    profile = np.exp(-(spread[:, None] ** 2 + spread**2) / 8)
    for dy in spread:
        for dx in spread:
            np.add.at(pixels, (y + dy, x + dx), flux * profile[dy + 6, dx + 6])
    return pixels


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
        for ccd in task.ccds:
            file[ccd.hdu].read()
    return len(task.ccds) / (time.perf_counter() - began)
