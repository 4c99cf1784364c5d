"""The cameras: what they are called, their CCDs and where these lie, and what a pixel measures.

Everything that depends on the camera asks `camera(name)`. A CCD table may be of a camera that is
not known here: its CCDs are then numbered by their names (`ccd_number`), and only what needs a
constant refuses it.

Where several CCDs or amplifiers differ, a constant is their median or mean; where documents and
headers of images differ, the headers count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any
from urllib.parse import quote

from lake.errors import BadInput


@dataclass(frozen=True)
class Ccd:
    """A CCD: number and name, and its centre in the focal plane.

    `x` and `y` count from the middle of the focal plane along the axes of the CCD images, in units
    of `Camera.pitch`.
    """

    num: int
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes
    ----------
    name : as the CCD tables and the lake call it.
    instrume : values of the header card ``INSTRUME``, in lower case.
    ccds : in the order of their numbers, which count from 1 (0 stands for the whole exposure).
    size : pixels of a CCD image along x and y; the largest where they differ.
    pitch : pixels between the centres of neighbouring CCDs along x and y.
    pixel_scale : arcsec per pixel.
    gain : electrons per ADU.
    read_noise : electrons.
    saturation : ADU at which the wells of a typical CCD are full.
    is_per_second : whether its images hold electrons per second (of ``EXPTIME``) instead of ADU.
    viewer_layers : layers of the survey's sky viewer that show its CCDs, the usual one first.
    """

    name: str
    instrume: tuple[str, ...]
    ccds: tuple[Ccd, ...]
    size: tuple[int, int]
    pitch: tuple[float, float]
    pixel_scale: float
    gain: float
    read_noise: float
    saturation: float
    is_per_second: bool = False
    viewer_layers: tuple[str, ...] = ()

    @cached_property
    def ccdnums(self) -> Mapping[str, int]:
        """CCD name -> number."""
        return {ccd.name: ccd.num for ccd in self.ccds}

    @cached_property
    def ccdnames(self) -> Mapping[int, str]:
        """CCD number -> name."""
        return {ccd.num: ccd.name for ccd in self.ccds}

    @property
    def constants(self) -> dict[str, float]:
        """What turns pixels into arcseconds, electrons and shares of a full well."""
        return {
            PIXEL_SCALE: self.pixel_scale,
            "gain": self.gain,
            "read_noise": self.read_noise,
            "saturation": self.saturation,
            "is_per_second": self.is_per_second,
        }


# Layouts ---------------------------------------------------------------------------------------

#: Rows of the DECam focal plane as (half, first name number, last name number).
_DECAM_ROWS = (
    ("S", 29, 31), ("S", 25, 28), ("S", 20, 24), ("S", 14, 19), ("S", 8, 13), ("S", 1, 7),
    ("N", 1, 7), ("N", 8, 13), ("N", 14, 19), ("N", 20, 24), ("N", 25, 28), ("N", 29, 31),
)  # fmt: skip


def _decam() -> Iterator[Ccd]:
    """Yield S29 (1) to N31 (62): the twelve rows follow each other along x."""
    num = 0
    for row, (half, first, last) in enumerate(_DECAM_ROWS):
        for name in range(first, last + 1):
            num += 1
            yield Ccd(num, f"{half}{name}", row - 5.5, name - (first + last) / 2)


def _two_by_two() -> Iterator[Ccd]:
    """Yield ccd1 to ccd4: along x first, then along y, as the CRPIX cards of both cameras say."""
    for index, (y, x) in enumerate(product((-0.5, 0.5), repeat=2)):
        yield Ccd(index + 1, f"ccd{index + 1}", x, y)


#: Millimetres between centres of CCDs in a raft and of rafts, and pixels per millimetre:
#: github.com/lsst/obs_lsst, policy/cameraHeader.yaml and policy/rafts.yaml.
_LSST_CCD, _LSST_RAFT, _LSST_PIXELS = 42.25, 127.0, 100.0


def _lsstcam() -> Iterator[Ccd]:
    """Yield R01_S00 (1) to R43_S22 (189): rafts of 3 x 3 CCDs, Ryx, on 5 x 5 without the corners.

    The numbers are the project's detector numbers and one more, since 0 is the whole exposure.
    """
    num = 0
    for raft_y, raft_x in product(range(5), repeat=2):
        if raft_y in (0, 4) and raft_x in (0, 4):
            continue  # guiding and wavefront CCDs
        for y, x in product(range(3), repeat=2):
            num += 1
            centre_x, centre_y = _LSST_RAFT * (raft_x - 2), _LSST_RAFT * (raft_y - 2)
            yield Ccd(
                num,
                f"R{raft_y}{raft_x}_S{y}{x}",
                centre_x / _LSST_CCD + x - 1,
                centre_y / _LSST_CCD + y - 1,
            )


# Cameras ---------------------------------------------------------------------------------------

DECAM = Camera(
    name="decam",
    instrume=("decam",),  # INSTRUME of c4d_…_ooi files: DECam
    ccds=tuple(_decam()),
    size=(2046, 4094),  # NAXIS1, NAXIS2 of ooi files
    # Flaugher et al. 2015, AJ 150, 150: gaps of 201 pixels between the long edges, 153 between
    # the short ones.
    pitch=(2247.0, 4247.0),
    pixel_scale=0.262,  # legacypipe, decam.py; Flaugher et al. 2015: 0.263 in the middle
    gain=4.0,  # GAINA, GAINB of 19 ooi files of 2014-2018: 3.7 to 4.1, median 3.95
    # RDNOISEA, RDNOISEB of these: 5.8 to 11.8, rms 7.2. The vectors of version 0.1.0 were measured
    # with 8, which changing would make all of DECam's out of date.
    read_noise=8.0,
    saturation=45_000.0,  # SATURATA, SATURATB of these: 39,000 to 50,000, mean 44,700
    viewer_layers=("ls-dr10", "ls-dr9"),
)

MOSAIC = Camera(
    name="mosaic",
    instrume=("mosaic3",),  # INSTRUME of k4m_…_ooi files: Mosaic3
    ccds=tuple(_two_by_two()),
    # Headers of k4m_180103_040423_ooi_zd_v1 (legacypipe, py/legacyanalysis/mosaic.wcs and
    # tiling.py) for all that follows: NAXIS1 4054 or 4096, NAXIS2 4061 or 4079.
    size=(4096, 4079),
    pitch=(4293.0, 4292.0),  # CRPIX1, CRPIX2 and the sizes
    pixel_scale=0.260,  # CD matrices: 0.2597; PIXSCAL1 says 0.258; legacysurvey/obsbot 0.260
    gain=1.86,  # GAIN: 1.94, 1.86, 1.91, 1.72
    read_noise=4.8,  # RDNOISE: 4.62, 4.44, 4.11, 5.96
    saturation=46_400.0,  # SATURATE: 45,600, 33,600, 47,200, 52,428
    is_per_second=True,  # BUNIT: counts/s, "photoelectrons per second"
    viewer_layers=("ls-dr9-north",),  # github.com/legacysurvey/imagine, map/views.py
)

NINETY_PRIME = Camera(
    name="90prime",
    instrume=("90prime",),  # INSTRUME of ksb_…_ooi files
    ccds=tuple(_two_by_two()),
    # Headers of legacypipe's py/legacypipe/config/ksb_staticmask_ood_v1.fits.fz.
    size=(4032, 4096),  # CCDSIZE
    pitch=(4176.0, 4462.0),  # CRPIX1, CRPIX2
    pixel_scale=0.453,  # CD matrices: 0.4530 to 0.4533; legacypipe, bok.py 0.454
    # GAIN1 to GAIN16 of 8 ooi files of 2016-2018 (legacypipe, py/test): 1.3 to 1.7, median 1.4, as
    # in legacypipe, bok.py.
    gain=1.4,
    read_noise=7.3,  # RDNOIS1 to RDNOIS16 of these: 6.0 to 9.9, mean 7.3
    saturation=52_250.0,  # SATURATE of these
    is_per_second=True,  # BUNIT: counts/s, "photoelectrons per second"
    viewer_layers=("ls-dr9-north",),
)

LSSTCAM = Camera(
    name="lsstcam",
    instrume=("lsstcam",),  # obs_lsst, python/lsst/obs/lsst/translators/lsstCam.py
    ccds=tuple(_lsstcam()),
    # The CCDs of E2V; those of ITL have 4072 x 4000 (obs_lsst, policy/cameraHeader.yaml).
    size=(4096, 4004),
    pitch=(_LSST_CCD * _LSST_PIXELS, _LSST_CCD * _LSST_PIXELS),
    pixel_scale=0.2,  # 20.006 arcsec/mm, 10 micrometres: obs_lsst, policy/cameraTransforms.yaml
    # Medians over the 3,024 amplifiers of obs_lsst, policy/lsstCam/R??.yaml (run 13412): gain 1.48
    # of E2V, 1.67 of ITL; read noise 5.4 and 6.4; saturation 140,000 and 126,000, of raw images,
    # whose bias is part of it.
    gain=1.51,
    read_noise=5.6,
    saturation=135_000.0,
)

#: The cameras by name.
CAMERAS: Mapping[str, Camera] = {
    known.name: known for known in (DECAM, MOSAIC, NINETY_PRIME, LSSTCAM)
}
_BY_INSTRUME = {value: known for known in CAMERAS.values() for value in known.instrume}

#: Name of a constant, and in the settings of an embedder that measures with the constants.
PIXEL_SCALE = "pixel_scale"

_NUMBERED = re.compile(r"^(?:ccd)?[ _-]?(\d+)$", re.IGNORECASE)
#: The largest number of a CCD of a camera that is not known.
_LARGEST = 999


def camera(name: str) -> Camera:
    """Return the camera called `name`; raises `SurveyError` naming those that are known."""
    if name not in CAMERAS:
        raise BadInput(f"camera {name!r} is not known: the cameras are {', '.join(CAMERAS)}")
    return CAMERAS[name]


def camera_of_instrument(instrume: str) -> Camera | None:
    """Return the camera that a header names in ``INSTRUME``, None where it is not known."""
    return _BY_INSTRUME.get(instrume.strip().lower())


def is_by_camera(settings: Mapping[str, Any]) -> bool:
    """Tell whether the camera's constants decide the vectors of an embedder of these settings.

    They do where its settings, or those of the embedder whose vectors it pools, name a pixel scale.
    """
    return PIXEL_SCALE in settings or PIXEL_SCALE in settings.get("pooled", ())


def named_constants(name: str) -> dict[str, float]:
    """Return what the record of vectors that a camera's constants decide names of these.

    Only those that differ from DECam's, with which version 0.1.0 measured the images of every
    camera: DECam's vectors stay current, those of the others count as made in another way. None of
    a camera that is not known.
    """
    if name not in CAMERAS:
        return {}
    usual = DECAM.constants
    constants = CAMERAS[name].constants.items()
    return {constant: value for constant, value in constants if value != usual[constant]}


def ccd_number(camera: str, ccdname: str) -> int | None:
    """Return the number of a CCD, or None when the camera has no CCD of this name.

    Names are ``N1``…``S31`` of DECam, ``ccd1``…``ccd4`` of Mosaic-3 and 90Prime, ``R01_S00``…
    ``R43_S22`` of LSSTCam. A bare number stands for itself, and so does ``ccd`` with a number.
    """
    name, known = ccdname.strip(), CAMERAS.get(camera)
    if known is not None and name.upper() in known.ccdnums:
        return known.ccdnums[name.upper()]
    numbered = _NUMBERED.match(name)
    if numbered and 0 < int(numbered[1]) <= (_LARGEST if known is None else len(known.ccds)):
        return int(numbered[1])
    return None


def ccd_name(camera: str, ccdnum: int) -> str | None:
    """Return the name of a CCD, or None when the camera has no CCD of this number."""
    if camera in CAMERAS:
        return CAMERAS[camera].ccdnames.get(ccdnum)
    return f"ccd{ccdnum}" if 0 < ccdnum <= _LARGEST else None


def viewer_url(camera: str, expnum: int, ccdname: str, release: str = "dr10") -> str | None:
    """Return where the survey itself shows a CCD, or None for a camera that it does not show."""
    layers = CAMERAS[camera].viewer_layers if camera in CAMERAS else ()
    if not layers:
        return None
    layer = next((layer for layer in layers if layer.split("-")[1] == release), layers[0])
    ccd = f"{camera}-{expnum}-{quote(ccdname, safe='')}"
    return f"https://www.legacysurvey.org/viewer/ccd/{layer}/{ccd}.xhtml"
