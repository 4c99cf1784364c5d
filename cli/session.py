"""What every command shares: the lake, where messages go, and how long work is shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from lake.errors import one_line

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console

    from lake.store import Lake


#: What every generator of random numbers that is used here takes as a seed.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Session:
    """The global options."""

    lake_path: Path
    verbose: bool

    def lake(self, create: bool = False) -> Lake:
        """Open the lake; raises `SurveyError` when there is none and `create` is not set."""
        from lake.store import Lake

        return Lake(self.lake_path, create=create)


def session(context: typer.Context) -> Session:
    """Return the session of a command's context."""
    assert isinstance(context.obj, Session)
    return context.obj


def messages() -> Console:
    """Return the console for people: standard error, so that standard output stays data."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line for people, safe for a terminal whatever file or cell it quotes."""
    try:
        typer.echo(one_line(text), err=True)
    except OSError:
        # Nobody listens any more, as after `2>&1 | head`: the work goes on.
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Send what is still written to `stream` nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def finish(failed: int, strict: bool) -> None:
    """End a command that could not use `failed` inputs: exit 1 when `strict`."""
    if failed:
        say(f"{failed:,} input(s) could not be used: survey-qa sql 'select * from failures'")
        if strict:
            raise typer.Exit(1)


class Progress:
    """Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

    def __init__(self, title: str, unit: str) -> None:
        self.title = one_line(title)
        self.unit = unit
        self.interactive = sys.stderr.isatty()
        self._last = 0.0
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Progress:
        if self.interactive:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{self.unit}  {{task.fields[rate]}}"),
                TimeRemainingColumn(),
                console=messages(),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=None, rate="")
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None = None, title: str | None = None) -> None:
        """Say that `done` of `total` units are done; another title begins a part of the work."""
        if title is not None and title != self.title:
            self.title, self._start = one_line(title), time.monotonic()
            self.line(title)
            if self._bar is not None and self._task is not None:
                self._bar.reset(self._task, description=self.title)
        elapsed = max(time.monotonic() - self._start, 1e-3)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done, total=total, rate=f"{done / elapsed:,.1f}/s"
            )

    def line(self, text: str) -> None:
        """Print a line for a finished partition, where no bar is drawn."""
        if not self.interactive:
            say(text)


@contextmanager
def progress(title: str, unit: str) -> Iterator[Progress]:
    """Show the progress of `title`, counted in `unit`, while the body runs."""
    with Progress(title, unit) as shown:
        yield shown
