"""What is known already: `merge-labels`, `crossmatch`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.badlist import StaleOk
from cli.ingest import Force, Prune, announced
from cli.output import FormatOption, OutputOption, emit, rows_output
from cli.session import progress, say, session


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("merge-labels")(merge_labels)
    app.command()(crossmatch)


def merge_labels(
    context: typer.Context,
    release: Annotated[str, typer.Option(help="Release whose CCDs are labelled.")],
    force: Force = False,
    prune: Prune = False,
) -> None:
    """Resolve what the lists say onto the CCDs of a release: the table `labels`.

    Labels of a list, round or CCD that is gone from the lake stay.
    """
    from queries.merge_labels import merge_labels as merge

    with progress("merging", "partitions") as shown:
        summary = merge(
            session(context).lake(),
            release,
            force=force,
            prune=prune,
            announce=announced,
            progress=shown.update,
        )
    say(summary.text())


def crossmatch(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model whose votes are compared.")],
    release: Annotated[
        list[str], typer.Option(help="Release whose ccd_cuts are compared; give two for both.")
    ],
    stale_ok: StaleOk = False,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Compare a model's votes with legacypipe's own cuts: both, only ours, only theirs."""
    from queries.crossmatch import crossmatch as compare

    target = rows_output(context, output, form)
    rows = compare(session(context).lake(), model, release, stale_ok=stale_ok)
    emit(rows, form, target, title=f"votes of {model}")
