"""Reading what a survey already has: `ingest ccds`, `ingest reports`, `ingest images`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import finish, progress, say, session

if TYPE_CHECKING:
    from ingest.reports import FileSummary

Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when an input could not be used.")]
Force = Annotated[bool, typer.Option("--force", help="Redo what is up to date as well.")]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Remove what the inputs no longer give; without it that is kept."),
]


def announced(text: str) -> None:
    """Say what `--prune` is about to remove."""
    say(f"--prune: {text}")


#: Skipped lines that are shown one by one.
MOST_LINES = 20


class Form(StrEnum):
    """Whose form a list has."""

    decals = "decals"
    des = "des"
    delve = "delve"
    inspection = "inspection"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    group = typer.Typer(no_args_is_help=True, help="Read CCD tables, lists and images' headers.")
    group.command("ccds")(ccds)
    group.command("reports")(reports)
    group.command("images")(images)
    app.add_typer(group, name="ingest")


def ccds(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="survey-ccds or ccds-annotated FITS files.")],
    release: Annotated[str, typer.Option(help="Name of the data release, such as dr10.")],
    camera: Annotated[
        str | None, typer.Option(help="Camera of tables without a camera column.")
    ] = None,
    sfd_dir: Annotated[
        Path | None, typer.Option(help="Folder of SFD dust maps, for tables without E(B-V).")
    ] = None,
    force: Force = False,
    prune: Prune = False,
    strict: Strict = False,
) -> None:
    """Read CCD tables into the tables `ccds` and `exposures`.

    A CCD that a table no longer has stays, and so does a value that it no longer gives.
    """
    from ingest.ccds import ingest

    with session(context).lake(create=True) as lake, progress("reading", "rows") as shown:
        summary = ingest(
            lake,
            files,
            release,
            camera=camera,
            sfd_dir=sfd_dir,
            force=force,
            prune=prune,
            announce=announced,
            progress=shown.update,
        )
    say(
        f"{summary.files} file(s), {summary.unchanged_files} unchanged; "
        f"{summary.rows:,} rows read = {summary.ccds:,} CCDs + "
        f"{summary.superseded:,} superseded processings + {summary.failed:,} unusable; "
        f"{summary.partitions:,} partitions written, {summary.unchanged_partitions:,} unchanged"
    )
    if summary.kept:
        say(f"  {summary.kept:,} CCDs kept that the tables no longer have; --prune removes them")
    for reason, count in summary.unusable.items():
        say(f"  unusable: {reason}: {count:,}")
    finish(summary.failed, strict)


def reports(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Lists: text, FITS or CSV; or a folder.")],
    source: Annotated[
        str,
        typer.Option(
            metavar="decals|des|delve|inspection|NAME",
            help="Whose list it is; a survey names sources of its own.",
        ),
    ],
    form: Annotated[
        Form | None,
        typer.Option(
            "--form",
            help="Of a source of your own: whose form and words its lists have.",
            show_default="by ending: text decals, FITS des, CSV inspection",
        ),
    ] = None,
    round_name: Annotated[
        str | None,
        typer.Option("--round", help="Edition of the list.", show_default="the file's stem"),
    ] = None,
    camera: Annotated[str, typer.Option(help="Camera whose exposures are listed.")] = "decam",
    force: Force = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Let an edition count that lacks more than a tenth of the one before it, or is an "
            "earlier one.",
        ),
    ] = False,
    strict: Strict = False,
) -> None:
    """Read bad-exposure lists into the table `reports`, word for word.

    Every edition of a list stays, known by what it says and not by its file's name; labels come
    from the latest. One that lacks more than a tenth of the edition before counts only with
    --prune.
    """
    from ingest.reports import ingest_reports

    with session(context).lake(create=True) as lake:
        summary = ingest_reports(
            lake,
            files,
            source,
            round=round_name,
            camera=camera,
            force=force,
            form=form.value if form else None,
            prune=prune,
            announce=announced,
        )
    for file in summary.files:
        _say_list(file)
    for name, line, why in summary.skipped[:MOST_LINES]:
        say(f"  skipped: {name}, line {line}: {why}")
    if (more := len(summary.skipped) - MOST_LINES) > 0:
        say(f"  … and {more:,} more")
    if summary.unmapped:
        unmapped = sum(summary.unmapped.values())
        say(
            f"{unmapped:,} reports in {len(summary.unmapped):,} wordings have no class: "
            "survey-qa query unmapped_reasons"
        )
    if (summary.failed or summary.n_skipped or summary.set_aside) and strict:
        raise typer.Exit(1)


def _say_list(file: FileSummary) -> None:
    """Say what became of a list."""
    if file.error:
        say(f"{file.file}: not read: {file.error}")
        return
    if file.unchanged:
        say(f"{file.file} (round {file.round}): unchanged, {file.reports:,} reports")
        return
    kinds = {
        "entries": file.entries,
        "comments": file.comments,
        "blank": file.blank,
        "headers": file.headers,
        "skipped": file.n_skipped,
    }
    account = " + ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    say(
        f"{file.file} (round {file.round}): {file.lines:,} lines = {account or '0'}; "
        f"{file.reports:,} reports"
    )
    for origin, count in file.own.items():
        say(f"  {count:,} of them are this program's own lines ({origin}): no labels to learn from")
    placing = file.placing
    if placing.outcome == "later":
        say(f"  a later edition, which counts from now on; {placing.n_lost:,} entries are gone")
    elif not file.counts:
        what = (
            f"lacks {placing.n_lost:,} of the {placing.n_before:,} entries of the edition before"
            if placing.outcome == "shorter"
            else "is an earlier edition than the one that counts"
        )
        say(f"  kept, but it {what}, and so does not count; --prune lets it count")


def images(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Folder of images; names are kept from it on.")],
    release: Annotated[str, typer.Option(help="Name to file the nights under, such as night.")],
    pattern: Annotated[
        str, typer.Option(help="Which files below it are images of CCDs.")
    ] = "**/*ooi*.fits*",
    camera: Annotated[
        str | None, typer.Option(help="Camera of images whose INSTRUME does not name it.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read headers.")] = None,
    force: Force = False,
    prune: Prune = False,
    strict: Strict = False,
) -> None:
    """Read images' headers into `ccds` and `exposures`, for nights that no CCD table covers."""
    from ingest.images import ingest_images

    with session(context).lake(create=True) as lake, progress("reading headers", "files") as shown:
        summary = ingest_images(
            lake,
            directory,
            release,
            pattern=pattern,
            camera=camera,
            workers=workers,
            force=force,
            prune=prune,
            announce=announced,
            progress=shown.update,
        )
    say(
        f"{summary.files:,} file(s), {summary.unchanged_files:,} unchanged; {summary.ccds:,} CCDs, "
        f"{summary.superseded:,} superseded processings, {summary.failed:,} unusable; "
        f"{summary.partitions:,} partitions written"
    )
    if summary.kept:
        say(f"  {summary.kept:,} CCDs kept that their files no longer give; --prune removes them")
    for reason, count in summary.unusable.items():
        say(f"  unusable: {reason}: {count:,}")
    finish(summary.failed, strict)
