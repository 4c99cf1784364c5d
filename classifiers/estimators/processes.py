"""Work in several processes, which end with the one that started them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from joblib import Parallel, parallel_config


def in_processes(calls: Sequence[Any], workers: int | None, ordered: bool) -> Iterator[Any]:
    """Yield what the calls (`joblib.delayed`) return, in their order or as they are finished.

    Parameters
    ----------
    workers : processes; the cores that there are when None. With 1, the work is done here. In each
        of several, libraries use one thread.
    """
    n_jobs = min(workers or len(os.sched_getaffinity(0)), max(len(calls), 1))
    return_as = "generator" if ordered else "generator_unordered"
    own = {"initializer": _end_with, "initargs": (os.getpid(),)}
    with parallel_config("loky", inner_max_num_threads=1, **own):
        # One by one: what is finished is to be known at once.
        parallel = Parallel(n_jobs, return_as=return_as, batch_size=1)
    with warnings.catch_warnings(), contextlib.closing(parallel(calls)) as results:
        # When it is interrupted, what was not taken any more is no news.
        warnings.filterwarnings("ignore", message=".*tasks .* have been")
        yield from results


def _end_with(parent: int) -> None:
    """End this process when `parent` has: killed, it cannot say so, and half a message is left."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
