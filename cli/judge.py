"""Trying it out: `simulate` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import folder_output
from cli.session import LARGEST_SEED, progress, say
from lake.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(simulate)
    app.command()(demo)


def simulate(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Folder to write the survey into.")],
    nights: Annotated[int, typer.Option(help="Nights of the survey.")] = 12,
    exposures_per_night: Annotated[int, typer.Option(help="Exposures a night.")] = 14,
    ccd_size: Annotated[
        str, typer.Option(metavar="NXxNY", help="Pixels of a CCD; DECam has 2046x4094.")
    ] = "128x256",
    bands: Annotated[str, typer.Option(help="Bands, observed in turn.")] = "g,r,z",
    bad_fraction: Annotated[float, typer.Option(help="Share of exposures with a defect.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same survey.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that draw.")] = 2,
) -> None:
    """Make a survey with known defects: images, CCD table, lists with errors, and the truth."""
    from simulator.conditions import Settings
    from simulator.survey import simulate as make

    folder_output(context, directory)
    nx, ny = _size(ccd_size)
    settings = Settings(
        n_nights=nights,
        exposures_per_night=exposures_per_night,
        nx=nx,
        ny=ny,
        bands=tuple(band.strip() for band in bands.split(",") if band.strip()),
        bad_fraction=bad_fraction,
    )
    with progress("simulating", "exposures") as shown:
        survey = make(directory, settings, seed, workers, shown.update)
    say(
        f"{survey.n_exposures:,} exposures, {survey.n_ccds:,} CCD images, {survey.n_visible:,} "
        f"exposures with a visible defect in {directory}"
    )
    say(f"  CCD table {survey.ccd_table}, images {survey.images}")
    say(f"  lists {survey.decam_list} and {len(survey.delve_lists)} of DELVE's form")
    say(f"  truth {survey.truth}")


def _size(text: str) -> tuple[int, int]:
    nx, cross, ny = text.lower().partition("x")
    if not (cross and nx.isdigit() and ny.isdigit()):
        raise BadInput(f"--ccd-size {text!r}: expected width x height, such as 2046x4094")
    return int(nx), int(ny)


def demo(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="Folder to work in.")] = Path("demo"),
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the simulated survey.")
    ] = 1,
) -> None:
    """Simulate a small survey and run the whole job on it, down to scores and the list's change."""
    from cli.demo import run

    folder_output(context, directory)
    run(directory, seed)
