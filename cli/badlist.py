"""The list that the next pipeline reads: `bad-expid diff`, `bad-expid check`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import FormatOption, OutputOption, emit, plain_output, rows_output, write_bytes
from cli.session import say, session
from lake import cameras

if TYPE_CHECKING:
    import pyarrow as pa

    from badlist.diff import Addition
    from badlist.format import Key
    from badlist.proposal import CheckReport
    from lake.store import Lake
    from lake.verdicts import Agree


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
    from badlist.diff import make_diff
    from badlist.format import format_key, read_bad_list

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
    cameras.camera(camera)
    # The list is changed by who applies the patch, never by this command.
    target = None if output is None else plain_output(context, output, [against])
    bad_list = read_bad_list(against)
    rule: Agree | None = None if agree is None else agree.value
    additions: list[Addition] = []
    origin = ""
    if sources:
        additions, origin = _additions(
            session(context).lake(),
            model,
            inspections,
            reports,
            rule,
            reason or [],
            collapse,
            ccd_probability,
            camera,
            stale_ok,
        )
    good: list[Key] = []
    if retract_good and inspections is not None:
        from badlist.proposal import good_by_inspections

        good = good_by_inspections(session(context).lake(), inspections, rule, camera)
    change = make_diff(bad_list, against, additions, retract or (), good, heading, origin, camera)
    write_bytes(change.patch, target)
    say(
        f"{against}: {len(change.added):,} added, {len(change.retracted):,} retracted, "
        f"{len(change.already_listed):,} listed already"
    )
    for addition in change.readded:
        say(f"  note: {format_key(addition.key)} is commented out in the list, and added again")
    for key in change.already_retracted:
        say(f"  note: {format_key(key)} is commented out already")


def _additions(
    lake: Lake,
    model: str | None,
    inspections: str | None,
    reports: str | None,
    agree: Agree | None,
    reasons: list[str],
    collapse: bool,
    ccd_probability: float | None,
    camera: str,
    stale_ok: bool,
) -> tuple[list[Addition], str]:
    """Return what the source asked for adds, and its name for the heading."""
    from badlist import proposal as bad_expid

    if model is not None:
        found = bad_expid.additions_from_votes(lake, model, ccd_probability, camera, stale_ok)
        return found, f"model {model}"
    if inspections is not None:
        found = bad_expid.additions_from_inspections(lake, inspections, agree, camera)
        merged_by = bad_expid.merging_rule(lake, inspections)
        if merged_by is not None and agree is None:
            return found, f"inspections of {inspections}, merged by {merged_by}"
        if merged_by is not None:
            say(
                f"round {inspections} was merged by {merged_by}; --agree {agree} counts its "
                "inspectors' verdicts anew"
            )
        return found, f"inspections of {inspections}, bad by {agree or 'any'} of the inspectors"
    assert reports is not None
    found = bad_expid.additions_from_reports(lake, reports, reasons, collapse, camera)
    return found, f"{reports} list" + (f": {', '.join(reasons)}" if reasons else "")


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
    findings = _findings(report)
    if findings.num_rows or form is not None or output is not None:
        emit(findings, form, target, title="to look at")
    else:
        say("nothing to mend")
    if strict and findings.num_rows:
        raise typer.Exit(1)


def _findings(report: CheckReport) -> pa.Table:
    import pyarrow as pa

    from badlist.format import format_key

    rows: list[tuple[int, str, str]] = []
    rows += [(n, text.strip(), f"skipped by the reader: {why}") for n, text, why in report.skipped]
    for key, lines in report.duplicates:
        others = ", ".join(str(line) for line in lines[:-1])
        rows.append((lines[-1], format_key(key), f"listed before on line {others}"))
    for key, line, whole in report.whole_and_ccd:
        rows.append((line, format_key(key), f"its exposure is listed whole on line {whole}"))
    for line, key in report.unknown_names:
        rows.append((line, format_key(key), "the camera has no such CCD"))
    for line, key in report.unknown_keys or ():
        rows.append((line, format_key(key), "no CCD table knows it"))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    kinds = (("line", pa.int64()), ("key", pa.string()), ("finding", pa.string()))
    return pa.table(
        {name: pa.array(values, kind) for (name, kind), values in zip(kinds, columns, strict=True)}
    )
