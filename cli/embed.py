"""Images to vectors: `embed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.ingest import Force, Prune, Strict, announced
from cli.session import LARGEST_SEED, Progress, finish, progress, say, session
from lake.errors import BadInput

if TYPE_CHECKING:
    from embedders.engine import Event

PartitionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--partition",
        metavar="P",
        help="night=20140818, a pattern (camera=decam/night=2014*), or a share (3/16); repeatable.",
    ),
]


class Precision(StrEnum):
    """Arithmetic of the model."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(embed)


def embed(
    context: typer.Context,
    embedder: Annotated[
        str,
        typer.Option(
            help="statistics (no weights needed), or dinov2-{vits,vitb,vitl,vitg}14[-reg]."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(help="Folder that the table's image_filename is relative to; repeatable."),
    ],
    partition: PartitionOption = None,
    release: Annotated[
        list[str] | None, typer.Option(help="Only CCDs of this release; repeatable.")
    ] = None,
    ccds_per_exposure: Annotated[
        str,
        typer.Option(
            metavar="N|all", help="CCDs to draw from each exposure; focal-plane-… takes all."
        ),
    ] = "all",
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draw.")] = 0,
    device: Annotated[
        str, typer.Option(help="auto (every GPU, else the cores), cpu, cuda:0,cuda:1, …")
    ] = "auto",
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights: the hub's original file, or a transformers folder."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Precision that the model computes in.",
            show_default="bfloat16 on GPUs, float32 on CPUs",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a batch.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster to join.", show_default="one on this machine")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read images; without a GPU, threads of the model too."),
    ] = None,
    force: Force = False,
    prune: Prune = False,
    strict: Strict = False,
) -> None:
    """Turn CCD images into vectors, a night at a time; running again takes only what is missing.

    No vector goes: those that this run does not ask for, or whose images it does not find, are
    kept and counted. An image is the same when its content is, whatever its folder and time.
    With --force, vectors of other settings or weights are made anew beside the old ones, and take
    their place when all have been made.

    Behind the name, joined by dots (dinov2-vitb14-reg.1176x588.masked):

    - HEIGHTxWIDTH: a DINOv2's input in pixels, multiples of 14 (2352x1176)
    - asinh, background: how its pixels are stretched (raw)
    - sampled: with a size, the paper's resize, which skips pixels; skipped
      rows are not decoded, so that it is several times as fast on a CPU
    - masked: pixels that masks or weights beside the image call bad are left out
    - neighbours: the vectors of adjacent CCDs, pooled

    Before it, focal-plane- shows a model the whole exposure.
    """
    from embedders.engine import run

    with progress(f"embedding with {embedder}", "images") as shown:
        watch = Watch(shown)
        summary = run(
            session(context).lake(),
            embedder,
            images,
            partitions=partition or (),
            releases=release or (),
            ccds_per_exposure=ccds_to_draw(ccds_per_exposure),
            seed=seed,
            device=device,
            weights=weights,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            force=force,
            prune=prune,
            announce=announced,
            precision=precision.value if precision else None,
            batch_size=batch_size,
            progress=watch,
        )
    done = summary.n_partitions
    say(
        f"{done:,} partitions embedded, {summary.n_skipped:,} unchanged; {summary.n_images:,} "
        f"images in {summary.seconds:.1f} s ({summary.rate:,.1f}/s), {summary.n_reused:,} kept "
        f"from before, {summary.n_failed:,} failed"
    )
    for why, count in summary.kept.items():
        say(f"  {count:,} vectors kept: {why}")
    if summary.n_pruned:
        say(f"  {summary.n_pruned:,} vectors removed")
    if summary.n_apart:
        say(
            f"  {summary.n_apart:,} new vectors wait beside those of other settings, of which "
            f"{summary.n_behind:,} have no new one yet: run again with their images, or --prune"
        )
    if summary.n_unmasked:
        say(f"{summary.n_unmasked:,} images had no mask beside them and were taken whole")
    if summary.stopped:
        left = ", ".join(summary.remaining[:5]) + (" …" if len(summary.remaining) > 5 else "")
        say(f"stopped; {len(summary.remaining):,} partitions remain ({left}): run again to go on")
    finish(summary.n_failed, strict)


def ccds_to_draw(text: str) -> int | None:
    """Return how many CCDs an option asks for, None for all; raises `SurveyError`."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"--ccds-per-exposure {text!r}: expected a number from 1, or all")
    return int(text)


class Watch:
    """Draws the engine's events as progress."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.images = 0

    def __call__(self, event: Event) -> None:
        if event.kind == "images":
            self.images += event.n_images
            self.shown.update(self.images)
        elif event.kind == "committed":
            self.shown.line(
                f"{event.partition}: {event.n_images} images, {event.n_failed} failed "
                f"({event.n_partitions} of {event.of_partitions} partitions)"
            )
