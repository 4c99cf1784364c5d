"""Saying how far long work is, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

#: Called with how many units of work are done, and their number.
Progress = Callable[[int, int], None]


def ticker(total: int, progress: Callable[[int, int], object] | None) -> Callable[[], None]:
    """Return what is called after each of `total` units and tells `progress`, if there is one."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick
