"""The eleven defects: their causes, and how strong each is.

Strength is the defect's own signal over the scatter of the same physical quantity among good
exposures, as an observer of the images can measure it. A defect is **visible when its strength is
3 or more**. This is a rule of the simulator, fixed before any classifier was run on its images;
nothing is tuned to one. The scatters are constants of `simulator.conditions`, from which the good
exposures themselves are drawn, so that strength 3 is what it says. With s the strength:

Saturated
    Twilight, or a shutter that stays open. Quantity: light beyond the night sky, ADU; scatter:
    that of the sky level of good g, r and z exposures (1150 ADU). Added sky = s x 1150 ADU,
    with the circular pattern that twilight leaves after a dark-sky flat (3 % from axis to edge);
    pixels clip at 45,000 ADU.
Clouds_transparency
    Quantity: lost transparency, mag; scatter: that within a night (0.03 mag). Loss = s x 0.03
    mag on average, patchy by a third of itself. The clouds scatter light back: patches whose
    rms inside a CCD is s x the scatter of the smooth background's rms inside good CCDs. So both
    signals have the same strength.
PSF
    Double, comet-shaped or astigmatic images. Quantity: elongation (a^2 - b^2) / 2 b^2 of the
    PSF, a and b its rms widths; scatter: rms elongation of good exposures (0.03). It takes the
    place of the elongation that the exposure would have had.
Nonoptimal_exp
    Quantity: ln of the exposure factor (depth for the time, as seeing^-2 transparency^2 time /
    sky); scatter: that among good exposures (about 0.3). Deficit = s x scatter below the median
    good exposure, from bad seeing up to 2.4 arcsec, what remains from an exposure that was cut
    short.
Ghost_scatter
    Pupil images and an arc around a bright star. Quantity: rms of the background inside a CCD,
    ADU; scatter: that of good exposures (uneven sky, and the noise of the sky in 32 x 32
    pixels). Rms over the CCDs that the ghosts cross = s x scatter.
NObjects
    Sky subtraction left a mottled sky that is detected as objects. Quantity: number of objects
    in a CCD; scatter: 0.3 of the median number (star density over the sky). False objects = s x
    scatter.
Bad_CCD
    One CCD. Either the step between its amplifiers (scatter: that of good CCDs), or a hot
    spot's glow (rms inside the CCD against the background's, as for ghosts).
Noise
    Readout pattern in rows or columns, on CCDs that share electronics. Quantity: rms of the
    pattern over the pixel noise; scatter: that of good exposures, along each axis (0.04).
Wonky
    Processed with a wrong flat field, or with a sky mesh that was not smoothed. Quantity and
    scatter as for ghosts, over all CCDs.
Telescope_moving
    Trails common to all CCDs. Quantity and scatter as for PSF: a trail of length L under a PSF
    of Gaussian width b has elongation L^2 / 24 b^2.
Out_of_focus
    Donuts. Quantity: rms size of the PSF relative to the median good one; scatter: that of the
    seeing (0.13). Size = (1 + s x 0.13) x the median good one.

Strengths are spread evenly in their logarithm, by default from 0.3 to 100: two fifths of the
defects cannot be seen, and half lie below twice what can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulator.background import Pattern, grid
from simulator.camera import CCDS, PIXEL_SCALE, Camera, Ccd
from simulator.conditions import (
    BANDS,
    DENSITY_SCATTER,
    ELONGATION_SCATTER,
    PATTERN_SCATTER,
    SATURATION,
    SEEING,
    SEEING_SCATTER,
    SKY_SCATTER,
    TRANSPARENCY_SCATTER,
    Conditions,
    Defect,
    Settings,
    amplifier_scatter,
    expfactor_scatter,
    pixel_noise,
    structure_scatter,
)
from simulator.sources import objects_per_ccd

VISIBLE = 3.0
"""The strength from which a defect counts as visible."""

_WORST_SEEING = 2.4  # arcsec; deeper deficits come from a shorter exposure
_SHORTEST = 1e-3  # of the planned exposure time
_MAX_DONUT = 60.0  # pixels
_ALL = tuple(ccd.num for ccd in CCDS)


@dataclass(frozen=True)
class _Effect:
    """What a defect does to the conditions, and how it was measured."""

    conditions: Conditions
    variant: str
    quantity: str
    unit: str
    scatter: float
    ccdnums: tuple[int, ...] = _ALL
    parameters: dict[str, float] | None = None


_Injector = Callable[[Conditions, float, np.random.Generator, Settings], _Effect]


def inject(
    conditions: Conditions, kind: str, strength: float, rng: np.random.Generator, settings: Settings
) -> tuple[Conditions, Defect]:
    """Give good conditions a defect of a class of `simulator.conditions.CLASSES` and a strength."""
    effect = _INJECTORS[kind](conditions, strength, rng, settings)
    defect = Defect(
        kind=kind,
        variant=effect.variant,
        strength=strength,
        quantity=effect.quantity,
        unit=effect.unit,
        signal=strength * effect.scatter,
        scatter=effect.scatter,
        ccdnums=effect.ccdnums,
        visible=strength >= VISIBLE,
        parameters=effect.parameters or {},
    )
    return effect.conditions, defect


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _saturated(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    light = s * SKY_SCATTER
    pattern = Pattern("flat_response", _seed(rng), amplitude=0.03 * min(light, SATURATION))
    return _Effect(
        replace(c, twilight=light, patterns=(pattern,)),
        "twilight",
        "light beyond the night sky",
        "ADU",
        SKY_SCATTER,
        parameters={"light": light},
    )


def _clouds(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    extinction = s * TRANSPARENCY_SCATTER
    rms = s * structure_scatter(c.sky)
    # clouds add light: the mean lies above the patches' rms
    pattern = Pattern("clouds", _seed(rng)).scaled(settings.camera, rms)
    return _Effect(
        replace(
            c, extinction=c.extinction + extinction, patterns=(replace(pattern, mean=2 * rms),)
        ),
        "patchy",
        "lost transparency",
        "mag",
        TRANSPARENCY_SCATTER,
        parameters={"extinction": extinction, "patch_rms": rms},
    )


def _gaussian_width(c: Conditions) -> float:
    """Rms width in pixels of the Gaussian with the seeing's FWHM."""
    return c.seeing / PIXEL_SCALE / 2.3548


def _psf(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    elongation = s * ELONGATION_SCATTER
    variant = str(rng.choice(["double", "comet", "astigmatic"]))
    if variant == "astigmatic":
        changed = replace(c, elongation=(0.0, 0.0), astigmatism=elongation)
        parameters = {"elongation": elongation}
    else:
        # two images with flux shares 1-f and f at distance d have a variance of f (1-f) d^2
        share = 0.5 if variant == "double" else 0.3
        variance = 2 * elongation * _gaussian_width(c) ** 2
        separation = float(np.sqrt(variance / (share * (1 - share))))
        angle = float(rng.uniform(0, 2 * np.pi))
        changed = replace(c, elongation=(0.0, 0.0), double=(separation, angle, share))
        parameters = {"separation": separation, "angle": angle, "share": share}
    return _Effect(
        changed, variant, "PSF elongation", "1", ELONGATION_SCATTER, parameters=parameters
    )


def _nonoptimal(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    scatter = expfactor_scatter()
    typical = BANDS[c.band]
    # what transparency, sky and time of this exposure already contribute to ln(expfactor)
    loss = 2 * c.extinction * np.log(10) / 2.5
    brightness = np.log(c.sky / (typical.sky * typical.exptime))
    wanted = s * scatter - loss - brightness  # deficit that seeing and time must make
    seeing = float(np.clip(SEEING * np.exp(wanted / 2), 0.7, _WORST_SEEING))
    short = float(np.exp(2 * np.log(seeing / SEEING) - wanted))
    # The shutter's share of time; sky and stars go down with it, so depth goes as time.
    short = float(np.clip(short, _SHORTEST, 1.0))
    return _Effect(
        replace(c, seeing=seeing, exptime=c.exptime * short, sky=c.sky * short),
        "bad seeing" if short > 0.99 else "cut short",
        "deficit of ln exposure factor",
        "1",
        scatter,
        parameters={"expfactor": float(np.exp(-s * scatter)), "seeing": seeing, "time": short},
    )


def _ghost(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    camera = settings.camera
    pattern = Pattern("ghost", _seed(rng))
    rms = {ccd.num: pattern.rms_inside(camera, ccd) for ccd in CCDS}
    strongest = max(rms.values())
    crossed = tuple(ccd for ccd in CCDS if rms[ccd.num] > 0.3 * strongest)
    scatter = structure_scatter(c.sky)
    pattern = pattern.scaled(camera, s * scatter, crossed)
    return _Effect(
        replace(c, patterns=(pattern,)),
        "pupil images",
        "background rms inside a CCD",
        "ADU",
        scatter,
        tuple(ccd.num for ccd in crossed),
        {"brightness": pattern.amplitude},
    )


def _nobjects(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    scatter = DENSITY_SCATTER * objects_per_ccd(settings)
    return _Effect(
        replace(c, false_objects=s * scatter),
        "mottled sky",
        "false objects in a CCD",
        "1",
        scatter,
        parameters={"false_objects": s * scatter},
    )


def _hot_spot(
    c: Conditions, s: float, ccd: Ccd, rng: np.random.Generator, camera: Camera
) -> _Effect:
    scatter = structure_scatter(c.sky)
    u, v = grid(camera, ccd)
    side_u, side_v = rng.integers(2), rng.uniform(0.1, 0.9)
    centre = (float(u[0, -side_u]), float(v[0, 0] + side_v * (v[-1, 0] - v[0, 0])))
    width = float(rng.uniform(0.15, 0.4) * (u[0, -1] - u[0, 0]))
    glow = Pattern("glow", 0, ccdnums=(ccd.num,), centre=centre, width=width)
    glow = glow.scaled(camera, s * scatter, (ccd,))
    return _Effect(
        replace(c, patterns=(glow,)),
        "hot spot",
        "background rms inside a CCD",
        "ADU",
        scatter,
        (ccd.num,),
        {"brightness": glow.amplitude},
    )


def _bad_ccd(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    ccd = CCDS[int(rng.integers(len(CCDS)))]
    if rng.random() < 0.5:
        return _hot_spot(c, s, ccd, rng, settings.camera)
    scatter = amplifier_scatter(c.sky)
    loss = min(s * scatter / c.sky, 1.0)
    return _Effect(
        replace(c, amplifier_loss=(ccd.num, loss)),
        "amplifier",
        "step between amplifiers",
        "ADU",
        scatter,
        (ccd.num,),
        {"loss": loss},
    )


def _noise(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    # the CCDs of a backplane lie side by side
    first = int(rng.integers(len(CCDS)))
    count = int(rng.integers(8, 17))
    start = CCDS[first]
    near = sorted(CCDS, key=lambda ccd: np.hypot(ccd.x - start.x, 2 * (ccd.y - start.y)))
    ccdnums = tuple(sorted(ccd.num for ccd in near[:count]))
    variant = str(rng.choice(["rows", "columns"]))
    rms = s * PATTERN_SCATTER * pixel_noise(c.sky)
    return _Effect(
        replace(c, noise=(variant, rms, ccdnums)),
        variant,
        "readout pattern over pixel noise",
        "1",
        PATTERN_SCATTER,
        ccdnums,
        {"pattern_rms": rms},
    )


def _wonky(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    scatter = structure_scatter(c.sky)
    kind = str(rng.choice(["wrong_flat", "mesh"]))
    pattern = Pattern(kind, _seed(rng)).scaled(settings.camera, s * scatter)
    return _Effect(
        replace(c, patterns=(pattern,)),
        kind.replace("_", " "),
        "background rms inside a CCD",
        "ADU",
        scatter,
        parameters={"amplitude": pattern.amplitude},
    )


def _moving(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    elongation = s * ELONGATION_SCATTER
    length = float(np.sqrt(24 * elongation) * _gaussian_width(c))
    angle = float(rng.uniform(0, np.pi))
    return _Effect(
        replace(c, elongation=(0.0, 0.0), trail=(length, angle)),
        "trail",
        "PSF elongation",
        "1",
        ELONGATION_SCATTER,
        parameters={"length": length, "angle": angle},
    )


def _out_of_focus(c: Conditions, s: float, rng: np.random.Generator, settings: Settings) -> _Effect:
    seeing = min(c.seeing, SEEING)
    median = SEEING / PIXEL_SCALE / 2.3548
    size = (1 + s * SEEING_SCATTER) * median
    variance = max(size**2 - (seeing / PIXEL_SCALE / 2.3548) ** 2, 0.0)
    # an annulus of outer radius R and inner radius o R has a variance of R^2 (1 + o^2) / 4 per axis
    radius = min(float(np.sqrt(variance * 4 / (1 + 0.33**2))), _MAX_DONUT)
    return _Effect(
        replace(c, seeing=seeing, donut=radius),
        "donut",
        "PSF size over the median",
        "1",
        SEEING_SCATTER,
        parameters={"donut_radius": radius},
    )


_INJECTORS: dict[str, _Injector] = {
    "Saturated": _saturated,
    "Clouds_transparency": _clouds,
    "PSF": _psf,
    "Nonoptimal_exp": _nonoptimal,
    "Ghost_scatter": _ghost,
    "NObjects": _nobjects,
    "Bad_CCD": _bad_ccd,
    "Noise": _noise,
    "Wonky": _wonky,
    "Telescope_moving": _moving,
    "Out_of_focus": _out_of_focus,
}
