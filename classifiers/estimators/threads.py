"""Work in threads that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def single_threads() -> Iterator[ThreadPoolExecutor]:
    """Give a pool of as many threads as torch may use here, in each of which it uses one alone.

    What one thread computes has the same bits however many there are, and on a busy machine none
    waits for the others after every operation.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(before) as workers:
            yield workers
    finally:
        torch.set_num_threads(before)
