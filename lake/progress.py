"""Saying how far long work is, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: Called with how many units of work are done, and their number.
Progress = Callable[[int, int], None]


class TitledProgress(Protocol):
    """Called with how many units of work are done, their number, and what work it is."""

    def __call__(self, done: int, total: int, title: str) -> None: ...


def ticker(total: int, progress: Callable[[int, int], object] | None) -> Callable[[], None]:
    """Return what is called after each of `total` units and tells `progress`, if there is one."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick
