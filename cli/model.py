"""Learning and judging: `train`, `evaluate`, `predict`, `vote`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.badlist import StaleOk
from cli.embed import PartitionOption
from cli.ingest import Force, Prune, Strict, announced
from cli.output import Format, FormatOption, OutputOption, emit, folder_output, rows_output
from cli.session import LARGEST_SEED, finish, progress, say, session
from lake.errors import BadInput
from lake.outputs import OutputFile

if TYPE_CHECKING:
    import pyarrow as pa

ModelOption = Annotated[str, typer.Option("--model", help="Name of the model.")]
Context = StrEnum("Context", ["none", "exposure", "band"])
MinProbability = Annotated[
    float, typer.Option(min=0, max=1, help="Least probability of a bad CCD that counts.")
]
MinFraction = Annotated[
    float, typer.Option(min=0, max=1, help="Share of bad CCDs that makes an exposure bad.")
]
Classifier = StrEnum(
    "Classifier",
    {"knn": "knn", "two_step": "two-step", "logistic": "logistic", "boosted": "boosted"},
)
Rule = StrEnum("Rule", ["share", "learned"])
Split = StrEnum("Split", ["night", "exposure", "image"])
Search = StrEnum("Search", ["none", "halving"])


TrustOwnLines = Annotated[
    bool,
    typer.Option(
        "--trust-own-lines",
        help="Learn also from lines that this program wrote into a list.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(predict)
    app.command()(vote)


def train(
    context: typer.Context,
    embedder: Annotated[
        list[str],
        typer.Option(
            help="Embedder whose vectors are learned from; repeatable: the first says which CCDs "
            "there are, the others' vectors are joined to them."
        ),
    ],
    model: ModelOption,
    release: Annotated[
        str | None, typer.Option(help="Release whose labels count.", show_default="the only one")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Lists to learn from; repeatable.", show_default="all")
    ] = None,
    partition: PartitionOption = None,
    classifier: Annotated[
        Classifier,
        typer.Option(
            help="knn: the paper's; two-step: good or bad, then which, and exposures; logistic: a "
            "linear probe, quick on millions of CCDs; boosted: trees, for features that mean "
            "something each."
        ),
    ] = Classifier.knn,
    exposure_classifier: Annotated[
        bool | None,
        typer.Option(
            help="Whether to classify whole exposures too, for vote --rule learned; when not "
            "given, two-step does."
        ),
    ] = None,
    vector_context: Annotated[
        Context | None,
        typer.Option(
            "--context",
            help="Join each CCD's vector with its exposure's median, and the number of its band; "
            "when not given, what suits the classifier.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…", help="Columns of the CCD table to learn from too: fwhm,ccdskycounts."
        ),
    ] = None,
    class_weight: Annotated[
        str,
        typer.Option(
            metavar="none|balanced|CLASS=SHARE,…",
            help="How much classes count: as in the lists, all alike, or as they are known to be "
            "(good=0.97; the others share the rest).",
        ),
    ] = "none",
    split: Annotated[
        Split, typer.Option(help="What is kept on one side when part is held out.")
    ] = Split.night,
    test_fraction: Annotated[float, typer.Option(help="Share that is held out.")] = 0.3,
    held_out_like: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Hold out the nights that this model does."),
    ] = None,
    good: Annotated[int, typer.Option(help="Good CCD images in the sample.")] = 10_000,
    max_ebv: Annotated[float, typer.Option(help="E(B-V) limit of the sample, mag.")] = 0.04,
    min_probability: Annotated[float, typer.Option(help="Cut at which scores are shown.")] = 0.9,
    search: Annotated[
        Search,
        typer.Option(
            help="none: the paper's settings; halving: find better ones. A search that was "
            "stopped goes on when it is run again."
        ),
    ] = Search.none,
    candidates: Annotated[int, typer.Option(help="Settings that a search draws.")] = 200,
    workers: Annotated[
        int | None, typer.Option(help="Processes of a search; when not given, one a core.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same model.")] = 0,
    trust_own_lines: TrustOwnLines = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Learn the classes from labelled CCDs; scores are of nights that were held out.

    A model of that name is replaced only with --force; what it predicted and voted then counts as
    out of date. Lines that this program wrote into a list are no labels.
    """
    from classifiers.estimators.spec import ClassifierSpec
    from classifiers.sample.features import Features
    from classifiers.sample.spec import SampleSpec
    from classifiers.train import train as learn
    from classifiers.validation.splits import SplitSpec
    from classifiers.validation.tables import score_table

    target = rows_output(context, output, form)
    spec = ClassifierSpec(classifier.value, search.value, candidates, class_weight)
    names = tuple(name.strip() for name in (columns or "").split(",") if name.strip())
    with progress("training", "steps") as shown:
        summary = learn(
            session(context).lake(),
            Features(
                tuple(embedder), vector_context.value if vector_context else spec.context, names
            ),
            model,
            sample=SampleSpec(release, source or (), partition, good, max_ebv, trust_own_lines),
            split=SplitSpec(split.value, test_fraction, held_out_like),
            classifier=spec,
            exposure_classifier=exposure_classifier,
            min_probability=min_probability,
            seed=seed,
            workers=workers,
            force=force,
            progress=shown.update,
        )
    if summary.outdated:
        what = ", ".join(f"{count:,} partitions of {name}" for name, count in summary.outdated)
        say(f"model {model} was replaced; out of date now: {what}")
    say(
        f"model {model}: {summary.n_train:,} CCD images learned from, {summary.n_test:,} held out, "
        f"{summary.n_missing:,} labelled CCDs without a vector"
    )
    if (found := summary.found) is not None:
        settings = ", ".join(f"{name} {value}" for name, value in found.settings.items())
        say(
            f"search: {settings}; accuracy {found.accuracy:.3f} on nights left out of the fit. "
            f"{found.n_evaluations:,} fits, {found.n_failed:,} impossible, {found.n_kept:,} done "
            f"before: survey-qa query search_history --param model={model}"
        )
    _emit_scores(score_table(summary), min_probability, form, target)


def evaluate(
    context: typer.Context,
    model: ModelOption,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report: index.html, its tables as CSV, plots."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the survey's images, to show the worst mistakes."),
    ] = None,
    mistakes: Annotated[int, typer.Option(help="Mistakes that the report shows a class.")] = 6,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Train anew on so many other splits, to see how far scores deviate; when not "
            "given, 10 for a report."
        ),
    ] = None,
    stale_ok: StaleOk = False,
    form: FormatOption = None,
) -> None:
    """Scores of a model on the nights it was not trained on; with --output, a report."""
    from classifiers.validation.evaluate import evaluate as score

    if images is not None and output is None:
        raise BadInput("--images is for the report: name its folder with --output")
    folder = folder_output(context, output, [images])
    if seeds is None:
        seeds = 0 if output is None else 10
    with progress("training on other splits", "trainings") as shown:
        result = score(
            session(context).lake(),
            model,
            folder,
            images=images,
            per_class=mistakes,
            n_seeds=seeds,
            stale_ok=stale_ok,
            progress=shown.update,
        )
    _emit_scores(result.table(), result.cut, form, None)
    if result.leak is not None:
        say(f"a split by image would change the accuracy by {result.leak:+.3f}")
    if output is not None:
        say(f"report in {output / 'index.html'}")
        if result.n_unreadable:
            say(f"{result.n_unreadable:,} image(s) could not be read; the report says why")


def predict(
    context: typer.Context,
    model: ModelOption,
    partition: PartitionOption = None,
    force: Force = False,
    prune: Prune = False,
    strict: Strict = False,
) -> None:
    """Class probabilities of every embedded CCD: the table `predictions`.

    A CCD whose vector is gone keeps what was predicted of it.
    """
    from classifiers.predict import predict as run

    with progress("predicting", "partitions") as shown:
        summary = run(
            session(context).lake(),
            model,
            partitions=partition or (),
            force=force,
            prune=prune,
            announce=announced,
            progress=shown.update,
        )
    say(
        f"{summary.done:,} partitions predicted, {summary.skipped:,} unchanged; "
        f"{summary.n_ccds:,} CCDs{_filled(summary.n_without_column)}"
    )
    _say_kept(summary.n_kept, summary.n_left, "predictions")
    finish(summary.n_failed, strict)


def _say_kept(n_kept: int, n_left: int, what: str) -> None:
    """Say what stays although it could not be made again."""
    if n_kept:
        say(f"  {n_kept:,} {what} kept of what has no vector any more")
    if n_left:
        say(
            f"  {n_left:,} nights left as another version of the model made them: some of what "
            "they have has no vector any more; `predict --prune` gives that up"
        )


def vote(
    context: typer.Context,
    model: ModelOption,
    rule: Annotated[
        Rule,
        typer.Option(help="share: of bad CCDs, as published; learned: by the exposure classifier."),
    ] = Rule.share,
    min_probability: MinProbability = 0.9,
    min_fraction: MinFraction = 0.5,
    min_ccds: Annotated[
        int | None,
        typer.Option(
            help="Number of bad CCDs that does, instead of a share; the paper's code asks 3."
        ),
    ] = None,
    partition: PartitionOption = None,
    force: Force = False,
) -> None:
    """Let the CCDs of each exposure vote: the table `votes`."""
    from classifiers.vote import vote as count

    with progress("voting", "partitions") as shown:
        summary = count(
            session(context).lake(),
            model,
            rule=rule.value,
            min_probability=min_probability,
            min_fraction=min_fraction,
            min_ccds=min_ccds,
            partitions=partition or (),
            force=force,
            progress=shown.update,
        )
    say(
        f"{summary.done:,} partitions voted, {summary.skipped:,} unchanged; {summary.n_bad:,} of "
        f"{summary.n_exposures:,} exposures are bad"
    )
    _say_kept(summary.n_kept, summary.n_left, "votes")


def _filled(n_without_column: int) -> str:
    if not n_without_column:
        return ""
    return f", {n_without_column:,} of them with the usual value of a column that is null"


def _emit_scores(
    scores: pa.Table, min_probability: float, form: Format | None, output: OutputFile | None
) -> None:
    """Write all scores for programs; for people those at the cut, and what a leak would hide."""
    if (form is not None and form is not Format.table) or output is not None:
        emit(scores, form, output)
        return
    import pyarrow as pa

    rows = [row for row in scores.to_pylist() if row["min_probability"] == min_probability]
    honest = rows[0]["split"] if rows else ""
    shown = [
        {
            "class": row["class"],
            "precision": _with_interval(row, "precision"),
            "recall": _with_interval(row, "recall"),
            "f1": row["f1"],
            "support": row["support"],
        }
        for row in rows
        if row["split"] == honest and (row["support"] or row["precision"] is not None)
    ]
    kept = next((row["coverage"] for row in rows if row["split"] == honest), 0.0)
    emit(
        pa.Table.from_pylist(shown),
        title=f"split by {honest}, CCD images with probability >= {min_probability:g} "
        f"({kept:.0%} of them); 95 % intervals over nights",
    )
    for split in dict.fromkeys(row["split"] for row in rows):
        total = next(row for row in rows if row["split"] == split and row["class"] == "all")
        leak = "" if split == honest else " (CCDs of an exposure on both sides: too good)"
        if total["recall"] is None:
            say(f"split by {split}: no CCD image has probability >= {min_probability:g}")
        else:
            accuracy, f1 = total["recall"], total["f1"]
            say(f"split by {split}: accuracy {accuracy:.3f}, mean F1 {f1:.3f}{leak}")


def _with_interval(row: dict[str, Any], name: str) -> str | None:
    if row[name] is None:
        return None
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{row[name]:.3f}" + ("" if low is None else f" ({low:.2f}-{high:.2f})")
