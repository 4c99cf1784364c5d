"""How much memory a run takes: its process and all that it started, shared pages counted once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType


class Watch:
    """Samples the memory of this process and its descendants in a thread, within ``with``.

    Attributes
    ----------
    samples : bytes, one every `period` seconds.
    """

    def __init__(self, period: float = 1.0) -> None:
        self.samples: list[int] = []
        self._period, self._end = period, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(self._period):
            self.samples.append(held())


def held() -> int:
    """Return the bytes that this process and its descendants hold now, shared ones once."""
    return sum(_proportional(pid) for pid in family(os.getpid()))


def family(pid: int) -> list[int]:
    """Return a process and all its descendants (Linux)."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # the thread has ended since
                continue
    return found


def _proportional(pid: int) -> int:
    """Return the bytes of a process, those that it shares divided among those that share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended since
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
