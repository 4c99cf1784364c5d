"""Several classifiers side by side: `compare`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.embed import PartitionOption
from cli.model import Classifier, Context, Split, TrustOwnLines
from cli.output import Format, FormatOption, OutputOption, emit, rows_output
from cli.session import LARGEST_SEED, progress, say, session

if TYPE_CHECKING:
    from classifiers.validation.compare import Comparison

#: Scores, and how a table's head calls them.
_HEADS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced acc.",
    "bad_f1": "F1 of bad",
    "coverage": "coverage",
}
#: What tells the rows apart.
_NAMES = ("model", "classifier", "embedders", "context", "columns", "class_weight")
Metric = StrEnum("Metric", ["accuracy", "macro_f1", "balanced_accuracy", "bad_f1", "coverage"])


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(compare)


def compare(
    context: typer.Context,
    embedder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[+NAME…]",
            help="Vectors to learn from, + between those that are joined; repeatable.",
        ),
    ] = None,
    classifier: Annotated[
        list[Classifier] | None,
        typer.Option(
            help="Classifier to train on each of them; repeatable. All when none is named."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model whose settings to train anew beside the others; repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Divisions of the nights, each with its fit.")] = 10,
    metric: Annotated[
        Metric, typer.Option(help="Score whose difference from the first row's is given.")
    ] = Metric.accuracy,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Precision, recall and F1 of each class instead.")
    ] = False,
    min_probability: Annotated[
        float, typer.Option(help="Cut of the coverage and, with --by-class, of the scores.")
    ] = 0.9,
    vector_context: Annotated[
        Context | None,
        typer.Option(
            "--context",
            help="Join each CCD's vector with its exposure's or night's; when not given, as suits "
            "the classifier.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Columns of the CCD table to learn from too."),
    ] = None,
    class_weight: Annotated[
        str,
        typer.Option(
            metavar="none|balanced|CLASS=SHARE,…", help="How much classes count, as for train."
        ),
    ] = "none",
    release: Annotated[
        str | None, typer.Option(help="Release whose labels count, when there are several.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Learn from these lists only; repeatable.")
    ] = None,
    partition: PartitionOption = None,
    split: Annotated[
        Split, typer.Option(help="What is kept on one side when part is held out.")
    ] = Split.night,
    test_fraction: Annotated[float, typer.Option(help="Share that is held out.")] = 0.3,
    good: Annotated[int, typer.Option(help="Good CCD images in the sample.")] = 10_000,
    max_ebv: Annotated[float, typer.Option(help="E(B-V) limit of the sample, mag.")] = 0.04,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="First of the seeds.")] = 0,
    trust_own_lines: TrustOwnLines = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes; when not given, one a core.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Train classifiers on the same splits by night and show how far their scores differ.

    Reads `labels` and `embeddings`, as `train` does.

    Scores are means over the seeds ± the standard deviation from seed to seed.

    Each fit is kept in the table `comparisons`, so that a run that was stopped goes on. No model is
    saved: `survey-qa train` makes one of what does best.
    """
    from classifiers.estimators.registry import CLASSIFIERS
    from classifiers.sample.spec import SampleSpec
    from classifiers.validation.compare import compare as run
    from classifiers.validation.compare import contender_of, contenders_of
    from classifiers.validation.splits import SplitSpec

    target = rows_output(context, output, form)
    lake = session(context).lake()
    contenders = contenders_of(
        embedder or (),
        [one.value for one in classifier] if classifier else CLASSIFIERS,
        None if vector_context is None else vector_context.value,
        [name.strip() for name in (columns or "").split(",") if name.strip()],
        class_weight,
    )
    contenders += [contender_of(lake, name) for name in model or ()]
    with progress("comparing", "fits") as shown:
        result = run(
            lake,
            contenders,
            sample=SampleSpec(release, source or (), partition, good, max_ebv, trust_own_lines),
            split=SplitSpec(split.value, test_fraction),
            min_probability=min_probability,
            n_seeds=seeds,
            seed=seed,
            workers=workers,
            progress=shown.update,
        )
    if (form is not None and form is not Format.table) or target is not None:
        emit(result.by_class() if by_class else result.table(metric.value), form, target)
    else:
        _show(result, metric.value, by_class, split.value)


def _show(result: Comparison, metric: str, by_class: bool, split: str) -> None:
    import pyarrow as pa

    cut = f"probability >= {result.min_probability:g}"
    rows = result.by_class() if by_class else result.table(metric)
    shown = []
    for row in rows.to_pylist():
        if by_class and row["min_probability"] != result.min_probability:
            continue
        line = {name: row[name] for name in _NAMES}
        if by_class:
            line["class"] = row["class"]
            line |= {name: _spread(row, name) for name in ("precision", "recall", "f1")}
            line["support"] = row["support"]
        else:
            line |= {head: _spread(row, name) for name, head in _HEADS.items()}
            if len(result.contenders) > 1:
                line[f"difference of {_HEADS[metric]}"] = _difference(row)
        shown.append(line)
    # A column that says the same of every row says nothing.
    for name in set(_NAMES) - {"classifier", "embedders"}:
        if len({line[name] for line in shown}) == 1:
            for line in shown:
                del line[name]
    n_seeds = len(result.n_test)
    spread = f", mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else ""
    title = f"split by {split}{spread}; "
    title += f"CCD images with {cut}" if by_class else f"coverage: share with {cut}"
    emit(pa.Table.from_pylist(shown), title=title)
    left_out = f"; {result.n_left_out:,} without a vector of all" if result.n_left_out else ""
    say(
        f"{result.n_train[0]:,} CCD images learned from, {result.n_test[0]:,} held out with the "
        f"first seed{left_out}"
    )
    if not by_class and len(shown) > 1 and n_seeds > 1:
        say("differences are from the first row, with a 95 % interval for splits that overlap")


def _spread(row: dict[str, Any], name: str) -> str | None:
    if row[name] is None:
        return None
    spread = row[f"{name}_sd"]
    return f"{row[name]:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _difference(row: dict[str, Any]) -> str | None:
    if row["difference"] is None:
        return None
    low, high = row["difference_low"], row["difference_high"]
    return f"{row['difference']:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
