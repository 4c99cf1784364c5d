"""Judging a night before dawn: `night` reads, embeds, predicts and votes for what is new."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.embed import Precision, Watch, ccds_to_draw
from cli.ingest import Strict
from cli.model import MinFraction, MinProbability, ModelOption, Rule
from cli.output import Format, FormatOption, OutputOption, emit, rows_output
from cli.session import finish, progress, say, session
from lake.errors import BadInput, Conflict, SurveyError
from lake.outputs import OutputFile

if TYPE_CHECKING:
    import pyarrow as pa

    from embedders.registry import Options
    from lake.shares import Night
    from lake.store import Lake

#: Columns of the table of exposures judged bad; the camera is left out where there is only one.
_SHOWN = ("camera", "night", "expnum", "is_new", "band", "object", "class", "probability", "n_bad",
          "n_ccds", "image_filename")  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(night)


def night(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Folder that the night's images arrive in.")],
    model: ModelOption,
    release: Annotated[str, typer.Option(help="Name to file the CCDs under.")] = "night",
    rule: Annotated[
        Rule | None,
        typer.Option(help="How to vote.", show_default="learned where the model has, else share"),
    ] = None,
    min_probability: MinProbability = 0.9,
    min_fraction: MinFraction = 0.5,
    ccds_per_exposure: Annotated[
        str, typer.Option(metavar="N|all", help="CCDs to draw from each exposure.")
    ] = "all",
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of further images that the lake knows of the night; repeatable."),
    ] = None,
    pattern: Annotated[
        str, typer.Option(help="Which files below the folder are images of CCDs.")
    ] = "**/*ooi*.fits*",
    camera: Annotated[
        str | None, typer.Option(help="Camera of images whose INSTRUME does not name it.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of the model's embedders, where they need any; repeatable."),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Precision that the model computes in.", show_default="as it was trained"
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    strict: Strict = False,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Read, embed and judge the images that have come into a folder; show the bad exposures.

    Run it as often as images arrive, from cron if you like: what was judged before is kept, a file
    that has changed is read again, and `is_new` marks what this run has found. Nothing that fails
    ends the run: it is counted, and in the table `failures`.
    """
    import pyarrow as pa

    from classifiers.predict import predict
    from classifiers.vote import vote
    from embedders.engine import run
    from ingest.images import ingest_images
    from lake.model_files import read_card

    target = rows_output(context, output, form, [directory, *(images or ()), *(weights or ())])
    lake = session(context).lake()
    card = read_card(lake, model)
    drawn = ccds_to_draw(ccds_per_exposure)
    # A model's vectors are checked before the night's are made: there is no time to lose.
    options = _options(card, model, weights or (), device, precision and precision.value)
    rule_name = _rule(card, model, rule)
    with _ending_on_sigterm(), _alone(lake, directory, model):
        if _is_empty(directory):
            say(f"{directory}: no file yet")
            return
        with progress("reading headers", "files") as shown:
            read = ingest_images(
                lake,
                directory,
                release,
                pattern=pattern,
                camera=camera,
                workers=workers,
                progress=shown.update,
            )
        n_new = read.files - read.unchanged_files
        found = f"{directory}: {read.files:,} files, {n_new:,} new or changed"
        for reason, count in read.unusable.items():
            say(f"  unusable: {reason}: {count:,}")
        if not read.nights:
            say(f"{found}; no CCD image among them")
            finish(read.failed, strict)
            return
        nights = sorted(read.nights)
        partitions = [f"camera={camera}/night={date}" for camera, date in nights]
        folders = _folders(lake, release, nights, directory, images or ())
        before = {_key(row) for row in _bad(lake, model, release, nights)[0].to_pylist()}
        n_images = n_reused = n_failed = 0
        for one in options:
            with progress("embedding", "images") as shown:
                embedded = run(
                    lake,
                    one.name,
                    folders,
                    partitions=partitions,
                    releases=[release],
                    ccds_per_exposure=drawn,
                    device=device,
                    weights=one.weights,
                    workers=workers,
                    precision=one.precision,
                    progress=Watch(shown),
                )
            n_images += embedded.n_images
            n_reused += embedded.n_reused
            n_failed += embedded.n_failed
            if embedded.stopped:
                say(
                    f"{found}; {n_images:,} images embedded; stopped, {len(embedded.remaining):,} "
                    f"nights of {one.name} remain: run again to go on"
                )
                return
        with progress("predicting", "nights") as shown:
            predicted = predict(lake, model, partitions=partitions, progress=shown.update)
        with progress("voting", "nights") as shown:
            vote(
                lake,
                model,
                rule=rule_name,
                min_probability=min_probability,
                min_fraction=min_fraction,
                partitions=partitions,
                progress=shown.update,
            )
        bad, n_exposures = _bad(lake, model, release, nights)
    is_new = [_key(row) not in before for row in bad.to_pylist()]
    _show(bad.append_column("is_new", pa.array(is_new, pa.bool_())), form, target)
    say(
        f"{found}; {n_images:,} images embedded, {n_reused:,} kept from before, {n_failed:,} "
        f"failed; {bad.num_rows:,} of {n_exposures:,} exposures are bad"
        + (f", {sum(is_new):,} of them new" if any(is_new) else "")
    )
    finish(read.failed + n_failed + predicted.n_failed, strict)


def _show(bad: pa.Table, form: Format | None, output: OutputFile | None) -> None:
    """Write the exposures judged bad; for people none where there are none."""
    columns = list(_SHOWN)
    if form in (None, Format.table) and output is None:
        if not bad.num_rows:
            return
        if len(bad["camera"].unique()) == 1:
            columns.remove("camera")
    emit(bad.select(columns), form, output, title="judged bad")


def _is_empty(directory: Path) -> bool:
    """Tell whether nothing has come yet; hidden files are copies that are still on their way."""
    return directory.is_dir() and not any(
        path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
        for path in directory.rglob("*")
    )


def _alone(lake: Lake, directory: Path, model: str) -> AbstractContextManager[None]:
    """Hold the judging of a folder: a second run would do the same work over again.

    Raises `SurveyError` where another process holds it, or the lake cannot be written.
    """
    from lake.record import digest
    from lake.store import hold

    path = lake.root / f".night-{digest([str(directory.resolve()), model])}.lock"
    return hold(
        path, f"another run is judging {directory} by model {model}; run again when it has ended"
    )


class _Terminated(BaseException):
    """SIGTERM came while nothing was at work that deals with it itself."""


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Say how to go on when stopped by SIGTERM: every commit is whole."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        say("stopped; what was committed stays: run again to go on")
        raise typer.Exit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _options(
    card: dict[str, Any],
    model: str,
    weights: Sequence[Path],
    device: str,
    precision: str | None,
) -> list[Options]:
    """Return the options with which each embedder gives vectors as the model was trained on.

    Of the weights given each takes those that fit, and of the precisions, unless one is given.

    Raises `SurveyError` when nothing fits (other weights, mostly), or an option fits no embedder.
    """
    refusals: list[SurveyError] = []
    chosen = [
        _fitting(one, model, weights, device, precision, refusals) for one in card["embedders"]
    ]
    unused = [path for path in weights if path not in [one.weights for one in chosen]]
    if unused or (precision and precision not in [one.precision for one in chosen]):
        if refusals:
            raise refusals[0]
        raise BadInput(f"--weights {unused[0]}: no embedder of model {model} was run with them")
    return chosen


def _fitting(
    trained: dict[str, str],
    model: str,
    weights: Sequence[Path],
    device: str,
    precision: str | None,
    refusals: list[SurveyError],
) -> Options:
    from embedders.kinds import DeviceEmbedder
    from embedders.registry import Options, embedder
    from lake.record import digest

    name = trained["name"]
    precisions = [precision] if precision else [None, *(choice.value for choice in Precision)]
    candidates = [(path, one) for path in (*weights, None) for one in precisions]
    made_any = False
    for path, one in (*candidates, (None, None)):
        options = Options(name, device.split(",")[0], path, one)
        try:
            made = embedder(options)
        except SurveyError as error:
            refusals.append(error)
            continue
        # A precision that was asked for is left out only where there is none to choose.
        on_device = isinstance(getattr(made, "base", made), DeviceEmbedder)
        if on_device and precision and one is None:
            continue
        if digest(dict(made.settings)) == trained["settings"]:
            return options
        made_any = True
    if refusals and not made_any:
        raise refusals[0]
    raise Conflict(
        f"model {model} was trained on vectors of {name} that were made with other settings than "
        "these would be; give the --weights and --precision of then, or embed and train again"
    )


def _rule(card: dict[str, Any], model: str, asked: Rule | None) -> str:
    """Return the rule to vote by; raises `SurveyError` for one that the model has not learned."""
    has_classifier = card["exposures"] is not None
    if asked is Rule.learned and not has_classifier:
        raise BadInput(
            f"model {model} cannot classify exposures; train it with --exposure-classifier, or "
            "take --rule share"
        )
    return asked.value if asked else "learned" if has_classifier else "share"


def _folders(
    lake: Lake, release: str, nights: Iterable[Night], directory: Path, others: Sequence[Path]
) -> list[Path]:
    """Return the folders of the images that came in these nights, those that are still there."""
    from ingest.images import from_images

    folders = dict.fromkeys([directory, *others])
    for camera, date in nights:
        for partition in lake.partitions("ccds", release=release, camera=camera, night=date):
            rows = lake.read("ccds", dict(partition.keys), ["table_file", "image_filename"])
            files = rows.group_by(["table_file", "image_filename"]).aggregate([])
            for row in files.filter(from_images(files)).to_pylist():
                folders[Path(row["table_file"].removesuffix(row["image_filename"]))] = None
    return [folder for folder in folders if folder in (directory, *others) or folder.is_dir()]


def _bad(lake: Lake, model: str, release: str, nights: Iterable[Night]) -> tuple[pa.Table, int]:
    """Return the exposures of `nights` that the votes call bad, and how many have a vote at all."""
    import queries
    from queries.engine import run_sql

    sql = Path(queries.__path__[0], "night.sql").read_text(encoding="utf-8")
    names = ",".join("/".join(night) for night in nights)
    verdicts = run_sql(lake, sql, {"model": model, "release": release, "nights": names})
    return verdicts.filter(verdicts["is_bad"]), verdicts.num_rows


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["camera"], row["expnum"]
