"""What a model is scored with: the labelled CCDs it has not seen, kept where SQL finds them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from classifiers.model import Model
from classifiers.sample.sample import Sample, read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.validation.metrics import decide
from lake.errors import BadInput
from lake.record import Record, file_reference, model_reference
from lake.store import Lake

TABLE = "test_sets"
STAGE = "test-set"
#: The split that lets CCDs of one exposure stand on both sides, as published so far.
IMAGE = "image"


def keep_test_set(
    lake: Lake, model: Model, test: Sample, at_random: pa.Table | None = None
) -> pa.Table:
    """Commit what `model` is scored with and return all rows of the table's partition.

    Nothing is written when it stands there already.

    Parameters
    ----------
    test : the model's own held-out part; what it is called is looked up in ``predictions``.
    at_random : rows of another split, `predicted_rows`; None keeps those that training left.
    """
    keys = {"model": model.name}
    inputs = {
        model_reference(model.name): model.identity,
        file_reference("sample"): test.fingerprint,
    }
    record = Record(STAGE, {"split": model.card["split"]["by"]}, inputs)
    if at_random is None:
        if lake.is_current(TABLE, keys, record):
            return lake.read(TABLE, keys)
        at_random = _kept(lake, model)
    own = _rows(model.card["split"]["by"], test, model.classes)
    rows = (
        own if at_random is None else pa.concat_tables([own, at_random], promote_options="default")
    )
    lake.write(TABLE, keys, rows, record)
    return lake.read(TABLE, keys)


def predicted_rows(
    split: str, test: Sample, probabilities: np.ndarray, good_first: bool
) -> pa.Table:
    """Return the rows of a split that is not the model's own, with what it was called there.

    `probabilities` (n, n_classes) are of a classifier trained on the rest of that split.
    """
    best = decide(probabilities, good_first)
    rows = _rows(split, test, test.classes)
    rows = rows.append_column("predicted", pa.array(test.classes).take(pa.array(best)))
    surety = probabilities[np.arange(len(best)), best].astype(np.float32)
    return rows.append_column("probability", pa.array(surety))


def prediction_rows(model: Model, test: Sample, probabilities: np.ndarray) -> pa.Table:
    """Return what `predictions` would hold of the held-out CCDs, partition keys included."""
    best = decide(probabilities, model.good_first)
    camera, night = _place(test)
    return pa.table(
        {
            "model": pa.array([model.name] * len(test), pa.string()),
            "camera": camera,
            "night": night,
            "expnum": test.expnum.astype(np.int64),
            "ccdnum": test.ccdnum.astype(np.int16),
            "class": pa.array(model.classes).take(pa.array(best)),
            "probability": probabilities[np.arange(len(best)), best].astype(np.float32),
            "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
        }
    )


def true_classes(test: Sample, model: Model) -> np.ndarray:
    """Return the true classes (n,) as indices of the model's classes.

    Raises
    ------
    SurveyError : the labels name a class that the model does not know.
    """
    return _class_indices(test, model.classes, f"model {model.name}")


def _rows(split: str, test: Sample, classes: tuple[str, ...]) -> pa.Table:
    camera, night = _place(test)
    return pa.table(
        {
            "split": pa.array([split] * len(test), pa.string()),
            "release": pa.array([test.release] * len(test), pa.string()),
            "camera": camera,
            "night": night,
            "expnum": test.expnum.astype(np.int64),
            "ccdnum": test.ccdnum.astype(np.int16),
            "class": pa.array(test.classes).take(pa.array(test.labels)),
            "class_index": (_class_indices(test, classes, "the model") + 1).astype(np.int16),
            "weight": test.weights.astype(np.float64),
        }
    )


def _place(test: Sample) -> tuple[pa.Array, pa.Array]:
    """Return camera and night of each CCD."""
    groups = [test.nights[index].split("/", 1) for index in test.night]
    cameras = pa.array([camera for camera, _ in groups], pa.string())
    return cameras, pa.array([int(night) for _, night in groups], pa.int32())


def _class_indices(test: Sample, classes: tuple[str, ...], who: str) -> np.ndarray:
    unknown = {test.classes[index] for index in np.unique(test.labels)} - set(classes)
    if unknown:
        raise BadInput(
            f"there are labels now of {', '.join(sorted(unknown))}, which {who} does "
            "not know; train again"
        )
    order = [classes.index(name) if name in classes else -1 for name in test.classes]
    return np.array(order)[test.labels]


def _kept(lake: Lake, model: Model) -> pa.Table | None:
    """Return the rows of other splits that the training of this very model left."""
    keys = {"model": model.name}
    record = lake.record(TABLE, keys)
    if record is None or record.inputs.get(model_reference(model.name)) != model.identity:
        return None
    rows = lake.read(TABLE, keys)
    return rows.filter(pc.not_equal(rows["split"], model.card["split"]["by"]))


def sample_of(lake: Lake, model: Model) -> Sample:
    """Return the sample that a model's settings draw today, held-out nights included.

    Labels and vectors that came since it was trained are in it. Raises `SurveyError` as
    `read_sample`.
    """
    spec = SampleSpec.from_card(model.card)
    return read_sample(lake, model.features, spec, seed=model.card["seed"])
