"""Names and numbers of CCDs, and the night that an exposure belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from lake.errors import SurveyError

#: Rows of the DECam focal plane as (half, first name number, last name number, first CCD number).
_DECAM_ROWS = (
    ("S", 29, 31, 1),
    ("S", 25, 28, 4),
    ("S", 20, 24, 8),
    ("S", 14, 19, 13),
    ("S", 8, 13, 19),
    ("S", 1, 7, 25),
    ("N", 1, 7, 32),
    ("N", 8, 13, 39),
    ("N", 14, 19, 45),
    ("N", 20, 24, 51),
    ("N", 25, 28, 56),
    ("N", 29, 31, 60),
)


def _decam() -> Iterator[tuple[str, int]]:
    for half, first, last, number in _DECAM_ROWS:
        for offset, name in enumerate(range(first, last + 1)):
            yield f"{half}{name}", number + offset


#: DECam CCD name -> number, ``S29`` (1) to ``N31`` (62).
DECAM_CCDS: dict[str, int] = dict(_decam())
#: DECam CCD number -> name.
DECAM_NAMES: dict[int, str] = {number: name for name, number in DECAM_CCDS.items()}

#: How many CCDs each camera has.
N_CCDS = {"decam": 62, "mosaic": 4, "90prime": 4}

_NUMBERED = re.compile(r"^(?:ccd)?[ _-]?(\d+)$", re.IGNORECASE)


def check_camera(camera: str) -> str:
    """Return `camera` where it is one that keeps lists; raises `SurveyError` naming those."""
    if camera not in N_CCDS:
        raise SurveyError(f"--camera {camera}: the cameras are {', '.join(N_CCDS)}")
    return camera


def ccd_number(camera: str, ccdname: str) -> int | None:
    """Return the number of a CCD, or None when the camera has no CCD of this name.

    DECam's names are ``N1``…``N31``, ``S1``…``S31``; the four-CCD cameras call theirs
    ``ccd1``…``ccd4``. A bare number stands for itself.
    """
    name = ccdname.strip()
    if camera == "decam" and name.upper() in DECAM_CCDS:
        return DECAM_CCDS[name.upper()]
    numbered = _NUMBERED.match(name)
    if numbered and 0 < int(numbered[1]) <= N_CCDS.get(camera, 999):
        return int(numbered[1])
    return None


def ccd_name(camera: str, ccdnum: int) -> str | None:
    """Return the name of a CCD, or None when the camera has no CCD of this number."""
    if camera == "decam":
        return DECAM_NAMES.get(ccdnum)
    return f"ccd{ccdnum}" if 0 < ccdnum <= N_CCDS.get(camera, 999) else None


def viewer_url(camera: str, expnum: int, ccdname: str, release: str = "dr10") -> str | None:
    """Return where the survey itself shows a CCD, or None for a camera that it does not show."""
    if camera != "decam":
        return None
    layer = "ls-dr9" if release == "dr9" else "ls-dr10"
    ccd = f"decam-{expnum}-{quote(ccdname, safe='')}"
    return f"https://www.legacysurvey.org/viewer/ccd/{layer}/{ccd}.xhtml"
