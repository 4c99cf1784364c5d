"""What the headers of an image file say of its exposure and of each of its CCDs.

Only headers are read, never pixels. Apart from the rest of ingest, so that the processes that read
headers side by side need import no more than fitsio.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import fitsio

from images.damage import plain_words
from images.pixels import open_images
from lake.cameras import camera_of_instrument, ccd_name, ccd_number
from lake.errors import SurveyError, escaped

#: Filters whose first word is not the band: Mosaic-3's and 90Prime's.
BANDS = {"zd": "z", "bokr": "r"}

#: Words in ``OBSTYPE`` of frames that are not of the sky (``zero``, ``dome flat``, …).
CALIBRATIONS = {"zero", "bias", "dark", "flat", "focus"}
#: The length of a FITS file is a multiple of this many bytes.
_BLOCK = 2880

#: Columns that are cards of the primary header: text, then numbers.
_EXPOSURE_TEXT = {
    "object": "OBJECT", "propid": "PROPID", "plver": "PLVER", "procdate": "DATE",
    "plprocid": "PLPROCID", "wcscal": "WCSCAL",
}  # fmt: skip
_EXPOSURE_NUMBERS = {"exptime": "EXPTIME", "airmass": "AIRMASS"}
#: Columns that are cards of the CCD's own header.
_CCD_NUMBERS = {
    "crpix1": "CRPIX1", "crpix2": "CRPIX2", "crval1": "CRVAL1", "crval2": "CRVAL2",
    "cd1_1": "CD1_1", "cd1_2": "CD1_2", "cd2_1": "CD2_1", "cd2_2": "CD2_2",
}  # fmt: skip
#: Cards kept under names of their own: like the table's zeropoint and sky, but not the same.
_KEPT_NUMBERS = {"scampflg": "SCAMPFLG", "magzpt": "MAGZPT", "avsky": "AVSKY", "avsig": "AVSIG"}
#: Larger numbers in a card are damage; integers below it are exact.
_MOST = 2.0**53
#: Pixels along the side of the largest image that is believed.
_LARGEST = 1_000_000

_Header = Mapping[str, Any]


@dataclass
class ImageHeaders:
    """What the headers of one file say.

    Attributes
    ----------
    camera : None where ``INSTRUME`` names none that is known here.
    expnum, mjd_obs : None where the header does not tell.
    ccds : rows of the table ``ccds``, but for `expnum`, `mjd_obs` and `image_filename`;
        ``ccdnum`` is 0 where the camera has no such CCD.
    errors : (HDU, what is wrong with it); the HDU is None when it is the whole file.
    """

    camera: str | None = None
    expnum: int | None = None
    mjd_obs: float | None = None
    ccds: list[dict[str, Any]] = field(default_factory=list)
    errors: list[tuple[int | None, str]] = field(default_factory=list)


def read_headers(path: Path, camera: str | None = None) -> ImageHeaders:
    """Read the headers of an image file; what cannot be read is told in its `errors`.

    ``ra_bore`` and ``dec_bore`` are the exposure's ``RA`` and ``DEC`` as in legacypipe's tables,
    else the telescope's (``TELRA``, ``TELDEC``), else the reference pixel's.

    Parameters
    ----------
    camera : the camera, for files whose ``INSTRUME`` does not name it.
    """
    headers = ImageHeaders(camera=camera)
    try:
        with open_images(path) as file:
            _read(file, path, headers)
    except SurveyError as error:
        headers.errors.append((None, str(error)))
    except Exception as error:  # damage surprises cfitsio and what is built on it in many ways
        headers.errors.append((None, f"{path}: damaged primary header ({_words(error)})"))
    return headers


def _read(file: fitsio.FITS, path: Path, headers: ImageHeaders) -> None:
    primary = file[0].read_header()
    product = _text(primary, "PRODTYPE") or "image"
    if product.lower() != "image":
        headers.errors.append((None, f"not an image but a product of type {escaped(product)}"))
        return
    kind = _text(primary, "OBSTYPE") or "object"
    if CALIBRATIONS & set(kind.lower().split()):
        headers.errors.append((None, f"not the sky but a calibration of type {kind!r}"))
        return
    instrument = _text(primary, "INSTRUME") or ""
    known = camera_of_instrument(instrument)
    headers.camera = headers.camera if known is None else known.name
    headers.expnum = _exposure_number(headers.camera, primary)
    headers.mjd_obs = _number(primary, "MJD-OBS")
    if headers.camera is None:
        headers.errors.append((None, f"INSTRUME {instrument!r} is no camera that is known"))
        return
    exposure = _exposure_columns(primary)
    length = math.inf if path.suffix == ".gz" else path.stat().st_size
    for hdu, extension in enumerate(file):
        try:
            if not isinstance(extension, fitsio.hdu.ImageHDU) or not extension.has_data():
                continue
            shape = extension.get_dims()
            if extension.get_offsets()["data_end"] > length:
                headers.errors.append((hdu, "the file ends within this CCD"))
            elif len(shape) == 2 and max(shape) > _LARGEST:
                headers.errors.append((hdu, f"damaged header (an image of {shape} pixels)"))
            elif len(shape) == 2:
                header = extension.read_header()
                columns = _ccd_columns(headers.camera, extension.get_extname().strip(), header)
                size = {"image_hdu": hdu, "width": int(shape[1]), "height": int(shape[0])}
                headers.ccds.append({**exposure, **_boresight(primary, header), **columns, **size})
        except Exception as error:
            headers.errors.append((hdu, f"damaged header ({_words(error)})"))
    if math.isfinite(length) and length % _BLOCK and not headers.errors:
        headers.errors.append((None, "the file is cut: what follows its last whole CCD is missing"))
    if not headers.ccds and not headers.errors:
        headers.errors.append((None, "holds no CCD image"))


def _exposure_columns(primary: _Header) -> dict[str, Any]:
    filter_name = (_text(primary, "FILTER") or "").split(" ")[0]
    return {
        "filter": BANDS.get(filter_name, filter_name) or None,
        "yshift": "YSHIFT" in primary,
        **{column: _text(primary, card) for column, card in _EXPOSURE_TEXT.items()},
        **{column: _number(primary, card) for column, card in _EXPOSURE_NUMBERS.items()},
        **{column: _number(primary, card) for column, card in _KEPT_NUMBERS.items()},
    }


def _ccd_columns(camera: str, name: str, header: _Header) -> dict[str, Any]:
    card = int(_number(header, "CCDNUM") or 0)
    named = ccd_name(camera, card)
    name = name or _text(header, "DETPOS") or named or ""
    # DECam's seeing in pixels, and that of Mosaic-3 and 90Prime, as legacypipe reads them.
    fwhm = _number(header, "FWHM") or _number(header, "SEEINGP1")
    return {
        "ccdname": name,
        # By the name, as the CCD tables are read; the card helps where it is not one of ours.
        "ccdnum": ccd_number(camera, name) or (card if named else 0),
        # What was not measured is written as 0.
        "fwhm": fwhm if fwhm and fwhm > 0 else None,
        **{column: _number(header, card) for column, card in _CCD_NUMBERS.items()},
        **{
            column: value
            for column, card in _KEPT_NUMBERS.items()
            if (value := _number(header, card)) is not None
        },
    }


def _boresight(primary: _Header, header: _Header) -> dict[str, float | None]:
    for ra_card, dec_card in (("RA", "DEC"), ("TELRA", "TELDEC")):
        ra, dec = _angle(primary.get(ra_card), 15), _angle(primary.get(dec_card), 1)
        if ra is not None and dec is not None:
            return {"ra_bore": ra, "dec_bore": dec}
    return {"ra_bore": _number(header, "CRVAL1"), "dec_bore": _number(header, "CRVAL2")}


def _exposure_number(camera: str | None, primary: _Header) -> int | None:
    number = _number(primary, "EXPNUM")
    if number is not None:
        return int(number) if number.is_integer() and abs(number) < _MOST else None
    digits = ""
    if camera == "90prime":
        # 90Prime counts in the name of its raw file: …/d7580.0144.fits is exposure 75800144.
        raw = PurePosixPath(_text(primary, "DTACQNAM") or "").name
        digits = "".join(re.findall(r"\d+", raw.split(".fits")[0]))
    elif camera == "mosaic":
        # Mosaic-3's first cards are blank: kp4m.20160125T082555 is exposure 160125082555.
        time = re.search(r"\d\d(\d{6})T(\d{6})", _text(primary, "OBSID") or "")
        digits = time[1] + time[2] if time else ""
    return int(digits) if 0 < len(digits) < 16 else None


# Cards -----------------------------------------------------------------------------------------


def _text(header: _Header, card: str) -> str | None:
    value = header.get(card)
    return (str(value).strip() or None) if value is not None else None


def _number(header: _Header, card: str) -> float | None:
    """Return a card as a number; None where it is absent, blank, absurd or holds words."""
    value = header.get(card)
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < _MOST else None


def _angle(value: Any, degrees_per_unit: float) -> float | None:
    """Return degrees: a number is degrees, ``[-]hh:mm:ss.s`` is in units of `degrees_per_unit`."""
    if isinstance(value, str):
        parts = re.fullmatch(r"\s*([+-]?)(\d{1,3}):([0-5]?\d):([0-5]?\d(?:\.\d*)?)\s*", value)
        if parts is None:
            return None
        size = int(parts[2]) + int(parts[3]) / 60 + float(parts[4]) / 3600
        return (-size if parts[1] == "-" else size) * degrees_per_unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _MOST else None


def _words(error: Exception) -> str:
    # That it is the header stands before them.
    return plain_words(error).removeprefix("its header is damaged: ")
