"""The embeddings as a whole and the labels against them: `map`, `label-errors`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ingest import Force
from cli.model import Classifier
from cli.output import Format, FormatOption, OutputOption, emit, folder_output, rows_output
from cli.session import LARGEST_SEED, progress, say, session
from lake.errors import SurveyError

if TYPE_CHECKING:
    import pyarrow as pa

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
    from classifiers.maps.maps import SHOWN_CLUSTER, map_embeddings
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
        clusters, n_in_none = _clusters(lake, found.embedder, found.method, SHOWN_CLUSTER)
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
        _check_free(lake, round_name)
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
        _freeze(lake, round_name, found.rows, options)
    if (form is None or form is Format.table) and target is None:
        shown_columns = ["expnum", "ccdnum", "label", "suggested", "p_suggested", "confident"]
        emit(found.rows.select([*shown_columns, "agree", "why"]), form, title="suspected labels")
    else:
        emit(found.rows, form, target)


def _clusters(lake: Lake, embedder: str, method: str, more_than: int) -> tuple[pa.Table, int]:
    """Return one row for each cluster with its make-up, and how many CCDs are in none at all."""
    import pyarrow as pa

    from classifiers.maps.maps import NOISE
    from queries.named import run_query

    parameters = {"embedder": embedder, "method": method}
    rows = run_query(lake, "clusters", parameters).to_pylist()
    n_in_none = next((row["n_ccds"] for row in rows if row["cluster"] == NOISE), 0)
    clusters: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["cluster"] == NOISE or row["n_ccds"] <= more_than:
            continue
        one = clusters.setdefault(
            row["cluster"],
            {
                "cluster": row["cluster"],
                "ccds": row["n_ccds"],
                "labelled": row["n_labelled"],
                "class": None,
                "purity": None,
                "make_up": [],
            },
        )
        if row["class"] is not None:
            # The largest share comes first.
            if one["class"] is None:
                one["class"], one["purity"] = row["class"], row["share"]
            one["make_up"].append(f"{row['class']} {row['n']}")
    schema = pa.schema(
        [
            ("cluster", pa.int32()),
            ("ccds", pa.int64()),
            ("labelled", pa.int64()),
            ("class", pa.string()),
            ("purity", pa.float64()),
            ("make_up", pa.list_(pa.string())),
        ]
    )
    return pa.Table.from_pylist(list(clusters.values()), schema=schema), n_in_none


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
    from classifiers.estimators.registry import CONTEXT
    from classifiers.label_errors.suspects import options_of_model
    from classifiers.sample.features import Features

    if (embedder is None) == (model is None):
        raise SurveyError("give --embedder, or --model to judge as a model does")
    if model is not None:
        if classifier is not None or source:
            raise SurveyError("--classifier and --source go with --embedder: a model has its own")
        options = options_of_model(lake, model)
        given = {"release": release, "seed": seed}
        return options | {name: value for name, value in given.items() if value is not None}
    assert embedder is not None
    name = "knn" if classifier is None else classifier.value
    return {
        "features": Features(tuple(embedder), CONTEXT[name]),
        "classifier": name,
        "sources": source or (),
        "release": release,
        "seed": seed or 0,
    }


def _check_free(lake: Lake, name: str) -> None:
    from inspector.rounds import round_names
    from lake.paths import check_name

    if check_name("round", name) in round_names(lake):
        raise SurveyError(
            f"round {name} exists and is frozen: `survey-qa inspect --round {name}` opens it; give "
            "a new round another name"
        )


def _freeze(lake: Lake, name: str, rows: pa.Table, options: dict[str, Any]) -> None:
    from inspector.rounds import freeze, located

    proposed = [
        {**row, "class": row["suggested"], "probability": row["p_suggested"]}
        for row in rows.to_pylist()
    ]
    origin = {
        "label_errors": options["classifier"],
        "embedders": list(options["features"].embedders),
        "release": options["release"],
        "seed": options["seed"],
    }
    subjects = located(lake, proposed, options["release"])
    freeze(lake, name, subjects, origin)
    say(
        f"round {name}: {len(subjects):,} frozen; `survey-qa inspect --round {name} --images "
        "FOLDER` opens it"
    )
