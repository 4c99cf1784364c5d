"""Focal planes made on the spot: a small DECam, its CCD rows, and images of any light on it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa

from lake.record import Record
from lake.store import Lake
from simulator.camera import CCDS, Camera, Ccd

CAMERA = Camera(32, 64)
SKY, NOISE = 400.0, 12.0
#: Light over the sky, ADU, at focal-plane coordinates in units of the radius.
Light = Callable[[np.ndarray, np.ndarray], np.ndarray]


def dark(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros(np.broadcast(u, v).shape)


def arc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A third of a ring, 8 per cent of the sky bright, over about ten CCDs."""
    away = np.hypot(u - 0.1, v - 0.05)
    return 0.08 * SKY * np.exp(-(((away - 0.55) / 0.05) ** 2) / 2) * (np.arctan2(v, u) > 1)


def wcs(camera: Camera, ccd: Ccd, ra: float = 20.0, dec: float = -30.0) -> dict[str, Any]:
    crpix1, crpix2 = camera.crpix(ccd)
    cd1_1, cd1_2, cd2_1, cd2_2 = camera.cd_matrix()
    return {
        "ccdnum": ccd.num,
        "ccdname": ccd.name,
        "width": camera.nx,
        "height": camera.ny,
        "crpix1": crpix1,
        "crpix2": crpix2,
        "crval1": ra,
        "crval2": dec,
        "cd1_1": cd1_1,
        "cd1_2": cd1_2,
        "cd2_1": cd2_1,
        "cd2_2": cd2_2,
    }


def pixels(ccd: Ccd, seed: int, light: Light = dark, camera: Camera = CAMERA) -> np.ndarray:
    x, y = np.arange(1.0, camera.nx + 1)[None, :], np.arange(1.0, camera.ny + 1)[:, None]
    u, v = camera.focal_plane(ccd, x, y)
    noise = np.random.default_rng([seed, ccd.num]).normal(0, NOISE, (camera.ny, camera.nx))
    return (SKY + light(u, v) + noise).astype(np.float32)


def file_name(night: str, expnum: int, kind: str = "ooi") -> str:
    return f"decam/CP{night}/c4d_{expnum:06d}_{kind}_r_v1.fits.fz"


def write(
    lake: Lake,
    images: Path,
    night: str,
    expnums: Collection[int],
    light: Light = dark,
    without: Collection[int] = (),
) -> None:
    """Write images and CCD rows of a night; the images lack the CCDs `without`."""
    for expnum in expnums:
        path = images / file_name(night, expnum)
        path.parent.mkdir(parents=True, exist_ok=True)
        with fitsio.FITS(str(path), "rw", clobber=True) as file:
            file.write(None)
            for ccd in CCDS:
                if ccd.num not in without:
                    file.write(pixels(ccd, expnum, light), extname=ccd.name)
    write_rows(lake, night, expnums)


def write_rows(lake: Lake, night: str, expnums: Collection[int], **columns: Any) -> None:
    rows = [
        wcs(CAMERA, ccd)
        | {"expnum": expnum, "image_filename": file_name(night, expnum), "image_hdu": ccd.num}
        | columns
        for expnum in expnums
        for ccd in CCDS
    ]
    keys = {"release": "dr10", "camera": "decam", "night": night}
    record = Record("ingest", inputs={str(expnum): str(columns) for expnum in expnums})
    lake.write("ccds", keys, pa.Table.from_pylist(rows), record)
