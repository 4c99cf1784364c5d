"""What a model is worth on what it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from classifiers.metrics import Scores, decide, score
from classifiers.model import Model, load_model
from classifiers.plots import plot_calibration, plot_confusion
from classifiers.sample import Sample, read_sample
from lake.errors import SurveyError
from lake.store import Lake, write_atomically

if TYPE_CHECKING:
    from classifiers.train import TrainSummary

#: Row of the scores over all classes.
ALL = "all"


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on its held-out part.

    Attributes
    ----------
    scores : by least probability, 0 for every prediction.
    split : what the held-out part was kept apart by, and `held_out` its nights.
    brier : mean squared distance of the probabilities from the truth, 0 (best) to 2.
    calibration : by bin of the decided class's probability: predictions, mean probability, share
        that is right.
    """

    model: Model
    scores: dict[float, Scores]
    split: str
    held_out: tuple[str, ...]
    brier: float
    calibration: pa.Table

    def table(self) -> pa.Table:
        """Return one row per cut and class, and one over all classes."""
        return _table([(self.split, self.scores)])

    def confusion(self, min_probability: float = 0.0) -> pa.Table:
        """Return the confusion counts, a row per true class."""
        counts = self.scores[min_probability].confusion
        columns: dict[str, list] = {"class": list(self.model.classes)}
        for index, name in enumerate(self.model.classes):
            columns[f"as {name}"] = counts[:, index].tolist()
        return pa.table(columns)


def score_table(summary: TrainSummary) -> pa.Table:
    """Return the scores of a training, by split, cut and class: the leak in two lines."""
    split = str(summary.model.card["split"]["by"])
    splits = [(split, summary.scores)]
    if split != "image":
        splits.append(("image", summary.image_scores))
    return _table(splits)


def evaluate(lake: Lake, model: str, output: Path | None = None) -> Evaluation:
    """Score a model on the nights that it was not trained on.

    Labels that came since count too where whole nights were held out. With `output`, the folder
    gets ``scores.csv``, ``confusion.csv``, ``calibration.csv`` and ``scores.json``.

    Raises
    ------
    SurveyError : no such model, nothing held out, or a sample that is no longer the one that was
        divided, where the division was not by night.
    """
    trained = load_model(lake, model)
    test = _held_out(lake, trained)
    for embedder, settings in zip(test.features.embedders, test.settings, strict=True):
        trained.check_vectors(embedder, settings, embedder)
    probabilities = trained.probabilities(test.vectors)
    cuts = [float(cut) for cut in trained.card["scores"]["image"]]
    truth = _as_trained(trained, test)
    scores = {
        cut: score(
            trained.classes,
            truth,
            probabilities,
            test.night,
            cut,
            good_first=trained.good_first,
        )
        for cut in cuts
    }
    evaluation = Evaluation(
        model=trained,
        scores=scores,
        split=str(trained.card["split"]["by"]),
        held_out=tuple(test.nights[index] for index in np.unique(test.night)),
        brier=float(((probabilities - np.eye(len(trained.classes))[truth]) ** 2).sum(1).mean()),
        calibration=_calibration(truth, probabilities, decide(probabilities, trained.good_first)),
    )
    if output is not None:
        _write(evaluation, output)
    return evaluation


def _held_out(lake: Lake, model: Model) -> Sample:
    training, split = model.card["training"], model.card["split"]
    sample = read_sample(
        lake,
        model.features,
        release=training["release"],
        sources=training["sources"],
        good=training["good"],
        max_ebv=training["max_ebv"],
        seed=model.card["seed"],
        nights=training["nights"],
    )
    if split["by"] == "night":
        rows = np.isin(np.array(sample.nights)[sample.night], split["held_out"])
        if not rows.any():
            raise SurveyError(
                f"the lake no longer has labelled vectors of the nights that model {model.name} "
                "held out; train again"
            )
        return sample.take(rows)
    if sample.fingerprint != training["fingerprint"]:
        raise SurveyError(
            f"labels or vectors have changed since model {model.name} was trained with --split "
            f"{split['by']}: what it held out cannot be told any more; train again"
        )
    from classifiers.train import divide

    return sample.take(divide(sample, split["by"], split["test_fraction"], model.card["seed"]))


def _as_trained(model: Model, test: Sample) -> np.ndarray:
    """Return the true classes as indices of the model's classes."""
    unknown = {test.classes[index] for index in np.unique(test.labels)} - set(model.classes)
    if unknown:
        raise SurveyError(
            f"there are labels now of {', '.join(sorted(unknown))}, which model {model.name} does "
            "not know; train again"
        )
    order = [model.classes.index(name) if name in model.classes else -1 for name in test.classes]
    return np.array(order)[test.labels]


def _calibration(
    truth: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, n_bins: int = 10
) -> pa.Table:
    highest = probabilities[np.arange(len(decided)), decided]
    right = decided == truth
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.clip(np.digitize(highest, edges) - 1, 0, n_bins - 1)
    used = [index for index in range(n_bins) if (place == index).any()]
    return pa.table(
        {
            "from": [float(edges[index]) for index in used],
            "to": [float(edges[index + 1]) for index in used],
            "n": [int((place == index).sum()) for index in used],
            "probability": [float(highest[place == index].mean()) for index in used],
            "right": [float(right[place == index].mean()) for index in used],
        }
    )


def _table(splits: Sequence[tuple[str, dict[float, Scores]]]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for split, scores in splits:
        for cut, value in scores.items():
            common = {"split": split, "min_probability": cut, "coverage": value.coverage}
            for one in value.classes:
                rows.append(
                    {
                        **common,
                        "class": one.name,
                        "precision": one.precision,
                        "recall": one.recall,
                        "f1": one.f1,
                        "support": one.support,
                        **_interval("precision", one.precision_interval),
                        **_interval("recall", one.recall_interval),
                    }
                )
            rows.append(
                {
                    **common,
                    "class": ALL,
                    "precision": value.accuracy,
                    "recall": value.accuracy,
                    "f1": value.macro_f1,
                    "support": int(value.confusion.sum()),
                }
            )
    names = ["split", "min_probability", "class", "precision", "precision_low", "precision_high"]
    names += ["recall", "recall_low", "recall_high", "f1", "support", "coverage"]
    return pa.table(
        {
            name: [
                # A score that is undefined is null, not a number.
                None if isinstance(cell := row.get(name), float) and np.isnan(cell) else cell
                for row in rows
            ]
            for name in names
        }
    )


def _interval(name: str, bounds: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}


def _write(evaluation: Evaluation, folder: Path) -> None:
    from pyarrow import csv

    tables = {
        "scores": evaluation.table(),
        "confusion": evaluation.confusion(),
        "calibration": evaluation.calibration,
    }
    for name, rows in tables.items():
        write_atomically(folder / f"{name}.csv", partial(csv.write_csv, rows))
    for cut, scores in evaluation.scores.items():
        title = f"{evaluation.model.name}, probability >= {cut:g}, split by {evaluation.split}"
        name = "confusion.png" if cut == 0 else f"confusion-{cut:g}.png"
        write_atomically(
            folder / name,
            partial(plot_confusion, evaluation.model.classes, scores.confusion, title),
        )
    write_atomically(
        folder / "calibration.png",
        partial(plot_calibration, evaluation.calibration, evaluation.brier),
    )
    summary = {
        "model": evaluation.model.name,
        "sha256": evaluation.model.card["sha256"],
        "split": evaluation.split,
        "held_out": list(evaluation.held_out),
        "brier": evaluation.brier,
        "scores": {str(cut): value.to_dict() for cut, value in evaluation.scores.items()},
    }
    text = json.dumps(summary, indent=1) + "\n"
    write_atomically(folder / "scores.json", partial(_write_text, text))


def _write_text(text: str, path: Path) -> None:
    path.write_text(text)
