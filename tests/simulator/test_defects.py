"""A defect changes its own quantity in the pixels, as much as its strength says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip(
    "galsim", reason="the simulator needs GalSim: pip install 'survey-qa[simulator]'"
)

from simulator.conditions import (
    CLASSES,
    ELONGATION_SCATTER,
    PATTERN_SCATTER,
    SEEING_SCATTER,
    TRANSPARENCY_SCATTER,
    Conditions,
    Exposure,
    Settings,
    structure_scatter,
)
from simulator.defects import VISIBLE, inject
from simulator.render import simulate_exposure
from simulator.survey import plan
from tests.simulator import measure

SETTINGS = Settings(n_nights=8, exposures_per_night=20, bad_fraction=0.0)
GOOD = plan(SETTINGS, seed=11)
# the r-band exposure whose conditions are nearest the median
TYPICAL = min(
    (exposure for exposure in GOOD if exposure.band == "r"),
    key=lambda exposure: (
        abs(np.log(exposure.conditions.seeing / 1.15))
        + abs(np.log(exposure.conditions.object_density))
    ),
)


def spoil(kind: str, strength: float, *, seed: int = 3, variant: str | None = None) -> Exposure:
    """The typical exposure with a defect."""
    for attempt in range(50):
        rng = np.random.default_rng([seed, attempt])
        conditions, defect = inject(TYPICAL.conditions, kind, strength, rng, SETTINGS)
        if variant in (None, defect.variant):
            return replace(TYPICAL, conditions=conditions, defect=defect)
    raise AssertionError(f"no {variant} among fifty {kind}")


def images(exposure: Exposure, count: int = 5) -> list[np.ndarray]:
    """Some CCDs, of those that the exposure's defect touches."""
    nums = exposure.defect.ccdnums if exposure.defect else tuple(range(1, 63))
    chosen = nums[:: max(1, len(nums) // count)][:count]
    return [image for _, image in simulate_exposure(exposure, SETTINGS, chosen)]


def over(exposure: Exposure, measurement: Callable[[np.ndarray], float]) -> float:
    return float(np.nanmedian([measurement(image) for image in images(exposure)]))


def bright_flux(image: np.ndarray) -> float:
    return float(np.sort(measure.sources(image)["flux"])[-8:].mean())


def elongation(image: np.ndarray) -> float:
    return float(np.hypot(*measure.elongation(measure.sources(image))))


def radius(image: np.ndarray) -> float:
    return measure.half_light_radius(image, measure.sources(image))


CASES: list[tuple[str, str | None, Callable[[np.ndarray], float]]] = [
    ("Saturated", None, lambda image: float(np.median(image))),
    ("Clouds_transparency", None, measure.structure),
    ("Clouds_transparency", None, lambda image: -np.log(bright_flux(image))),
    ("PSF", "double", elongation),
    ("PSF", "comet", elongation),
    ("PSF", "astigmatic", elongation),
    ("Nonoptimal_exp", None, lambda image: -float(len(measure.sources(image)))),
    ("Ghost_scatter", None, measure.structure),
    ("NObjects", None, lambda image: float(len(measure.sources(image)))),
    ("Bad_CCD", "amplifier", lambda image: abs(measure.amplifier_step(image))),
    ("Bad_CCD", "hot spot", measure.structure),
    ("Noise", "rows", lambda image: measure.pattern(image, 0)),
    ("Noise", "columns", lambda image: measure.pattern(image, 1)),
    ("Wonky", "wrong flat", measure.structure),
    ("Wonky", "mesh", measure.structure),
    ("Telescope_moving", None, elongation),
    ("Out_of_focus", None, radius),
]


@pytest.mark.parametrize(("kind", "variant", "measurement"), CASES)
def test_strong_defect_changes_its_quantity_and_weak_does_not(
    kind: str, variant: str | None, measurement: Callable[[np.ndarray], float]
) -> None:
    strong = spoil(kind, 20.0, variant=variant)
    weak = spoil(kind, 0.3, variant=variant)
    # the same CCDs of the same exposure, without the defect
    before = over(replace(weak, conditions=TYPICAL.conditions), measurement)
    # the light of a saturated exposure is measured against the skies of all bands
    bands = SETTINGS.bands if kind == "Saturated" else (TYPICAL.band,)
    peers = [exposure.conditions for exposure in GOOD if exposure.band in bands][:7]
    others = [over(replace(strong, conditions=peer), measurement) for peer in peers]
    scatter = float(np.std(others))
    assert over(strong, measurement) > max(others)
    assert over(strong, measurement) - before > 2 * scatter
    assert abs(over(weak, measurement) - before) < 2 * scatter


def test_every_class_has_a_case() -> None:
    assert {kind for kind, _, _ in CASES} == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_strength_is_signal_over_scatter_and_visible_from_three(kind: str) -> None:
    for strength in (0.1, 2.999, 3.0, 100.0):
        defect = spoil(kind, strength).defect
        assert defect is not None
        assert defect.signal / defect.scatter == pytest.approx(strength)
        assert defect.visible == (strength >= VISIBLE)
        assert defect.ccdnums
        assert set(defect.ccdnums) <= set(range(1, 63))
        if kind == "Bad_CCD":
            assert len(defect.ccdnums) == 1
        if kind in ("Ghost_scatter", "Noise"):
            assert 1 < len(defect.ccdnums) < 62


def test_good_exposures_scatter_as_the_strengths_assume() -> None:
    conditions = [exposure.conditions for exposure in GOOD]

    def rms(value: Callable[[Conditions], float]) -> float:
        return float(np.sqrt(np.mean([value(one) ** 2 for one in conditions])))

    assert rms(lambda one: np.hypot(*one.elongation)) == pytest.approx(ELONGATION_SCATTER, rel=0.15)
    assert rms(lambda one: one.extinction) == pytest.approx(TRANSPARENCY_SCATTER, rel=0.15)
    assert rms(lambda one: one.readout_pattern[0]) == pytest.approx(PATTERN_SCATTER, rel=0.15)
    seeing = np.std([np.log(one.seeing) for one in conditions])
    # nights of their own seeing: few of them, so a looser limit
    assert seeing == pytest.approx(SEEING_SCATTER, rel=0.35)


def test_background_scatter_is_what_good_pixels_show() -> None:
    ratios = []
    for exposure in GOOD[:12]:
        for image in images(exposure, 4):
            ratios.append(measure.structure(image) / structure_scatter(float(np.median(image))))
    # the noise of the cells' medians and the stars' wings come on top
    assert 0.7 < np.median(ratios) < 2.0


def test_ghosts_run_over_neighbouring_ccds() -> None:
    exposure = spoil("Ghost_scatter", 20.0)
    assert exposure.defect is not None
    touched = exposure.defect.ccdnums
    untouched = tuple(num for num in range(1, 63) if num not in touched)
    structure = {
        ccd.num: measure.structure(image)
        for ccd, image in simulate_exposure(exposure, SETTINGS, touched + untouched[:10])
    }
    inside = np.median([structure[num] for num in touched])
    outside = np.median([structure[num] for num in untouched[:10]])
    assert inside > 4 * outside


def test_trails_have_one_direction_on_all_ccds() -> None:
    exposure = spoil("Telescope_moving", 50.0)
    assert exposure.defect is not None
    angles = []
    for image in images(exposure, 8):
        e1, e2 = measure.elongation(measure.sources(image))
        angles.append(np.arctan2(e2, e1) / 2)
    difference = np.angle(np.exp(2j * (np.array(angles) - exposure.defect.parameters["angle"]))) / 2
    assert np.abs(np.degrees(difference)).max() < 10


def test_strong_saturation_clips_at_full_well() -> None:
    for image in images(spoil("Saturated", 100.0), 2):
        assert image.max() <= 45_000
        assert np.median(image) == 45_000
