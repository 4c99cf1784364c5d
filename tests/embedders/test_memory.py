"""Memory is bounded: it does not grow with the number of exposures of a partition."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.memory import held
from embedders.engine import Event, run
from lake.store import Lake
from tests.embedders.doubles import Mean, MeanOnDevice
from tests.embedders.skies import NAMES, image_name, write_image, write_rows

#: 800 images of 1 MB.
NIGHT, N_EXPOSURES, SHAPE = "20140101", 200, (512, 512)
#: What allocators may keep for themselves.
TOLERANCE = 16e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("embedder", [Mean(), MeanOnDevice()], ids=["in the readers", "device"])
def test_memory_is_flat_over_200_exposures(
    lake: Lake, tmp_path: Path, embedder: Mean | MeanOnDevice
) -> None:
    folder = tmp_path / "images"
    first = folder / image_name(NIGHT, 1)
    write_image(first, 1, shape=SHAPE)
    for expnum in range(2, N_EXPOSURES + 1):
        os.link(first, folder / image_name(NIGHT, expnum))
    write_rows(lake, NIGHT, range(1, N_EXPOSURES + 1))

    done, samples = 0, []

    def watch(event: Event) -> None:
        nonlocal done
        done += event.n_images if event.kind == "images" else 0
        if event.kind == "images" and done % (10 * len(NAMES)) == 0:
            samples.append(held())

    summary = run(lake, embedder, folder, workers=2, progress=watch)
    assert summary.n_images == N_EXPOSURES * len(NAMES) and len(samples) == 20
    # The first quarter starts processes and fills what is used again and again.
    assert max(samples[10:]) < max(samples[5:10]) + TOLERANCE
    assert max(samples) < samples[0] + 4 * TOLERANCE
