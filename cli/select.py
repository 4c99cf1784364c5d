"""Learning where it pays: `select`, `rounds`, `consistency`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.embed import PartitionOption
from cli.model import ModelOption
from cli.output import Format, FormatOption, OutputOption, emit, plain_output, rows_output
from cli.session import LARGEST_SEED, progress, say, session
from lake.errors import BadInput, Conflict
from lake.outputs import OutputFile

if TYPE_CHECKING:
    import pyarrow as pa

    from classifiers.active_learning.select import Selection
    from inspector.rounds import Round
    from lake.store import Lake


class Strategy(StrEnum):
    """What makes an exposure worth a look."""

    entropy = "entropy"
    margin = "margin"
    least_certain = "least-certain"
    anomalous = "anomalous"
    label_error = "label-error"
    random = "random"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(select)
    app.command()(rounds)
    app.command()(consistency)


def select(
    context: typer.Context,
    model: ModelOption,
    count: Annotated[
        int, typer.Option("-n", "--number", metavar="N", help="How many exposures to choose.")
    ] = 1000,
    round_name: Annotated[
        str | None,
        typer.Option("--round", help="Round to make; by default the model's name and a number."),
    ] = None,
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="entropy: an ensemble's members disagree; margin: its first two classes are "
            "close; least-certain: its first class has little; anomalous: unlike the rest; "
            "label-error: labelled, but the ensemble says otherwise; random: by lot."
        ),
    ] = Strategy.entropy,
    models: Annotated[int, typer.Option(help="Members of the ensemble.")] = 200,
    outlier_step: Annotated[
        bool,
        typer.Option(
            "--outlier-step/--no-outlier-step",
            help="Drop CCDs in sparse cells of a self-organising map, as published: what is like "
            "nothing else teaches little, but bad exposures are often so.",
        ),
    ] = False,
    per_night: Annotated[
        int | None, typer.Option(metavar="K", help="At most so many exposures of a night.")
    ] = None,
    per_cluster: Annotated[
        int | None,
        typer.Option(metavar="K", help="At most so many of a cluster: 81 squares of the map."),
    ] = None,
    ccds: Annotated[
        bool,
        typer.Option(
            "--ccds", help="Ask about the one CCD that decided instead of the whole exposure."
        ),
    ] = False,
    looked_at_too: Annotated[
        bool,
        typer.Option(
            "--looked-at-too", help="Also what lists name and what earlier rounds looked at."
        ),
    ] = False,
    held_out_too: Annotated[
        bool,
        typer.Option(
            "--held-out-too", help="Also nights that the model holds out and never learns from."
        ),
    ] = False,
    release: Annotated[
        str | None, typer.Option(help="Release whose tables and images the round shows.")
    ] = None,
    partition: PartitionOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be chosen; make no round.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same exposures.")
    ] = 0,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Choose the exposures whose labels a model would learn most from; make a round of them.

    An ensemble of the model's kind is trained on bootstraps of its sample and asked about all
    CCDs that have a vector (`embeddings`); what it disagrees on most comes first, with why.
    """
    target = rows_output(context, output, form)
    lake = session(context).lake()
    name = None if dry_run else _free_name(lake, round_name, model)
    options = {
        "strategy": strategy.value,
        "n_models": models,
        "outlier_step": outlier_step,
        "per_night": per_night,
        "per_cluster": per_cluster,
        "looked_at_too": looked_at_too,
        "held_out_too": held_out_too,
        "partitions": partition or [],
        "seed": seed,
    }
    if name is None:
        selection = _selected(lake, model, count, options)
    else:
        selection, _ = choose(lake, name, model, count, options, ccds=ccds, release=release)
        say(f"survey-qa inspect --round {name} --model {model} --images FOLDER")
    shown = ("place", "night", "expnum", "class", "why")
    emit(_brief(selection.rows, shown, form, target), form, target, title=f"by model {model}")


def choose(
    lake: Lake,
    name: str,
    model: str,
    count: int,
    options: Mapping[str, Any] | None = None,
    *,
    ccds: bool = False,
    release: str | None = None,
) -> tuple[Selection, Round]:
    """Make the round `name` of what a model would learn most from; of CCDs where `ccds` says so.

    `options` are those of `classifiers.active_learning.select.select`.
    """
    from classifiers.active_learning.select import keep_selection
    from inspector.rounds import freeze, located

    selection = _selected(lake, model, count, options or {})
    origin = {"model": model, "select": count, "release": release, "strategy": selection.strategy}
    origin |= options or {}
    subjects = located(lake, selection.subjects(ccds), release)
    # The round comes last: it says that all of it is there.
    keep_selection(lake, name, selection, origin)
    round = freeze(lake, name, subjects, origin)
    say(f"round {name}: {len(round.subjects):,} frozen")
    return selection, round


def _selected(lake: Lake, model: str, count: int, options: Mapping[str, Any]) -> Selection:
    from classifiers.active_learning.select import select as choose_exposures

    with progress("selecting", "nights") as shown:
        selection = choose_exposures(lake, model, count, progress=shown.update, **options)
    tell(selection)
    return selection


def _brief(
    rows: pa.Table, columns: tuple[str, ...], form: Format | None, output: OutputFile | None
) -> pa.Table:
    """Return the columns that a screen has room for; a program or a file gets all."""
    on_screen = form in (None, Format.table) and output is None
    return rows.select(list(columns)) if on_screen else rows


def tell(selection: Selection) -> None:
    """Say what became of everything that could have been chosen."""
    counts = selection.counts
    say(
        f"{counts.nights:,} nights: {counts.scored:,} CCDs scored "
        f"({counts.scored / max(counts.seconds, 1e-9):,.0f}/s)"
    )
    for number, words in (
        (counts.held_out, f"CCDs of {counts.held_out_nights:,} nights that the model holds out"),
        (counts.looked_at, "exposures that were looked at already"),
        (counts.unlabelled, "CCDs without a label"),
        (counts.sparse, f"CCDs in sparse cells of the map, all of {counts.lost:,} exposures"),
        (counts.duplicates, "CCDs beside the first of their exposure"),
        (counts.over_night, "exposures beyond their night's share"),
        (counts.over_cluster, "exposures beyond their cluster's share"),
    ):
        if number:
            say(f"  left out: {number:,} {words}")
    if counts.zero:
        say(f"  of those chosen {counts.zero:,} score 0: nothing speaks for them but the lot")


def _free_name(lake: Lake, wanted: str | None, model: str) -> str:
    """Return the name of the round to make; raises `SurveyError` for one that is taken."""
    from inspector.rounds import round_names
    from lake.paths import check_name

    taken = set(round_names(lake))
    if wanted is None:
        return next(name for k in range(1, len(taken) + 2) if (name := f"{model}-{k}") not in taken)
    if wanted in taken:
        raise Conflict(
            f"round {wanted} exists and is frozen: `survey-qa inspect --round {wanted}` opens it; "
            "give a new round another name"
        )
    return check_name("round", wanted)


def rounds(
    context: typer.Context,
    model: Annotated[
        list[str] | None, typer.Option(help="Models to compare; all of the lake; repeatable.")
    ] = None,
    rescore: Annotated[
        bool,
        typer.Option("--rescore", help="Score all on today's labels, in case those have changed."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curve into this file (.png, .svg, .pdf).")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """What looking has brought: each model's score against its labels and the looks behind them.

    Models of one series hold out the same nights, and can be compared: train with
    --held-out-like.
    """
    from classifiers.active_learning.history import check_plot, history, plot_history

    target = rows_output(context, output, form)
    drawing = None
    if plot is not None:
        check_plot(plot)
        drawing = plain_output(context, plot)
        if target is not None and target.target == drawing.target:
            raise BadInput(f"--plot and --output name the same file, {plot}")
    rows = history(session(context).lake(), model or (), rescore)
    if drawing is not None:
        plot_history(rows, drawing)
        say(f"drawn: {plot}")
    shown = ("series", "model", "classifier", "n_train", "rounds", "looks", "accuracy", "macro_f1")
    emit(_brief(rows, shown, form, target), form, target, title="scores on held-out nights")


def consistency(
    context: typer.Context,
    model: ModelOption,
    other: Annotated[
        str | None, typer.Option(help="Another model, to stand beside it and to differ from.")
    ] = None,
    radius: Annotated[
        float, typer.Option(help="Exposures within this point to one field, arcmin.")
    ] = 1.0,
    worst: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show the N least consistent of each, too.")
    ] = 0,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """How alike a model finds what should be alike, by its `predictions`: no truth is needed.

    Entropy, in bits, of the classes given to the CCDs of one exposure, to the exposures of one
    field and band, and by two models to the same CCDs; 0 where all are of one class.
    """
    from queries.consistency import consistency as compare

    target = rows_output(context, output, form)
    with progress("comparing", "models") as shown:
        found = compare(session(context).lake(), model, other, radius, shown.update)
    if not worst:
        emit(found.summary, form, target, title="entropy of the classes, bits")
        return
    import pyarrow as pa

    firsts = []
    for (what, name), rows in found.groups.items():
        first = rows.slice(0, min(worst, rows.num_rows))
        for place, (column, value) in enumerate((("compared", what), ("model", name))):
            values = pa.array([value] * len(first), pa.string())
            first = first.add_column(place, column, values)
        firsts.append(first)
    if form in (None, Format.table) and target is None:
        for first in firsts:
            emit(first, title="the least consistent")
        return
    emit(pa.concat_tables(firsts, promote_options="default"), form, target)
