"""People in the loop: `inspect`, and `inspections` with what it does to rounds and names."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import QueryDir
from cli.output import FormatOption, OutputOption, emit, plain_output, rows_output, write_bytes
from cli.session import say, session
from lake.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from inspector.rounds import Round
    from lake.store import Lake

RoundArgument = Annotated[str, typer.Argument(metavar="ROUND", help="Name of the round.")]


class MergeRule(StrEnum):
    """How several verdicts make one."""

    any = "any"
    majority = "majority"
    all = "all"
    quasar = "quasar"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(inspect)
    group = typer.Typer(no_args_is_help=True, help="Rounds of inspection and what they say.")
    group.command("status")(status)
    group.command("close")(close)
    group.command("merge")(merge)
    group.command("history")(history)
    group.command("export")(export)
    group.command("import")(import_)
    group.command("release-name")(release_name)
    app.add_typer(group, name="inspections")


def inspect(
    context: typer.Context,
    round_name: Annotated[
        str, typer.Option("--round", help="The round: opened when it exists, else made.")
    ],
    images: Annotated[
        Path, typer.Option(help="Folder of the images, as the CCD table names them.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A new round: what this model votes bad. Its predictions are shown."),
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="NAME", help="A new round: the rows of this named query.")
    ] = None,
    select: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="A new round: the N exposures that --model would learn most from; more options "
            "has `survey-qa select`.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter of the query.")
    ] = None,
    query_dir: QueryDir = None,
    release: Annotated[
        str | None, typer.Option(help="A new round: release whose tables and images are shown.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; others than the loopback need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8642,
    token: Annotated[
        str | None,
        typer.Option(help="Token that signing in needs; made beyond the loopback when not given."),
    ] = None,
    cache_size: Annotated[
        float, typer.Option(min=0, help="Drawn images kept in the lake, at most, in GB.")
    ] = 2.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that decode images.")] = 2,
) -> None:
    """Serve the web page on which people look at the exposures of a round and judge them.

    On this machine alone, until Ctrl-C. A verdict is in the lake before the page says so; run it
    again to go on. Each inspector is blind to the others until `inspections close`.
    """
    try:
        from inspector.serve import check_images, serve
    except ModuleNotFoundError as error:
        raise NotFound(
            f"the page needs {error.name}, which is not installed: pip install 'survey-qa[inspect]'"
        ) from error

    lake = session(context).lake()
    check_images(images)  # a round that is made is frozen, and cannot be made again
    round = _open_or_make(lake, round_name, model, query, param or [], query_dir, select, release)
    serve(round, images, host, port, token, model, int(cache_size * 1e9), workers, say=say)


def _open_or_make(
    lake: Lake,
    name: str,
    model: str | None,
    query: str | None,
    param: list[str],
    query_dir: Path | None,
    select: int | None,
    release: str | None,
) -> Round:
    from cli.data import parse_parameters
    from inspector import rounds

    if select is not None and (model is None or query is not None):
        raise BadInput("--select asks a model what to look at: give --model, and no --query")

    if name in rounds.round_names(lake):
        round = rounds.load(lake, name)
        made_of = {"query": query, "select": select, "release": release}
        for option, value in made_of.items():
            if value is not None and round.origin.get(option) != value:
                raise Conflict(
                    f"round {name} exists and is frozen, and not of --{option} {value}: leave the "
                    "option out to open it, or name another round"
                )
        return round
    if select is not None and model is not None:
        from cli.select import choose

        return choose(lake, name, model, select, release=release)[1]
    origin = {"model": model, "query": query, "param": param, "release": release}
    if query is not None:
        chosen = rounds.subjects_from_query(
            lake, query, parse_parameters(param), query_dir, release
        )
    elif model is not None:
        chosen = rounds.subjects_from_votes(lake, model, release)
    else:
        return rounds.load(lake, name)  # which says what to do
    round = rounds.freeze(lake, name, chosen, origin)
    unknown = sum(subject.night is None for subject in chosen)
    say(
        f"round {name}: {len(chosen):,} frozen"
        + (f", {unknown:,} of them in no CCD table and so without image" if unknown else "")
    )
    return round


def status(context: typer.Context, form: FormatOption = None, output: OutputOption = None) -> None:
    """Every round: how many it has, who has judged how many, and whether it is closed."""
    import pyarrow as pa

    from inspector import rounds
    from lake.verdicts import closing

    target = rows_output(context, output, form)
    lake = session(context).lake()
    rows = []
    for name in rounds.round_names(lake):
        round = rounds.load(lake, name)
        judged = {who: rounds.count_judged(round, who) for who in round.inspectors()}
        merged = lake.path("outcomes", {"round": name}).exists()
        mark = closing(lake, name)
        state = "open" if mark is None else "merged" if merged else "closed"
        if mark is not None and not mark.get("whole", True):
            state = "closing was interrupted: close it again"
        who = [f"{inspector} {count}" for inspector, count in judged.items()]
        rows.append((name, state, len(round.subjects), who))
    columns = [[row[index] for row in rows] for index in range(4)]
    kinds = [pa.string(), pa.string(), pa.int64(), pa.list_(pa.string())]
    names = ("round", "state", "subjects", "judged")
    table = {
        name: pa.array(values, kind)
        for name, values, kind in zip(names, columns, kinds, strict=True)
    }
    emit(pa.table(table), form, target)
    if not rows:
        say("no rounds yet: survey-qa inspect or survey-qa select makes one")


def close(
    context: typer.Context,
    round_name: RoundArgument,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also when somebody is not through.")
    ] = False,
) -> None:
    """Close a round: nothing more is taken, and inspectors see each other's verdicts."""
    from inspector.closing import close as close_round
    from inspector.closing import judgements_of
    from inspector.merge import disagree
    from inspector.rounds import load

    round = load(session(context).lake(), round_name)
    for who, count in close_round(round, unfinished).items():
        say(f"{who}: {count:,} of {len(round.subjects):,} judged")
    disputed = sum(disagree(list(said.values())) for _, said in judgements_of(round))
    say(
        f"round {round_name} is closed; they disagree on {disputed:,}, which the page shows a "
        f"merger under /merge; `survey-qa inspections merge {round_name}` then makes one verdict "
        "of each"
    )


def merge(
    context: typer.Context,
    round_name: RoundArgument,
    rule: Annotated[
        MergeRule,
        typer.Option(
            help="What makes a verdict where no merger has settled it. any, majority, all: how "
            "many of those who looked call it bad, the unsure among them; quasar: three looked, "
            "more than half agree, and their mean quality is above 2.5."
        ),
    ] = MergeRule.majority,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Make one verdict of each exposure of a closed round, and show who differs from whom.

    Into `outcomes`, from where `reports`, `merge-labels` and `bad-expid diff` take it: class,
    quality and comment as they were said. Run it again after settling more disagreements.
    """
    import pyarrow as pa

    from inspector.closing import merge_round
    from inspector.rounds import load

    target = rows_output(context, output, form)
    round = load(session(context).lake(), round_name)
    outcomes, found, unsettled = merge_round(round, rule.value)
    counts = dict.fromkeys(("bad", "good", "unsure"), 0)
    for _, outcome in outcomes:
        counts[outcome.verdict] += 1
    settled = sum(outcome.settled_by is not None for _, outcome in outcomes)
    say(
        f"round {round_name}: {len(outcomes):,} merged by {rule.value}: "
        + ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())
        + f"; {settled:,} settled by a merger, {unsettled:,} disagreements by the rule"
    )
    if found.subjects:
        say(
            f"{found.subjects:,} were seen by two or more: {found.unanimous:,} unanimous, Fleiss' "
            f"kappa {_kappa(found.kappa_verdict)} over verdicts, {_kappa(found.kappa_class)} over "
            "classes"
        )
    names = ("inspector", "says", "other", "other_says")
    rows = pa.table(
        {
            name: pa.array([key[index] for key in found.differences], pa.string())
            for index, name in enumerate(names)
        }
        | {"subjects": pa.array(list(found.differences.values()), pa.int64())}
    )
    emit(rows, form, target, title="who differs from whom")


def history(
    context: typer.Context,
    round_name: RoundArgument,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Every word that was said in a closed round, by whom and when, and what became of it."""
    from inspector.closing import history as tell
    from inspector.rounds import load

    target = rows_output(context, output, form)
    rows = tell(load(session(context).lake(), round_name))
    emit(rows, form, target, title=f"round {round_name}")


def _kappa(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def export(
    context: typer.Context,
    round_name: RoundArgument,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write to instead of the screen.")
    ] = None,
) -> None:
    """Write a closed round as CSV: a row an exposure, two columns an inspector (bad?, reason)."""
    from inspector.closing import export as export_csv

    target = None if output is None else plain_output(context, output)
    write_bytes(export_csv(session(context).lake(), round_name), target)


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Inspection CSV.")],
    round_name: Annotated[
        str | None,
        typer.Option("--round", help="Name of the round.", show_default="the file's stem"),
    ] = None,
    camera: Annotated[str, typer.Option(help="Camera whose exposures are listed.")] = "decam",
) -> None:
    """Read an inspection CSV as a closed round, to be merged, settled and exported."""
    from inspector.closing import import_csv

    with session(context).lake(create=True) as lake:
        round, table = import_csv(lake, file, round_name or file.stem, camera)
    say(
        f"{file.name}: {len(round.subjects):,} exposures, {len(round.inspectors())} inspectors, "
        f"{sum(len(row.verdicts) for row in table.rows):,} verdicts in round {round.name}"
    )
    for skipped in table.skipped:
        say(f"  skipped: {file.name}, line {skipped.line}: {skipped.why}")


def release_name(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an inspector.")],
) -> None:
    """Free the name of an inspector: who next signs in with it has it.

    A name belongs to who first signed in with it, in every round of the lake. Free it when its
    owner has neither their browser nor their token any more. Verdicts under it stay.
    """
    from inspector.names import Names

    freed = Names(session(context).lake().root).release(name)
    say(f"{freed} is free: its sessions are void, and who next signs in with it has the name")
