"""The embeddings as a whole and the labels against them: `map`, `label-errors`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ingest import Force
from cli.model import Classifier
from cli.output import Format, FormatOption, OutputOption, emit, folder_output, rows_output
from cli.session import LARGEST_SEED, progress, say, session
from lake.errors import BadInput

if TYPE_CHECKING:
    from lake.store import Lake

Method = StrEnum("Method", ["tsne", "umap"])
Unit = StrEnum("Unit", ["exposure", "ccd"])
Release = Annotated[
    str | None, typer.Option(help="Release whose labels count (default: the only one).")
]
MaxEbv = Annotated[float, typer.Option(help="E(B-V) limit of the labelled CCDs, mag.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("map")(map_)
    app.command("label-errors")(label_errors)


def map_(
    context: typer.Context,
    embedder: Annotated[
        list[str], typer.Option(help="Embedder whose vectors are looked at; several are joined.")
    ],
    method: Annotated[
        Method, typer.Option(help="How maps are made; umap needs the extra umap.")
    ] = Method.tsne,
    sample: Annotated[
        int, typer.Option(help="CCDs at most: half of them labelled, the others from all.")
    ] = 10_000,
    release: Release = None,
    max_ebv: MaxEbv = 0.04,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same maps.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the pictures and the map that turns.")
    ] = None,
    force: Force = False,
    form: FormatOption = None,
) -> None:
    """How the embeddings lie: silhouettes, clusters and maps of CCDs: the table `projections`.

    Machine formats give the classes; `survey-qa query clusters` gives the clusters.
    """
    from classifiers.maps.maps import SHOWN_CLUSTER, large_clusters, map_embeddings
    from classifiers.sample.features import Features

    folder = folder_output(context, output)
    lake = session(context).lake()
    with progress("mapping", "steps") as shown:
        found = map_embeddings(
            lake,
            Features(tuple(embedder)),
            method=method.value,
            release=release,
            sample=sample,
            max_ebv=max_ebv,
            seed=seed,
            force=force,
            progress=shown.update,
        )
    n_others = found.rows.num_rows - found.n_labelled
    say(
        f"{found.embedder}: {found.n_labelled:,} of {found.n_known:,} labelled CCDs and "
        f"{n_others:,} without a label" + (", unchanged" if found.skipped else "")
    )
    if found.n_unusable:
        say(f"{found.n_unusable:,} more were drawn and have no usable vector")
    emit(found.classes(), form, title="silhouette by class: 1 apart, 0 mixed")
    if form in (None, Format.table):
        clusters, n_in_none = large_clusters(lake, found)
        emit(
            clusters,
            title=f"{clusters.num_rows} clusters of more than {SHOWN_CLUSTER} CCDs; "
            f"{n_in_none:,} CCDs are in none",
        )
    if folder is not None:
        from classifiers.maps.plots import draw_maps

        for path in draw_maps(found, folder):
            say(f"  {path}")


def label_errors(
    context: typer.Context,
    embedder: Annotated[
        list[str] | None,
        typer.Option(help="Judge by the paper's classifier on these vectors; several are joined."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Judge as this model does, trained anew without each night.")
    ] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", metavar="N", help="How many to show, at most.")
    ] = 100,
    by: Annotated[
        Unit,
        typer.Option(
            help="exposure: one row for a label of an exposure; ccd: every CCD by itself."
        ),
    ] = Unit.exposure,
    classifier: Annotated[
        Classifier | None, typer.Option(help="With --embedder: which classifier (default: knn).")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="With --embedder: lists whose labels count (default: all); repeatable."),
    ] = None,
    release: Release = None,
    round_name: Annotated[
        str | None, typer.Option("--round", help="Freeze them as a new round of inspection.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Same seed, same list (default: 0, or the model's)."
        ),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Labels that are likely wrong: each judged by what the CCDs of other nights teach.

    Good that looks bad, bad that looks good, or another class (confident learning). Reads `labels`
    and `embeddings` and changes neither; the table `label_errors` is a list to look at.
    """
    from classifiers.label_errors.suspects import find_label_errors

    target = rows_output(context, output, form)
    lake = session(context).lake()
    if round_name is not None:
        from inspector.rounds import check_free

        check_free(lake, round_name)
    options = _judge(lake, embedder, model, classifier, source, release, seed)
    with progress("judging", "parts of the nights") as shown:
        found = find_label_errors(lake, n=number, by=by.value, progress=shown.update, **options)
    n_confident = sum(found.counts["confident"].to_pylist())
    n_suspect = sum(found.counts["suspect"].to_pylist())
    say(
        f"{found.n_judged:,} labels judged: {n_confident:,} likely wrong, "
        f"{n_suspect - n_confident:,} more in doubt"
    )
    if 3 * n_confident > found.n_judged:
        say("that is more than a third: these vectors hardly tell the classes apart")
    if found.n_unjudged:
        say(f"{found.n_unjudged:,} could not be judged: no other night has their class")
    if found.n_missing:
        say(f"{found.n_missing:,} labelled CCDs have no usable vector")
    if round_name is not None:
        from inspector.rounds import freeze_rows

        round = freeze_rows(lake, round_name, found.subjects(), found.origin)
        say(
            f"round {round_name}: {len(round.subjects):,} frozen; `survey-qa inspect --round "
            f"{round_name} --images FOLDER` opens it"
        )
    if (form is None or form is Format.table) and target is None:
        shown_columns = ["expnum", "ccdnum", "label", "suggested", "p_suggested", "confident"]
        emit(found.rows.select([*shown_columns, "agree", "why"]), form, title="suspected labels")
    else:
        emit(found.rows, form, target)


def _judge(
    lake: Lake,
    embedder: list[str] | None,
    model: str | None,
    classifier: Classifier | None,
    source: list[str] | None,
    release: str | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return the arguments of `rank` that say by what labels are judged."""
    from classifiers.estimators.spec import ClassifierSpec
    from classifiers.sample.features import Features
    from classifiers.sample.spec import SampleSpec
    from lake.model_files import read_card

    if (embedder is None) == (model is None):
        raise BadInput("give --embedder, or --model to judge as a model does")
    if model is not None:
        if classifier is not None or source:
            raise BadInput("--classifier and --source go with --embedder: a model has its own")
        own = SampleSpec.from_card(read_card(lake, model))
        sample = own if release is None else replace(own, release=release)
        return {"model": model, "sample": sample, "seed": seed}
    assert embedder is not None
    spec = ClassifierSpec("knn" if classifier is None else classifier.value)
    return {
        "features": Features(tuple(embedder), spec.context),
        "sample": SampleSpec(release, source or ()),
        "classifier": spec,
        "seed": seed,
    }
