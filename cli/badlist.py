"""The list that the next pipeline reads: `bad-expid diff`, `bad-expid check`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.output import FormatOption, OutputOption, emit, plain_output, rows_output, write_bytes
from cli.session import say, session

CameraOption = Annotated[str, typer.Option(help="Camera whose exposures the list names.")]


StaleOk = Annotated[bool, typer.Option("--stale-ok", help="Also where votes are out of date.")]


class Agreement(StrEnum):
    """How many inspectors must call an exposure bad."""

    any = "any"
    majority = "majority"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    group = typer.Typer(no_args_is_help=True, help="The bad-exposure list that legacypipe reads.")
    group.command("diff")(diff)
    group.command("check")(check)
    app.add_typer(group, name="bad-expid")


def diff(
    context: typer.Context,
    against: Annotated[Path, typer.Option(help="The list as it stands.")],
    model: Annotated[str | None, typer.Option(help="Add what this model votes bad.")] = None,
    inspections: Annotated[
        str | None, typer.Option(metavar="ROUND", help="Add what the inspectors of a round found.")
    ] = None,
    reports: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Add what the lists of a source call bad."),
    ] = None,
    agree: Annotated[
        Agreement | None,
        typer.Option(
            help="With --inspections: who must call it bad, of those who looked. Counts the "
            "verdicts of a merged round anew.",
            show_default="what the round was merged to; any",
        ),
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help="With --reports: only these words or classes; repeatable."),
    ] = None,
    collapse: Annotated[
        bool,
        typer.Option(
            "--collapse", help="With --reports: one line for an exposure all of whose CCDs are bad."
        ),
    ] = False,
    ccd_probability: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="With --model: also single CCDs that are bad at this probability.",
        ),
    ] = None,
    retract_good: Annotated[
        bool,
        typer.Option(
            "--retract-good",
            help="With --inspections: comment out the lines of what the inspectors call good.",
        ),
    ] = False,
    stale_ok: StaleOk = False,
    retract: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPNUM[-CCD]", help="Comment a line out; repeatable."),
    ] = None,
    heading: Annotated[
        str | None,
        typer.Option(help="Comment above the additions.", show_default="date and origin"),
    ] = None,
    camera: CameraOption = "decam",
    output: Annotated[
        Path | None, typer.Option(metavar="PATCH", help="File for the patch.")
    ] = None,
) -> None:
    r"""The change to the list as a patch, for `git apply` or `patch -p0`.

    Lines that do not change stay as they are, byte for byte; what is listed is not added again.
    A line that is added says its class and where it comes from, `Wonky \[survey-qa: model M, 62 of
    62 CCDs]`, so that no model ever learns from it as from a person's word.
    """
    from badlist.format import format_key
    from badlist.proposal import propose

    sources = [name for name in (model, inspections, reports) if name is not None]
    if len(sources) > 1 or (not sources and not retract):
        raise typer.BadParameter("name one of --model, --inspections, --reports, or a --retract")
    misplaced = {
        "--reason is for --reports": reason and reports is None,
        "--collapse is for --reports": collapse and reports is None,
        "--agree is for --inspections": agree is not None and inspections is None,
        "--ccd-probability is for --model": ccd_probability is not None and model is None,
        "--retract-good is for --inspections": retract_good and inspections is None,
        "--stale-ok is for --model": stale_ok and model is None,
    }
    for what, is_so in misplaced.items():
        if is_so:
            raise typer.BadParameter(what)
    # The list is changed by who applies the patch, never by this command.
    target = None if output is None else plain_output(context, output, [against])
    change = propose(
        session(context).lake() if sources else None,
        against,
        model=model,
        inspections=inspections,
        reports=reports,
        agree=None if agree is None else agree.value,
        reasons=reason or (),
        collapse=collapse,
        ccd_probability=ccd_probability,
        retract_good=retract_good,
        retract=retract or (),
        heading=heading,
        camera=camera,
        stale_ok=stale_ok,
    )
    if inspections is not None and agree is not None:
        from badlist.proposal import merging_rule

        if (rule := merging_rule(session(context).lake(), inspections)) is not None:
            say(
                f"round {inspections} was merged by {rule}; --agree {agree} counts its inspectors' "
                "verdicts anew"
            )
    write_bytes(change.patch, target)
    say(
        f"{against}: {len(change.added):,} added, {len(change.retracted):,} retracted, "
        f"{len(change.already_listed):,} listed already"
    )
    for addition in change.readded:
        say(f"  note: {format_key(addition.key)} is commented out in the list, and added again")
    for key in change.already_retracted:
        say(f"  note: {format_key(key)} is commented out already")


def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The list.")],
    camera: CameraOption = "decam",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 when anything is wrong.")
    ] = False,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """What the list says, duplicates, and lines that its reader skips.

    With a lake that has CCD tables, also the keys that none of them knows.
    """
    from badlist.proposal import check as read

    target = rows_output(context, output, form, [file])
    home = session(context)
    lake = home.lake() if home.lake_path.is_dir() else None
    report = read(file, lake, camera)
    say(
        f"{file}: {report.lines:,} lines = {report.entries:,} entries + {report.comments:,} "
        f"comments + {report.blank:,} blank + {len(report.skipped):,} skipped; "
        f"{report.exposures:,} exposures and {report.ccds:,} single CCDs"
    )
    if report.classes:
        kinds = [f"{count:,} {name or 'without a class'}" for name, count in report.classes.items()]
        say(f"  what they say: {', '.join(kinds)}")
    if report.own:
        origins = [f"{count:,} by {origin}" for origin, count in report.own.items()]
        say(f"  of them written by this program: {', '.join(origins)}")
    if report.unknown_keys is None:
        say("no CCD table in the lake: not checked whether the exposures exist")
    findings = report.findings()
    if findings.num_rows or form is not None or output is not None:
        emit(findings, form, target, title="to look at")
    else:
        say("nothing to mend")
    if strict and findings.num_rows:
        raise typer.Exit(1)
