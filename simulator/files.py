"""Exposures on disk, as DECam's community pipeline lays them out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from simulator.camera import CCDS, PIXEL_SCALE, Camera, Ccd
from simulator.conditions import BANDS, GAIN, READ_NOISE, SATURATION, Exposure, Settings
from simulator.psf import Psf
from simulator.render import exposure_psf, render

PLVER = "V5.5"
_QUANTISATION = 4.0  # steps per noise sigma, the pipeline's FZQVALUE

Cards = list[dict[str, Any]]


def _sexagesimal(value: float, *, sign: bool) -> str:
    thousandths = round(abs(value) * 3_600_000)
    minutes, rest = divmod(thousandths, 60_000)
    prefix = ("-" if value < 0 else "+") if sign else ""
    return f"{prefix}{minutes // 60:02d}:{minutes % 60:02d}:{rest / 1000:06.3f}"


def _card(name: str, value: object, comment: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "comment": comment}


def primary_cards(exposure: Exposure) -> Cards:
    """The primary header of an exposure."""
    conditions = exposure.conditions
    end = exposure.date_obs + timedelta(seconds=conditions.exptime)
    return [
        _card("OBJECT", exposure.object_name, "Name of the object observed"),
        _card("PROCTYPE", "InstCal", "Data processing level"),
        _card("PRODTYPE", "image", "Data product type"),
        _card("PIXSCAL1", PIXEL_SCALE, "[arcsec/pixel] Pixel scale, axis 1"),
        _card("PIXSCAL2", PIXEL_SCALE, "[arcsec/pixel] Pixel scale, axis 2"),
        _card("TELESCOP", "CTIO 4.0-m telescope", "Telescope name"),
        _card("OBSERVAT", "CTIO", "Observatory name"),
        _card("INSTRUME", "DECam", "Instrument used to obtain these data"),
        _card("EXPREQ", BANDS[exposure.band].exptime, "[s] Requested exposure duration"),
        _card("EXPTIME", conditions.exptime, "[s] Exposure duration"),
        _card("DATE-OBS", exposure.date_obs.strftime("%Y-%m-%dT%H:%M:%S.%f"), "UTC epoch"),
        _card("MJD-OBS", exposure.mjd_obs, "MJD of observation start"),
        _card("MJD-END", exposure.mjd_obs + conditions.exptime / 86_400, "Exposure end"),
        _card("TIMESYS", "UTC", "Time system"),
        _card("EXPNUM", exposure.expnum, "DECam exposure number"),
        _card("OBSTYPE", "object", "Type of observation"),
        _card("PROPID", exposure.propid, "Proposal ID"),
        _card("FILTER", BANDS[exposure.band].filter_card, "Unique filter identifier"),
        _card("BAND", exposure.band, "Band"),
        _card("NITE", exposure.night, "Night of the observation"),
        _card("RA", _sexagesimal(exposure.ra / 15, sign=False), "[HH:MM:SS] Target RA"),
        _card("DEC", _sexagesimal(exposure.dec, sign=True), "[DD:MM:SS] Target DEC"),
        _card("TELRA", _sexagesimal(exposure.ra / 15, sign=False), "[HH:MM:SS] Telescope RA"),
        _card("TELDEC", _sexagesimal(exposure.dec, sign=True), "[DD:MM:SS] Telescope DEC"),
        _card("AIRMASS", round(conditions.airmass, 2), "Airmass"),
        _card(
            "DTCALDAT", f"{exposure.night[:4]}-{exposure.night[4:6]}-{exposure.night[6:]}", "Night"
        ),
        _card("DTUTC", end.strftime("%Y-%m-%dT%H:%M:%S"), "post exposure UTC epoch"),
        _card("WCSCAL", "Successful", "Astrometric calibration"),
        _card("PLVER", PLVER, "Pipeline version"),
        _card("PLPROCID", f"{exposure.expnum:x}", "Processing ID"),
    ]


def ccd_cards(
    exposure: Exposure, camera: Camera, ccd: Ccd, psf: Psf, sky: float, noise: float
) -> Cards:
    """The header of a CCD's extension; ``sky`` and ``noise`` in ADU."""
    crpix1, crpix2 = camera.crpix(ccd)
    cd1_1, cd1_2, cd2_1, cd2_2 = camera.cd_matrix()
    return [
        _card("DETSEC", camera.detsec(ccd), "Location of this CCD on Focal Plane"),
        _card("CCDNUM", ccd.num, "CCD number"),
        _card("DETPOS", ccd.name, "detector position ID"),
        _card("GAINA", GAIN, "[e/adu] Gain of amp A"),
        _card("GAINB", GAIN, "[e/adu] Gain of amp B"),
        _card("RDNOISEA", READ_NOISE, "[electrons] Read noise for amp A"),
        _card("RDNOISEB", READ_NOISE, "[electrons] Read noise for amp B"),
        _card("SATURATE", SATURATION, "[adu] Saturation level"),
        _card("ARAWGAIN", GAIN, "[e/adu] Average raw gain"),
        _card("WCSAXES", 2, "WCS Dimensionality"),
        _card("CTYPE1", "RA---TAN", "WCS projection type for this axis"),
        _card("CTYPE2", "DEC--TAN", "WCS projection type for this axis"),
        _card("CUNIT1", "deg", "Axis unit"),
        _card("CUNIT2", "deg", "Axis unit"),
        _card("CRVAL1", exposure.ra, "World coordinate on this axis"),
        _card("CRVAL2", exposure.dec, "World coordinate on this axis"),
        _card("CRPIX1", crpix1, "Reference pixel on this axis"),
        _card("CRPIX2", crpix2, "Reference pixel on this axis"),
        _card("CD1_1", cd1_1, "Linear projection matrix"),
        _card("CD1_2", cd1_2, "Linear projection matrix"),
        _card("CD2_1", cd2_1, "Linear projection matrix"),
        _card("CD2_2", cd2_2, "Linear projection matrix"),
        _card("FWHM", psf.fwhm, "Median FWHM in pixels"),
        _card("PSFNORM", psf.norm, "Root of the sum of the squared PSF"),
        _card("AVSKY", sky, "[adu] Median sky"),
        _card("AVSIG", noise, "[adu] Noise of the sky"),
    ]


def measure_sky(image: NDArray[np.float32]) -> tuple[float, float]:
    """Median of an image, and its noise from the differences of neighbouring pixels."""
    step = max(1, image.size // 200_000)
    rows = image[:: max(1, int(np.sqrt(step)))]
    median = float(np.median(rows))
    difference = rows[:, 1::2] - rows[:, 0 : rows.shape[1] - 1 : 2]
    noise = 1.4826 * float(np.median(np.abs(difference))) / np.sqrt(2)
    return median, float(noise)


@dataclass(frozen=True)
class Measured:
    """What was measured on an exposure while it was written."""

    fwhm: float  # pixels
    psfnorm: float
    skies: tuple[tuple[float, float], ...]  # median and noise [ADU] of each CCD


def write_exposure(path: Path, exposure: Exposure, settings: Settings) -> Measured:
    """Render an exposure and write it as one Rice-compressed multi-extension file.

    The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    psf = exposure_psf(exposure)
    skies = []
    try:
        with fitsio.FITS(str(part), "rw", clobber=True) as fits:
            fits.write(None, header=primary_cards(exposure))
            for ccd in CCDS:
                image = render(exposure, settings, ccd, psf)
                sky, noise = measure_sky(image)
                skies.append((sky, noise))
                fits.write(
                    image,
                    extname=ccd.name,
                    header=ccd_cards(exposure, settings.camera, ccd, psf, sky, noise),
                    compress="RICE",
                    qlevel=_QUANTISATION,
                    qmethod="SUBTRACTIVE_DITHER_1",
                    # fixed, where the library's own choice would follow the clock
                    dither_seed=ccd.num,
                )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Measured(psf.fwhm, psf.norm, tuple(skies))


def read_measured(path: Path) -> Measured:
    """What `write_exposure` measured, from the headers that it wrote."""
    with fitsio.FITS(str(path)) as fits:
        headers = [fits[ccd.name].read_header() for ccd in CCDS]
    skies = tuple((float(header["AVSKY"]), float(header["AVSIG"])) for header in headers)
    return Measured(float(headers[0]["FWHM"]), float(headers[0]["PSFNORM"]), skies)
