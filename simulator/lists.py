"""Bad-exposure lists that people might have kept of the survey, with some errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lake.outputs import write_output_text
from simulator.camera import CCDS
from simulator.conditions import Exposure, Settings

_Writer = Callable[[Exposure, np.random.Generator], str]


def _expfactor(exposure: Exposure, rng: np.random.Generator) -> str:
    parameters = exposure.defect.parameters if exposure.defect else {}
    factor = parameters.get("expfactor", rng.uniform(0.2, 0.4))
    return f" expfactor={max(factor, 0.001):.3f}  seeing={exposure.conditions.seeing:.3f}"


def _clouds(exposure: Exposure, rng: np.random.Generator) -> str:
    transparency = 10 ** (-0.4 * max(exposure.conditions.extinction, 0.1))
    return rng.choice(
        ["\t2", "\t2\tclouds", f"\t2\ttransparency < {np.ceil(transparency * 10) / 10:.1f}"]
    )


# What the DECam list says of a class, after the exposure number.
_DECAM: dict[str, _Writer] = {
    "Saturated": lambda exposure, rng: "\t1",
    "Clouds_transparency": _clouds,
    "Nonoptimal_exp": _expfactor,
    "PSF": lambda exposure, rng: rng.choice([" trailed PSF", "\t3\tbad PSF"]),
    "Telescope_moving": lambda exposure, rng: "\t3\ttelescope moving, double image",
    "Out_of_focus": lambda exposure, rng: rng.choice([" out of focus", "\t3\tout of focus"]),
}
# What DELVE's problem list says of a class.
_PROBLEMS = {
    "Clouds_transparency": "Clouds",
    "PSF": "PSF",
    "NObjects": "NObjects",
    "Wonky": "Wonky",
    "Telescope_moving": "Telescope Moving",
    "Out_of_focus": "Out of Focus",
    "Ghost_scatter": "Ghosting",
    "Noise": "Noise",
}
_CCD_FILES = {"Ghost_scatter": "ghost-scatter", "Noise": "noise"}
# classes that a whole exposure can be listed under by mistake
_MISTAKES = sorted(set(_DECAM) | {"NObjects", "Wonky"})


def listed_classes(
    exposures: Sequence[Exposure], settings: Settings, rng: np.random.Generator
) -> dict[int, str]:
    """Exposure number -> the class it is listed under, for those that a list names.

    Visible defects are listed; some are missed, some are listed under another class, and some good
    exposures are listed by mistake, at the rates of the settings.
    """
    classes = {}
    for exposure in exposures:
        miss, wrong, false = rng.random(3)
        mistake = str(rng.choice(_MISTAKES))
        if exposure.defect is None:
            if false < settings.false_label_rate:
                classes[exposure.expnum] = mistake
        elif exposure.defect.visible and miss >= settings.missing_label_rate:
            kind = exposure.defect.kind
            if wrong < settings.wrong_label_rate:
                others = [other for other in _MISTAKES if other != kind]
                kind = str(rng.choice(others))
            classes[exposure.expnum] = kind
    return classes


def write_lists(
    directory: Path,
    exposures: Sequence[Exposure],
    classes: dict[int, str],
    rng: np.random.Generator,
) -> tuple[dict[int, tuple[str, str]], list[Path]]:
    """Write ``decam-bad_expid.txt`` and DELVE's files under ``delve/y00``.

    Returns what each exposure is listed as and in which file, and the files.
    """
    decam = ["#EXPID\tFlag\tcomments", "#Flags: 1=possibly saturated; 2=clouds; 3=other source"]
    delve: dict[str, list[str]] = defaultdict(list)
    listed: dict[int, tuple[str, str]] = {}
    for exposure in exposures:
        if exposure.expnum not in classes:
            continue
        kind = classes[exposure.expnum]
        defect = exposure.defect
        own = defect is not None and defect.kind == kind
        if own and defect is not None and kind == "Bad_CCD":
            num = defect.ccdnums[0]
            name = f"ccd{num:02d}-y00.txt"
            delve[name].append(
                f"{exposure.night} {exposure.expnum} nan {CCDS[num - 1].name:3s}  {num}"
            )
        elif own and defect is not None and kind in _CCD_FILES:
            name = f"{_CCD_FILES[kind]}-y00.txt"
            delve[name].extend(
                f"{exposure.night}  {exposure.expnum} nan nan  {num:2d}" for num in defect.ccdnums
            )
        elif kind in _DECAM and (kind not in _PROBLEMS or rng.random() < 0.5):
            name = "decam-bad_expid.txt"
            decam.append(f"{exposure.expnum}{_DECAM[kind](exposure, rng)}")
        else:
            name = "problem-y00.txt"
            delve[name].append(
                f"{exposure.night}        {exposure.expnum}          {_PROBLEMS[kind]}"
            )
        listed[exposure.expnum] = (kind, name)
    folder = directory / "delve" / "y00"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [directory / "decam-bad_expid.txt"]
    write_output_text(paths[0], "\n".join(decam) + "\n")
    for old in folder.glob("*-y00.txt"):
        old.unlink()
    for name, lines in sorted(delve.items()):
        problem = name.startswith("problem")
        heading = (
            "#Nite           Exposure        Problem"
            if problem
            else "#date     expnum ccd id ccdnum"
        )
        path = folder / name
        write_output_text(path, "\n".join([heading, *lines]) + "\n")
        paths.append(path)
    return listed, paths
