"""The command `survey-qa`: global options, errors, and the list of commands."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    badlist,
    compare,
    data,
    embed,
    ingest,
    inspect,
    judge,
    labels,
    model,
    models,
    night,
    select,
    structure,
)
from cli.session import Session
from lake.errors import SurveyError
from lake.paths import DEFAULT_LAKE, LAKE_VARIABLE

app = typer.Typer(
    name="survey-qa",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from lake.record import tool_version

        typer.echo(f"survey-qa {tool_version()}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    lake: Annotated[
        Path,
        typer.Option(envvar=LAKE_VARIABLE, help="Folder of the lake.", show_default=True),
    ] = Path(DEFAULT_LAKE),
    verbose: Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show version."),
    ] = False,
) -> None:
    """Decide which exposures of an imaging survey are fit to use.

    Reads CCD tables, bad-exposure lists and images into a lake of Parquet, learns from the labels,
    judges every exposure, and writes the change to the list that the next pipeline reads.

    New here? Run [bold]survey-qa demo[/bold].
    """
    context.obj = Session(lake_path=lake, verbose=verbose)


for module in (
    data,
    ingest,
    labels,
    embed,
    model,
    models,
    compare,
    structure,
    select,
    inspect,
    badlist,
    judge,
    night,
):
    module.register(app)


#: Global options that may also stand after the command, as most people type them.
_HOISTED_FLAGS = ("--verbose",)
_HOISTED_OPTIONS = ("--lake",)


def _hoist(arguments: list[str]) -> list[str]:
    """Move global options to the front, where the parser expects them."""
    front: list[str] = []
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        if argument == "--":
            rest += [argument, *pending]
        elif argument in _HOISTED_FLAGS or argument.startswith(
            tuple(f"{option}=" for option in _HOISTED_OPTIONS)
        ):
            front.append(argument)
        elif argument in _HOISTED_OPTIONS:
            front += [argument, *([value] if (value := next(pending, None)) is not None else [])]
        else:
            rest.append(argument)
    return front + rest


def run(command: Callable[[], None], verbose: bool) -> int:
    """Run `command`; return the exit status, having said in one line what went wrong."""
    try:
        command()
    except SurveyError as error:
        _complain(str(error), verbose)
        return 1
    except (KeyboardInterrupt, SystemExit) as ending:
        if not _interrupted(ending):
            raise
        _complain(
            "interrupted; what was committed stays, and running again goes on from there", False
        )
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        detail = " ".join(str(error).split()) or "no message"
        _complain(
            f"internal error: {type(error).__name__}: {detail}"
            + ("" if verbose else " (run again with --verbose for the traceback)"),
            verbose,
        )
        return 1
    return 0


def _interrupted(ending: BaseException) -> bool:
    """Tell whether a person ended the program; typer makes an exit of it before we see it."""
    cause = getattr(ending.__context__, "__cause__", None)
    return isinstance(ending, KeyboardInterrupt) or isinstance(cause, KeyboardInterrupt)


def _complain(message: str, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()
    print(f"survey-qa: {message}", file=sys.stderr)  # noqa: T201


def main() -> None:
    """Entry point of the command."""
    arguments = _hoist(sys.argv[1:])
    status = run(lambda: app(arguments, prog_name="survey-qa"), "--verbose" in arguments)
    sys.exit(status)


if __name__ == "__main__":
    main()
