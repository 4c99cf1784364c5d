"""The command `survey-qa`: global options, errors, and the list of commands."""

from __future__ import annotations

import atexit
import io
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
    maps,
    model,
    models,
    night,
    panels,
    select,
)
from cli.session import Session, drop, say
from lake.errors import BadInput, SurveyError, is_text
from lake.paths import DEFAULT_LAKE, LAKE_VARIABLE, shortened

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
    if not is_text(str(lake)):
        raise BadInput(f"--lake {str(lake)!r} is not UTF-8; name another folder")
    context.obj = Session(lake_path=lake, verbose=verbose)


for module in (
    data,
    ingest,
    labels,
    embed,
    model,
    models,
    compare,
    maps,
    select,
    inspect,
    badlist,
    judge,
    night,
):
    module.register(app)
panels.arrange(app)


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
        sys.stdout.flush()
    except SurveyError as error:
        _complain(str(error), verbose)
        return 1
    except (KeyboardInterrupt, SystemExit) as ending:
        if _unheard(ending):
            drop(sys.stdout)
            return 0
        if not _interrupted(ending):
            raise
        _complain(
            "interrupted; what was committed stays, and running again goes on from there", False
        )
        return 130
    except BrokenPipeError:
        drop(sys.stdout)
        return 0
    except OSError as error:
        # A file or folder that a person named is not as it should be: no defect of this program.
        where = "" if error.filename is None else f"{shortened(str(error.filename), 200)}: "
        _complain(f"{where}{error.strerror or error}", verbose)
        return 1
    except Exception as error:
        more = "" if verbose else " (run again with --verbose for the traceback)"
        detail = shortened(" ".join(str(error).split()), 400) or "no message"
        _complain(f"internal error: {type(error).__name__}: {detail}{more}", verbose)
        return 1
    return 0


def _unheard(ending: BaseException) -> bool:
    """Tell whether the reader of our output has gone, as `| head` does: nothing is wrong then.

    The libraries that print make an exit of it before we see it.
    """
    return isinstance(ending.__context__, BrokenPipeError)


def _interrupted(ending: BaseException) -> bool:
    """Tell whether a person ended the program; typer makes an exit of it before we see it."""
    cause = getattr(ending.__context__, "__cause__", None)
    return isinstance(ending, KeyboardInterrupt) or isinstance(cause, KeyboardInterrupt)


def _complain(message: str, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()
    say(f"survey-qa: {message}")


def run_arguments(arguments: list[str]) -> int:
    """Run the command as its arguments say; return the exit status."""
    for argument in arguments:
        if not is_text(argument):
            _complain(
                f"the argument {shortened(argument)!r} is not UTF-8; rename the file, or retype it",
                False,
            )
            return 2
    words = _hoist(arguments)
    try:
        status = run(lambda: app(words, prog_name="survey-qa"), "--verbose" in words)
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    # What is left in the buffer would fail when the interpreter ends, with lines of its own.
    return run(lambda: None, False) or status


def _open_streams() -> None:
    """Give the program streams that take any text, where the caller has closed them even."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # With the lowest free number, so that no file of ours gets what is printed.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123 SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the command."""
    status = 1
    # Called last of all that is to be done at the end. Threads of Arrow, DuckDB or torch may still
    # be letting go of what Python owns; an interpreter that is taken down meanwhile aborts, with
    # the work done and the exit status lost.
    atexit.register(lambda: os._exit(status))
    _open_streams()
    status = run_arguments(sys.argv[1:])
    sys.exit(status)


if __name__ == "__main__":
    main()
