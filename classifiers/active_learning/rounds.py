"""What ties a model to rounds of inspection: what had been looked at, and the nights that stay."""

from __future__ import annotations

import numpy as np

from classifiers.sample.sample import Sample
from lake.errors import BadInput
from lake.model_files import read_card
from lake.store import Lake


def merged_rounds(lake: Lake) -> dict[str, dict[str, int]]:
    """Return the merged rounds of a lake: what they judged, and the looks that it took."""
    return {
        partition["round"]: {
            "judged": partition.num_rows(),
            "looks": sum(
                one.num_rows() for one in lake.partitions("inspections", round=partition["round"])
            ),
        }
        for partition in lake.partitions("outcomes")
    }


def same_nights(lake: Lake, sample: Sample, model: str) -> np.ndarray:
    """Return which rows are of the nights that another model holds out, (n,) bool.

    So that what a round adds is learned from, and is scored on what the model before it was.

    Raises
    ------
    SurveyError : no such model, one that was not divided by night, or nights of which the sample
        has nothing, or nothing else.
    """
    split = read_card(lake, model)["split"]
    if split["by"] != "night":
        raise BadInput(
            f"--held-out-like {model}: it was trained with --split {split['by']}; name a model "
            "that holds out nights"
        )
    rows = sample.is_of(split["held_out"])
    for side, which in ((rows, "holds out"), (~rows, "does not hold out")):
        if len(np.unique(sample.labels[side])) < 2:
            raise BadInput(
                f"--held-out-like {model}: of the nights that it {which} there are no labelled "
                "vectors of more than one class; label more nights"
            )
    return rows
