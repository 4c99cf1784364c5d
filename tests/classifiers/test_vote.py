"""Every night's votes are of that night's exposures, whatever nights and cameras there are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from classifiers.vote import vote
from lake.record import Record
from lake.store import Lake

_CLASSES = ["good", "Noise"]


def predictions(expnum: np.ndarray, bad: np.ndarray, n_ccds: int) -> pa.Table:
    """Predictions of `n_ccds` CCDs of each exposure, all bad or all good, quite sure."""
    chance = np.where(np.repeat(bad, n_ccds)[:, None], [0.05, 0.95], [0.95, 0.05])
    return pa.table(
        {
            "expnum": np.repeat(expnum, n_ccds),
            "ccdnum": np.tile(np.arange(1, n_ccds + 1, dtype=np.int16), len(expnum)),
            "class": np.array(_CLASSES)[chance.argmax(axis=1)],
            "probability": chance.max(axis=1).astype(np.float32),
            "probabilities": pa.array(chance.tolist(), pa.list_(pa.float32())),
        }
    )


@pytest.mark.parametrize(
    ("cameras", "nights"),
    [
        # Sets of nights whose order an unordered grouping does not keep.
        (("90prime",), (20141209, 20150108, 20150207, 20150309, 20150408)),
        (("decam", "mosaic", "90prime"), tuple(range(20140101, 20140121))),
    ],
)
def test_votes_stay_in_their_night(
    lake: Lake, cameras: tuple[str, ...], nights: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    expected = {}
    for camera in cameras:
        for night in nights:
            # As many on every night: what is put into another one would not show in the counts.
            expnum = np.sort(rng.choice(9999, 4, replace=False)) + 1
            bad = rng.random(4) < 0.5
            keys = {"model": "m", "camera": camera, "night": str(night)}
            record = Record("predict", {}, {"rows": str(expnum)}, {"classes": _CLASSES})
            lake.write("predictions", keys, predictions(expnum, bad, 3), record)
            expected[camera, str(night)] = list(zip(expnum.tolist(), bad.tolist(), strict=True))
    assert vote(lake, "m").n_exposures == 4 * len(cameras) * len(nights)
    found = {
        (partition["camera"], partition["night"]): [
            (row["expnum"], row["is_bad"])
            for row in lake.read("votes", dict(partition.keys)).to_pylist()
        ]
        for partition in lake.partitions("votes")
    }
    assert found == expected
