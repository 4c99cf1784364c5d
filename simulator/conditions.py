"""Settings of a simulated survey, the conditions it is observed in, and how much good ones differ.

The scatter constants below are the yardstick of every defect's strength (see `simulator.defects`)
and, in the same breath, what the good exposures are drawn from: each is the standard deviation of
its quantity among good exposures. Good exposures are drawn from normal distributions cut at two
sigma and widened back to that standard deviation, as a survey's own cuts on seeing, sky and
guiding leave them; none lies further out than 2.28 standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from lake.cameras import DECAM
from lake.errors import BadInput
from simulator.background import Pattern
from simulator.camera import FULL_NX, FULL_NY, PIXEL_SCALE, Camera

# --- the instrument -----------------------------------------------------------------------------
GAIN = DECAM.gain  # electrons per ADU
# Electrons; the rms of real amplifiers (see `lake.cameras`, whose number is rounded upwards).
READ_NOISE = 7.0
SATURATION = DECAM.saturation  # ADU

# --- what good exposures are like (AVSKY, EXPTIME and zpt of real DECaLS exposures) -------------


@dataclass(frozen=True)
class Band:
    """Typical values of a band: zeropoint [mag for 1 ADU/s], sky [ADU/s], exposure time [s]."""

    zeropoint: float
    sky: float
    exptime: float
    filter_card: str


BANDS = {
    "g": Band(25.10, 1.35, 110.0, "g DECam SDSS c0001 4720.0 1520.0"),
    "r": Band(25.20, 3.60, 80.0, "r DECam SDSS c0002 6415.0 1480.0"),
    "i": Band(25.10, 8.00, 90.0, "i DECam SDSS c0003 7835.0 1470.0"),
    "z": Band(24.90, 26.0, 100.0, "z DECam SDSS c0004 9260.0 1520.0"),
}

SEEING = 1.15  # median FWHM, arcsec
SEEING_SCATTER = 0.13  # of ln FWHM
TRANSPARENCY_SCATTER = 0.03  # mag, among the exposures of one night
SKY_LN_SCATTER = 0.12  # of ln sky within a band
SKY_SCATTER = (
    1150.0  # ADU, of the sky of a g, r, z programme: the bands differ more than the nights
)
STRUCTURE_SCATTER = 0.0025  # of the sky: rms of the smooth background inside one CCD
AMPLIFIER_SCATTER = 0.002  # of the sky: step between a CCD's two halves
ELONGATION_SCATTER = 0.03  # rms of the PSF's elongation (a^2 - b^2) / 2 b^2
PATTERN_SCATTER = 0.04  # rms of the readout pattern, in units of the pixel noise
DENSITY_SCATTER = 0.30  # of the number of objects in a CCD, relative to its median


def pixel_noise(sky: float) -> float:
    """Noise of a pixel [ADU] under a sky level [ADU]."""
    return float(np.sqrt(max(sky, 0.0) * GAIN + READ_NOISE**2) / GAIN)


def structure_scatter(sky: float) -> float:
    """Scatter [ADU] of the smooth background's rms inside a CCD, under a sky level [ADU].

    The real unevenness, and the noise of a sky estimate in cells of 32 x 32 pixels.
    """
    return float(np.hypot(STRUCTURE_SCATTER * sky, pixel_noise(sky) / 32))


def amplifier_scatter(sky: float) -> float:
    """Scatter [ADU] of the step between a CCD's two amplifiers, under a sky level [ADU]."""
    return float(np.hypot(AMPLIFIER_SCATTER * sky, pixel_noise(sky) / 32))


def expfactor_scatter() -> float:
    """Scatter of ln of the exposure factor, which goes as transparency^2 / (seeing^2 sky)."""
    transparency = 2 * TRANSPARENCY_SCATTER * np.log(10) / 2.5
    return float(np.sqrt((2 * SEEING_SCATTER) ** 2 + transparency**2 + SKY_LN_SCATTER**2))


# --- settings -----------------------------------------------------------------------------------

CLASSES = (
    "Saturated",
    "Clouds_transparency",
    "PSF",
    "Nonoptimal_exp",
    "Ghost_scatter",
    "NObjects",
    "Bad_CCD",
    "Noise",
    "Wonky",
    "Telescope_moving",
    "Out_of_focus",
)


@dataclass(frozen=True)
class Settings:
    """What to simulate.

    Parameters
    ----------
    n_nights, exposures_per_night
        Size of the survey.
    nx, ny
        Pixels of a CCD, at most 2046 x 4094; the focal plane shrinks with them.
    bands
        Observed in turn, from g, r, i, z.
    bad_fraction
        Share of the exposures that get one defect each.
    strength_range
        Strengths are spread evenly in their logarithm between these two.
    missing_label_rate
        Share of the visible defects that no list names.
    wrong_label_rate
        Share of the listed ones that are listed under another class.
    false_label_rate
        Share of the good exposures that a list names nonetheless.
    stars_per_ccd
        Stars above the noise in a median field; None: 3 per square arcminute, at least 30.
    first_night
        YYYYMMDD; the other nights follow within weeks.
    first_expnum
        Exposure number of the first exposure.
    classes
        Defects to draw from, each as often as the others.
    """

    n_nights: int = 12
    exposures_per_night: int = 14
    nx: int = 128
    ny: int = 256
    bands: tuple[str, ...] = ("g", "r", "z")
    bad_fraction: float = 0.5
    strength_range: tuple[float, float] = (0.3, 100.0)
    missing_label_rate: float = 0.05
    wrong_label_rate: float = 0.03
    false_label_rate: float = 0.01
    stars_per_ccd: float | None = None
    first_night: str = "20140818"
    first_expnum: int = 349_001
    classes: tuple[str, ...] = CLASSES

    def __post_init__(self) -> None:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise BadInput(f"cannot simulate: {message}")

        require(self.n_nights >= 1, f"{self.n_nights} nights; give at least 1")
        require(
            1 <= self.exposures_per_night <= 400,
            f"{self.exposures_per_night} exposures a night; give 1 to 400",
        )
        require(
            32 <= self.nx <= FULL_NX and 32 <= self.ny <= FULL_NY,
            f"CCDs of {self.nx}x{self.ny} pixels; give 32x32 to {FULL_NX}x{FULL_NY}",
        )
        unknown = set(self.bands) - set(BANDS)
        require(
            bool(self.bands) and not unknown, f"bands {self.bands}; choose from {', '.join(BANDS)}"
        )
        for name in ("bad_fraction", "missing_label_rate", "wrong_label_rate", "false_label_rate"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}; give 0 to 1")
        low, high = self.strength_range
        require(0 < low <= high <= 1000, f"strengths {low} to {high}; give 0 < low <= high <= 1000")
        unknown = set(self.classes) - set(CLASSES)
        require(
            bool(self.classes) and not unknown,
            f"classes {sorted(unknown)} are not known; choose from {', '.join(CLASSES)}",
        )
        require(
            self.stars_per_ccd is None or 0 < self.stars_per_ccd <= 1e5,
            f"{self.stars_per_ccd} stars a CCD; give more than 0 and at most 100000",
        )
        try:
            datetime.strptime(self.first_night, "%Y%m%d")
        except ValueError as error:
            raise BadInput(
                f"cannot simulate: first night {self.first_night!r} is not a date; give YYYYMMDD"
            ) from error
        require(
            self.first_expnum >= 1, f"first exposure number {self.first_expnum}; give at least 1"
        )

    @property
    def camera(self) -> Camera:
        return Camera(self.nx, self.ny)

    @property
    def star_density(self) -> float:
        """Stars in a CCD of a median field."""
        if self.stars_per_ccd is not None:
            return self.stars_per_ccd
        area = self.nx * self.ny * (PIXEL_SCALE / 60) ** 2
        return max(30.0, 3.0 * area)


# --- an exposure and its conditions -------------------------------------------------------------


@dataclass(frozen=True)
class Conditions:
    """All that the pixels of an exposure depend on, apart from its random numbers.

    Lengths are in pixels, light in ADU of the whole exposure, angles in radians from the x axis
    of the CCDs towards their y axis.
    """

    band: str
    exptime: float  # s
    airmass: float
    seeing: float  # FWHM of atmosphere and optics in focus, arcsec
    extinction: float  # mag, beyond the clear sky's
    sky: float  # ADU, smooth part
    gradient: tuple[float, float]  # of the sky per focal-plane radius along x and y
    elongation: tuple[float, float]  # of the PSF, components cos 2a and sin 2a
    object_density: float  # objects in a CCD, relative to the median field
    readout_pattern: tuple[float, float]  # rms along rows and columns over the pixel noise
    amplifier_steps: tuple[float, ...]  # of amplifier B over A, relative to the sky, per CCD
    satellite: tuple[float, float, float] | None  # angle, offset [radii], brightness [sky noise]

    # what defects add; neutral values in good exposures
    twilight: float = 0.0  # ADU
    astigmatism: float = 0.0  # elongation whose angle turns with the place in the focal plane
    double: tuple[float, float, float] = (
        0.0,
        0.0,
        0.5,
    )  # separation, angle, flux of the second image
    trail: tuple[float, float] = (0.0, 0.0)  # length, angle
    donut: float = 0.0  # outer radius of the out-of-focus pupil
    patterns: tuple[Pattern, ...] = ()
    false_objects: float = 0.0  # a CCD
    noise: tuple[str, float, tuple[int, ...]] | None = (
        None  # rows or columns, rms [ADU], CCD numbers
    )
    amplifier_loss: tuple[int, float] | None = None  # CCD number, share of amplifier B's signal


@dataclass(frozen=True)
class Exposure:
    """One exposure of the survey: where, when, and in what conditions."""

    expnum: int
    night: str
    date_obs: datetime
    ra: float
    dec: float
    propid: str
    ebv: float
    seed: int
    conditions: Conditions
    defect: Defect | None = None

    @property
    def band(self) -> str:
        return self.conditions.band

    @property
    def mjd_obs(self) -> float:
        return (self.date_obs - datetime(1858, 11, 17, tzinfo=UTC)) / timedelta(days=1)

    @property
    def object_name(self) -> str:
        return f"SIM_{self.expnum}_{self.band}"

    @property
    def filename(self) -> str:
        """Path under ``images/``, as DECam's pipeline names it."""
        stamp = self.date_obs.strftime("%y%m%d_%H%M%S")
        return f"decam/CP/V5.5/CP{self.night}/c4d_{stamp}_ooi_{self.band}_v1.fits.fz"


@dataclass(frozen=True)
class Defect:
    """The truth about a bad exposure.

    ``signal`` and ``scatter`` are in ``unit``; ``strength`` is their ratio; `VISIBLE` is the
    strength from which a defect counts as visible (see `simulator.defects`).
    """

    kind: str
    variant: str
    strength: float
    quantity: str
    unit: str
    signal: float
    scatter: float
    ccdnums: tuple[int, ...]
    visible: bool
    parameters: dict[str, float] = field(default_factory=dict)


def bounded_normal(rng: np.random.Generator, size: int | None = None) -> np.ndarray:
    """Normal numbers without those beyond two sigma, widened to a standard deviation of one."""
    count = 1 if size is None else size
    values = rng.standard_normal(8 * count + 16)
    values = values[np.abs(values) < 2][:count] / 0.87962566
    return values if size is not None else values[0]


def correlated(rng: np.random.Generator, common: float, share: float) -> float:
    """A bounded normal number that has a ``share`` of its variance from a ``common`` one."""
    while True:
        value = np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal()
        if abs(value) < 2:
            return float(value / 0.87962566)


def good_conditions(
    rng: np.random.Generator, band: str, night_seeing: float, night_sky: float, n_ccds: int
) -> Conditions:
    """Draw the conditions of a good exposure from those of its night (standard normal numbers)."""
    typical = BANDS[band]
    airmass = float(rng.uniform(1.0, 1.8))
    extinction = TRANSPARENCY_SCATTER * float(bounded_normal(rng))
    seeing = SEEING * float(np.exp(SEEING_SCATTER * correlated(rng, night_seeing, 0.5)))
    exptime = float(round(typical.exptime * rng.uniform(0.93, 1.07)))
    level = typical.sky * typical.exptime
    sky = level * float(np.exp(SKY_LN_SCATTER * correlated(rng, night_sky, 0.5)))
    # A gradient g per focal-plane radius gives an rms of 0.082 g inside a CCD: its long side
    # spans 2/7 of a radius, and a uniform slope's rms is its span over sqrt(12).
    gradient = STRUCTURE_SCATTER / 0.082 / np.sqrt(2) * bounded_normal(rng, 2)
    elongation = ELONGATION_SCATTER / np.sqrt(2) * bounded_normal(rng, 2)
    density = float(np.exp(DENSITY_SCATTER * float(bounded_normal(rng))))
    steps = AMPLIFIER_SCATTER * bounded_normal(rng, n_ccds)
    pattern = PATTERN_SCATTER * np.abs(bounded_normal(rng, 2))
    satellite = None
    if rng.random() < 0.04:
        satellite = (
            float(rng.uniform(0, np.pi)),
            float(rng.uniform(-0.7, 0.7)),
            float(rng.uniform(1, 4)),
        )
    return Conditions(
        band=band,
        exptime=exptime,
        airmass=airmass,
        seeing=seeing,
        extinction=extinction,
        sky=sky,
        gradient=(float(gradient[0]), float(gradient[1])),
        elongation=(float(elongation[0]), float(elongation[1])),
        object_density=density,
        readout_pattern=(float(pattern[0]), float(pattern[1])),
        amplifier_steps=tuple(float(step) for step in steps),
        satellite=satellite,
    )


def nights(settings: Settings, rng: np.random.Generator) -> Sequence[datetime]:
    """Start of each night's observing (UTC)."""
    first = datetime.strptime(settings.first_night, "%Y%m%d").replace(tzinfo=UTC)
    days = np.concatenate([[0], np.cumsum(rng.integers(1, 6, settings.n_nights - 1))])
    # observing starts half an hour after the UTC date has changed
    return [first + timedelta(days=int(day) + 1, hours=0.5) for day in days]
