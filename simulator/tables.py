"""The survey-ccds table and the truth."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake.outputs import write_output
from simulator.camera import CCDS, PIXEL_SCALE
from simulator.conditions import BANDS, SATURATION, Exposure, Settings
from simulator.files import PLVER, Measured

# legacypipe's ccd_cuts, as far as the simulated conditions decide them
_EXPTIME, _ZPT_SMALL, _SKY_IS_BRIGHT, _SEEING_BAD, _DEPTH_CUT = 0x8, 0x40, 0x100, 0x1000, 0x4000

_DTYPE = [
    ("image_filename", "S100"),
    ("image_hdu", ">i2"),
    ("camera", "S5"),
    ("expnum", ">i8"),
    ("plver", "S8"),
    ("procdate", "S19"),
    ("plprocid", "S7"),
    ("ccdname", "S3"),
    ("object", "S35"),
    ("propid", "S10"),
    ("filter", "S1"),
    ("exptime", ">f4"),
    ("mjd_obs", ">f8"),
    ("airmass", ">f4"),
    ("fwhm", ">f4"),
    ("width", ">i2"),
    ("height", ">i2"),
    ("ra_bore", ">f8"),
    ("dec_bore", ">f8"),
    ("crpix1", ">f4"),
    ("crpix2", ">f4"),
    ("crval1", ">f8"),
    ("crval2", ">f8"),
    ("cd1_1", ">f4"),
    ("cd1_2", ">f4"),
    ("cd2_1", ">f4"),
    ("cd2_2", ">f4"),
    ("yshift", "?"),
    ("ra", ">f8"),
    ("dec", ">f8"),
    ("skyrms", ">f4"),
    ("sig1", ">f4"),
    ("ccdzpt", ">f4"),
    ("zpt", ">f4"),
    ("ccdraoff", ">f4"),
    ("ccddecoff", ">f4"),
    ("ccdskycounts", ">f4"),
    ("ccdskysb", ">f4"),
    ("ccdrarms", ">f4"),
    ("ccddecrms", ">f4"),
    ("ccdphrms", ">f4"),
    ("ccdnastrom", ">i2"),
    ("ccdnphotom", ">i2"),
    ("ccd_cuts", ">i8"),
    ("psfnorm", ">f4"),
    ("galnorm", ">f4"),
    ("ebv", ">f4"),
]


def _cuts(exposure: Exposure, zpt: float, sky: float, fwhm: float) -> int:
    conditions, typical = exposure.conditions, BANDS[exposure.band]
    depth = (
        10 ** (-0.8 * (typical.zeropoint - zpt))
        * (1.15 / (fwhm * PIXEL_SCALE)) ** 2
        * (conditions.exptime / typical.exptime)
        * (typical.sky / max(sky / conditions.exptime, 1e-6))
    )
    return (
        _EXPTIME * (conditions.exptime < 30)
        | _ZPT_SMALL * (zpt < typical.zeropoint - 0.25)
        | _SKY_IS_BRIGHT * (sky / conditions.exptime > 2.5 * typical.sky)
        | _SEEING_BAD * (fwhm * PIXEL_SCALE > 3.0)
        | _DEPTH_CUT * (depth < 0.3)
    )


def ccd_table(
    exposures: Sequence[Exposure], measured: Sequence[Measured], settings: Settings, seed: int
) -> np.ndarray:
    """The survey-ccds table: a row per CCD, with the columns of a real one and ``ebv``."""
    camera = settings.camera
    rng = np.random.default_rng([seed, 1])
    table = np.zeros(len(exposures) * len(CCDS), dtype=_DTYPE)
    cd = camera.cd_matrix()
    row = 0
    for exposure, values in zip(exposures, measured, strict=True):
        conditions = exposure.conditions
        clear = BANDS[exposure.band].zeropoint - 0.1 * (conditions.airmass - 1)
        zpt = clear - conditions.extinction
        for index, (ccd, (sky, noise)) in enumerate(zip(CCDS, values.skies, strict=True)):
            crpix1, crpix2 = camera.crpix(ccd)
            ra, dec = camera.sky_position(
                ccd, exposure.ra, exposure.dec, (camera.nx + 1) / 2, (camera.ny + 1) / 2
            )
            ccdzpt = zpt + 0.006 * rng.standard_normal()
            skyrms = max(noise, 0.05) / conditions.exptime
            per_second = sky / conditions.exptime
            n_matched = int(rng.poisson(settings.star_density * conditions.object_density))
            cells: dict[str, Any] = {
                "image_filename": exposure.filename,
                "image_hdu": index + 1,
                "camera": "decam",
                "expnum": exposure.expnum,
                "plver": PLVER,
                "procdate": exposure.date_obs.replace(year=exposure.date_obs.year + 1).strftime(
                    "%Y-%m-%dT%H:%M:%S"
                )
                if (exposure.date_obs.month, exposure.date_obs.day) != (2, 29)
                else exposure.date_obs.strftime("%Y-%m-%dT%H:%M:%S"),
                "plprocid": f"{exposure.expnum:x}",
                "ccdname": ccd.name,
                "object": exposure.object_name,
                "propid": exposure.propid,
                "filter": exposure.band,
                "exptime": conditions.exptime,
                "mjd_obs": exposure.mjd_obs,
                "airmass": round(conditions.airmass, 2),
                "fwhm": values.fwhm,
                "width": camera.nx,
                "height": camera.ny,
                "ra_bore": exposure.ra,
                "dec_bore": exposure.dec,
                "crpix1": crpix1,
                "crpix2": crpix2,
                "crval1": exposure.ra,
                "crval2": exposure.dec,
                "cd1_1": cd[0],
                "cd1_2": cd[1],
                "cd2_1": cd[2],
                "cd2_2": cd[3],
                "ra": ra,
                "dec": dec,
                "skyrms": skyrms,
                "sig1": skyrms * 10 ** (0.4 * (22.5 - ccdzpt)),
                "ccdzpt": ccdzpt,
                "zpt": zpt,
                "ccdraoff": 0.02 * rng.standard_normal(),
                "ccddecoff": 0.02 * rng.standard_normal(),
                "ccdskycounts": per_second,
                "ccdskysb": ccdzpt - 2.5 * np.log10(max(per_second, 1e-6) / PIXEL_SCALE**2),
                "ccdrarms": 0.03,
                "ccddecrms": 0.03,
                "ccdphrms": 0.012 + 0.3 * max(conditions.extinction, 0) / 3,
                "ccdnastrom": n_matched,
                "ccdnphotom": n_matched,
                "ccd_cuts": _cuts(exposure, ccdzpt, sky, values.fwhm),
                "psfnorm": values.psfnorm,
                # convolving with a round galaxy of 0.45 arcsec adds about 39.5 pixels of noise area
                "galnorm": 1 / np.sqrt(values.psfnorm**-2 + 39.5),
                "ebv": exposure.ebv,
            }
            for name, value in cells.items():
                table[name][row] = value
            row += 1
    return table


def write_ccd_table(path: Path, table: np.ndarray) -> None:
    """Write the survey-ccds table as FITS (gzipped where the name says so), whole or not at all."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with fitsio.FITS(str(part), "rw", clobber=True) as fits:
            fits.write(table, extname="survey-ccds")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_truth(
    directory: Path, exposures: Sequence[Exposure], listed: dict[int, tuple[str, str]]
) -> tuple[Path, Path]:
    """Write ``truth.parquet`` (CCDs with a defect) and ``truth-exposures.parquet`` (all exposures).

    ``listed`` gives the class and the list of those exposures that a list names.
    """
    names = {ccd.num: ccd.name for ccd in CCDS}
    ccd_rows: list[dict[str, Any]] = []
    exposure_rows: list[dict[str, Any]] = []
    for exposure in exposures:
        defect, conditions = exposure.defect, exposure.conditions
        listed_class, source = listed.get(exposure.expnum, (None, None))
        exposure_rows.append(
            {
                "expnum": exposure.expnum,
                "night": exposure.night,
                "band": exposure.band,
                "image_filename": exposure.filename,
                "class": defect.kind if defect else "good",
                "variant": defect.variant if defect else None,
                "strength": defect.strength if defect else 0.0,
                "visible": bool(defect and defect.visible),
                "quantity": defect.quantity if defect else None,
                "unit": defect.unit if defect else None,
                "signal": defect.signal if defect else None,
                "scatter": defect.scatter if defect else None,
                "n_ccds": len(defect.ccdnums) if defect else 0,
                "ccdnums": list(defect.ccdnums) if defect else [],
                "parameters": json.dumps(defect.parameters) if defect else None,
                "listed_class": listed_class,
                "listed_in": source,
                "seeing": conditions.seeing,
                "sky": min(conditions.sky + conditions.twilight, SATURATION),
                "extinction": conditions.extinction,
                "airmass": conditions.airmass,
                "exptime": conditions.exptime,
                "object_density": conditions.object_density,
                "satellite": conditions.satellite is not None,
            }
        )
        if defect is None:
            continue
        ccd_rows.extend(
            {
                "expnum": exposure.expnum,
                "ccdnum": num,
                "ccdname": names[num],
                "class": defect.kind,
                "variant": defect.variant,
                "strength": defect.strength,
                "visible": defect.visible,
                "night": exposure.night,
            }
            for num in defect.ccdnums
        )
    ccd_path, exposure_path = directory / "truth.parquet", directory / "truth-exposures.parquet"
    of_ccds = pa.Table.from_pylist(ccd_rows, schema=_CCD_TRUTH)
    of_exposures = pa.Table.from_pylist(exposure_rows, schema=_EXPOSURE_TRUTH)
    write_output(ccd_path, lambda file: pq.write_table(of_ccds, file))
    write_output(exposure_path, lambda file: pq.write_table(of_exposures, file))
    return ccd_path, exposure_path


_CCD_TRUTH = pa.schema(
    [
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
        ("ccdname", pa.string()),
        ("class", pa.string()),
        ("variant", pa.string()),
        ("strength", pa.float64()),
        ("visible", pa.bool_()),
        ("night", pa.string()),
    ]
)
_EXPOSURE_TRUTH = pa.schema(
    [
        ("expnum", pa.int64()),
        ("night", pa.string()),
        ("band", pa.string()),
        ("image_filename", pa.string()),
        ("class", pa.string()),
        ("variant", pa.string()),
        ("strength", pa.float64()),
        ("visible", pa.bool_()),
        ("quantity", pa.string()),
        ("unit", pa.string()),
        ("signal", pa.float64()),
        ("scatter", pa.float64()),
        ("n_ccds", pa.int16()),
        ("ccdnums", pa.list_(pa.int16())),
        ("parameters", pa.string()),
        ("listed_class", pa.string()),
        ("listed_in", pa.string()),
        ("seeing", pa.float64()),
        ("sky", pa.float64()),
        ("extinction", pa.float64()),
        ("airmass", pa.float64()),
        ("exptime", pa.float64()),
        ("object_density", pa.float64()),
        ("satellite", pa.bool_()),
    ]
)
