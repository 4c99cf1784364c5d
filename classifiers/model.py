"""Trained models: an estimator that runs no code when it is loaded, and the card that describes it.

How they lie on disk, and how a card that was changed is found out, is `lake.model_files`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from classifiers.estimators.registry import GOOD_FIRST, TYPES, probabilities
from classifiers.exposures.classifier import ExposureClassifier
from classifiers.sample.features import Features
from classifiers.sample.vectors import in_chunks, joined, vector_settings
from lake.errors import Conflict, Damaged, SurveyError
from lake.model_files import model_folder, model_identity, read_model, write_model
from lake.paths import MODEL_FILE
from lake.store import Lake, Partition

#: Parts of the model file: the classifier of CCDs, and that of exposures or nothing.
CCDS, EXPOSURES = "ccds", "exposures"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Model:
    """A trained classifier with its card; `exposure_classifier` is of whole exposures, where there
    is one."""

    name: str
    estimator: Pipeline
    exposure_classifier: ExposureClassifier | None
    card: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, good first: the order of `probabilities`."""
        return tuple(self.card["classes"])

    @property
    def features(self) -> Features:
        """What the model takes: vectors of which embedders, their context, table columns."""
        return Features(
            tuple(one["name"] for one in self.card["embedders"]),
            self.card["context"],
            tuple(self.card["columns"]),
            self.card["training"]["release"],
        )

    @property
    def good_first(self) -> bool:
        """Whether good or bad is decided before the class, see `evaluation.metrics.decide`."""
        return self.card["classifier"] in GOOD_FIRST

    @property
    def identity(self) -> str:
        """Hash of everything that decides a prediction."""
        return model_identity(self.card)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, n_classes) float32 of vectors (n, d), in chunks."""
        n_classes = len(self.classes)
        if not len(vectors):
            return np.zeros((0, n_classes), dtype=np.float32)
        return in_chunks(vectors, lambda part: probabilities(self.estimator, part, n_classes))

    def check_night(self, lake: Lake, partition: Partition) -> None:
        """Raise `SurveyError` unless the vectors of a night are as those it was trained on.

        `partition` is of the first embedder.
        """
        for embedder, one in joined(lake, partition, self.features).items():
            if one is not None:
                self.check_vectors(embedder, vector_settings(one), one.name)

    def check_vectors(self, embedder: str, settings: str, where: str) -> None:
        """Raise `SurveyError` unless the vectors are of an embedder that it was trained on."""
        trained = {one["name"]: one["settings"] for one in self.card["embedders"]}
        if embedder not in trained:
            raise Conflict(
                f"model {self.name} was trained on vectors of {' and '.join(trained)}, not of "
                f"{embedder}"
            )
        if settings != trained[embedder]:
            raise Conflict(
                f"{where}: these vectors of {embedder} were made with other settings than those "
                f"that model {self.name} was trained on; embed again, or train again"
            )


def save_model(
    lake: Lake,
    name: str,
    estimator: Pipeline,
    exposure_classifier: ExposureClassifier | None,
    card: Mapping[str, Any],
    first: Callable[[Model], object] = lambda _: None,
) -> Model:
    """Commit a model and return it; the same estimator and card give the same bytes.

    `first` commits what belongs to the model, before the model is there: a run that ends in between
    finds no model of that name, and is repeated.
    """
    import skops.io

    parts = {
        CCDS: estimator,
        EXPOSURES: None if exposure_classifier is None else exposure_classifier.estimators,
    }
    complete = {
        **card,
        EXPOSURES: None
        if exposure_classifier is None
        else exposure_classifier.to_dict(card["classes"]),
        "name": name,
    }
    archive = _canonical(skops.io.dumps(parts))
    saved = write_model(
        lake,
        name,
        archive,
        complete,
        lambda card: first(Model(name, estimator, exposure_classifier, card)),
    )
    return Model(name, estimator, exposure_classifier, saved)


def load_model(lake: Lake, name: str) -> Model:
    """Read a model.

    Raises
    ------
    SurveyError : there is none, its file and its card do not belong together, or the file names
        types beyond scikit-learn's and `classifiers.estimators.registry.TYPES`; nothing of such a
        file is executed.
    """
    import skops.io

    card, content = read_model(lake, name)
    path = model_folder(lake, name) / MODEL_FILE
    try:
        content = _with_current_names(content)
        untrusted = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TYPES))
        if untrusted:
            raise Damaged(
                f"{path}: names types that a model may not hold: {', '.join(untrusted)}; refused"
            )
        parts = skops.io.loads(content, trusted=list(TYPES))
        estimator, of_exposures = parts[CCDS], parts[EXPOSURES]
        exposure_classifier = None
        if of_exposures is not None:
            exposure_classifier = ExposureClassifier.from_dict(
                of_exposures, card[EXPOSURES], card["classes"]
            )
    except SurveyError:
        raise
    except Exception as error:  # whatever a hostile file provokes, the message names the file
        raise Damaged(f"{path}: not a model file ({error}); train the model again") from error
    if not isinstance(estimator, Pipeline):
        raise Damaged(f"{path}: holds a {type(estimator).__name__}, not a pipeline; refused")
    return Model(name, estimator, exposure_classifier, card)


#: Types whose name or module has changed, as model files of earlier versions have them.
_FORMER_NAMES = {
    "classifiers.boosted.BoostedTrees": "classifiers.estimators.boosted.BoostedTrees",
    "classifiers.boosted.VectorReducer": "classifiers.estimators.boosted.VectorReducer",
    "classifiers.forest.Deviations": "classifiers.estimators.forest.RobustZScore",
    "classifiers.forest.TwoStep": "classifiers.estimators.forest.TwoStep",
    "classifiers.imputer.ColumnImputer": "classifiers.estimators.imputer.ColumnImputer",
    "classifiers.logistic.LogisticProbe": "classifiers.estimators.logistic.LogisticProbe",
    "classifiers.neighbours.WeightedNeighbours": (
        "classifiers.estimators.neighbours.WeightedNeighbours"
    ),
    "classifiers.surprise.Surprise": "classifiers.exposures.novelty.NoveltyScore",
}


def _with_current_names(content: bytes) -> bytes:
    """Return a skops archive in which types have the names that they have in this version."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    nodes, is_current = [schema], True
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            nodes += node.values()
            former = f"{node.get('__module__')}.{node.get('__class__')}"
            if former in _FORMER_NAMES:
                node["__module__"], node["__class__"] = _FORMER_NAMES[former].rsplit(".", 1)
                is_current = False
    if is_current:
        return content
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, json.dumps(schema) if name == "schema.json" else data)
    return result.getvalue()


def _canonical(content: bytes) -> bytes:
    """Return a skops archive without what changes from run to run: dates and memory addresses."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = parts.pop("schema.json").decode()
    names: dict[str, str] = {}
    for address in re.findall(r'"__id__": (\d+)|"file": "(\d+)\.', schema):
        key = address[0] or address[1]
        names.setdefault(key, str(len(names)))
    schema = re.sub(
        r'("__id__": |"file": ")(\d+)', lambda match: match[1] + names[match[2]], schema
    )
    renamed = {
        re.sub(r"^(\d+)", lambda match: names[match[1]], name): data for name, data in parts.items()
    }
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(renamed):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), renamed[name], zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("schema.json", _EPOCH), schema, zipfile.ZIP_DEFLATED)
    return result.getvalue()
