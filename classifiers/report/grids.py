"""The tables of a report: their numbers as a reader wants them, and the queries they are from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from classifiers.validation.metrics import ClassScore, Scores

if TYPE_CHECKING:
    from classifiers.validation.compare import Comparison
    from classifiers.validation.tables import Answer, Evaluation

#: Where the page says nothing is known.
NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A number or word of a table, what stands small beside it, and how dark it is (0 to 1)."""

    text: str
    aside: str = ""
    shade: float | None = None
    is_number: bool = True


@dataclass(frozen=True)
class Grid:
    """A table of the page.

    Attributes
    ----------
    head : names of the columns; the first is that of the rows.
    answers : what the numbers are answers of, with the SQL that gives them again.
    kind : name of its style.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    answers: Sequence[Answer] = ()
    kind: str = ""


def make_grids(evaluation: Evaluation) -> dict[str, Grid]:
    """Return the tables of the page by name; those of votes, seeds and of the exposure classifier
    where they are."""
    answers, at_cut, cut = evaluation.answers, evaluation.at_cut, evaluation.cut
    grids = {
        "splits": _splits(evaluation),
        "classes": _class_grid(evaluation.scores[0.0].classes, answers["score_classes"]),
        "confusion": _confusion(evaluation.model.classes, evaluation.scores[0.0], answers),
        "calibration": _plain(
            answers["score_calibration"],
            {
                "probability": lambda row: _word(f"{row['low']:.1f} – {row['high']:.1f}"),
                "images": lambda row: Cell(count(row["n"])),
                "mean probability": lambda row: Cell(share(row["probability"])),
                "share right": lambda row: Cell(share(row["share_right"])),
            },
        ),
        "thresholds": _thresholds(answers["score_thresholds"]),
        "ranking": _plain(
            answers["score_average_precision"],
            {
                "class": lambda row: _word(row["class"]),
                "images": lambda row: Cell(count(row["n_true"])),
                "average precision": lambda row: Cell(share(row["average_precision"])),
                "by chance": lambda row: Cell(share(row["by_chance"])),
            },
        ),
        "top": _plain(
            answers["score_top"],
            {
                "looked at": lambda row: Cell(count(row["looked"])),
                "bad": lambda row: Cell(_mean_count(row["n_bad"])),
                "precision": lambda row: Cell(share(row["precision"])),
                "of all bad ones": lambda row: Cell(_percent(row["completeness"])),
            },
        ),
        "looks": _plain(
            answers["score_looks"],
            {
                "to find": lambda row: Cell(f"{row['share']:.0%}"),
                "bad images": lambda row: Cell(count(row["n_bad"])),
                "looks": lambda row: Cell(_mean_count(row["looks"])),
                "of all": lambda row: Cell(_percent(row["share_of_images"])),
                "looks by chance": lambda row: Cell(_mean_count(row["looks_by_chance"])),
            },
        ),
    }
    if cut > 0:
        sure = evaluation.scores[cut]
        grids["classes_at_cut"] = _class_grid(sure.classes, at_cut["score_classes"])
        grids["confusion_at_cut"] = _confusion(evaluation.model.classes, sure, at_cut)
    for part in ("camera", "band", "night"):
        grids[part] = _group(part, answers["score_groups"])
    if evaluation.seeds is not None:
        grids["seeds"], grids["seeds_by_class"] = _seeds(evaluation.seeds)
    if is_bad := evaluation.model.card.get("exposure_scores"):
        grids["exposure_classifier"], grids["exposure_calibration"] = _exposures(is_bad)
    if evaluation.exposures is not None:
        by_class, good_or_bad = evaluation.exposures
        bad = next(one for one in good_or_bad.classes if one.name != "good")
        grids["exposures"] = _class_grid([bad, *by_class.classes], answers["score_exposures"])
        grids["shares"] = _plain(
            answers["score_shares"],
            {
                "share of bad CCDs": lambda row: _word(f"≥ {row['share']:.2f}"),
                "exposures": lambda row: Cell(count(row["n_selected"])),
                "purity": lambda row: Cell(share(row["purity"])),
                "completeness": lambda row: Cell(share(row["completeness"])),
            },
        )
    return grids


#: Names of the scores over seeds, as readers know them.
_SEED_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "mean F1",
    "balanced_accuracy": "balanced accuracy",
    "bad_f1": "F1 of good or bad",
    "coverage": "coverage at the cut",
}


def _seeds(seeds: Comparison) -> tuple[Grid, Grid]:
    """Return means and deviations over seeds: of the whole, and by class."""
    row = seeds.table().to_pylist()[0]
    over_all = Grid(
        ("score", "mean", "deviation"),
        [
            [_word(name), Cell(share(row[key])), Cell(share(row[f"{key}_sd"]))]
            for key, name in _SEED_NAMES.items()
        ],
    )
    rows = [row for row in seeds.by_class().to_pylist() if row["min_probability"] == 0]
    by_class = Grid(
        ("class", "precision", "recall", "F1", "mean support"),
        [
            [
                _word(row["class"]),
                *(
                    Cell(
                        share(row[name]),
                        "" if row[f"{name}_sd"] is None else f"± {row[f'{name}_sd']:.3f}",
                    )
                    for name in ("precision", "recall", "f1")
                ),
                Cell(count(row["support"])),
            ]
            for row in rows
        ],
    )
    return over_all, by_class


def _exposures(scores: Mapping[str, Any]) -> tuple[Grid, Grid]:
    """Return how the exposure classifier does, from the model card, and its calibration."""
    rows = [
        ("precision", scores["precision"]),
        ("recall", scores["recall"]),
        ("Brier score", scores["brier"]),
        ("Brier score of always telling the share of bad ones", scores["brier_of_share"]),
    ]
    over_all = Grid(("score", ""), [[_word(name), Cell(share(value))] for name, value in rows])
    bins = [
        [
            _word(f"from {each['from']:.1f}"),
            Cell(count(each["exposures"])),
            Cell(share(each["probability"])),
            Cell(share(each["share_bad"])),
        ]
        for each in scores["calibration"]
    ]
    head = ("probability of being bad", "exposures", "mean probability", "share bad")
    return over_all, Grid(head, bins)


def _splits(evaluation: Evaluation) -> Grid:
    rows, asked = [], [evaluation.answers["score_summary"]]
    if evaluation.cut > 0:
        asked.append(evaluation.at_cut["score_summary"])
    for answer in asked:
        cut = float(answer.parameters["min_probability"])
        for row in answer.rows.to_pylist():
            own = row["split"] == evaluation.split
            said = evaluation.scores[cut] if own else None
            rows.append(
                [
                    _word(f"by {row['split']}" + ("" if own else " (leaks)")),
                    Cell("all" if cut == 0 else f"≥ {cut:g}"),
                    Cell(count(row["n_kept"])),
                    Cell(_percent(row["coverage"])),
                    Cell(share(row["accuracy"]), between(said.accuracy_interval) if said else ""),
                    Cell(share(row["macro_f1"]), between(said.macro_f1_interval) if said else ""),
                    Cell(share(row["by_chance"])),
                ]
            )
    head = ("split", "probability", "images", "coverage", "accuracy", "mean F1", "by chance")
    return Grid(head, rows, asked, kind="ranges")


def _class_grid(classes: Iterable[ClassScore], answer: Answer) -> Grid:
    rows = [
        [
            _word(one.name),
            _with_interval(one.precision, one.precision_interval),
            _with_interval(one.recall, one.recall_interval),
            _with_interval(one.f1, one.f1_interval),
            Cell(count(one.support)),
        ]
        for one in classes
        if one.support or np.isfinite(one.precision)
    ]
    return Grid(("class", "precision", "recall", "F1", "support"), rows, (answer,), kind="ranges")


def _confusion(classes: Sequence[str], scores: Scores, answers: Mapping[str, Answer]) -> Grid:
    counts = scores.confusion
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1)).tolist()
    rows = []
    for true in used:
        total = max(int(counts[true].sum()), 1)
        rows.append(
            [
                _word(classes[true]),
                *(
                    Cell(
                        count(int(counts[true, called])) if counts[true, called] else "·",
                        shade=float(counts[true, called]) / total,
                    )
                    for called in used
                ),
            ]
        )
    head = ("labelled \\ called", *(classes[index] for index in used))
    return Grid(head, rows, (answers["score_confusion"],), kind="confusion")


def _thresholds(answer: Answer) -> Grid:
    """Return purity and completeness of each class at every tenth threshold."""
    wanted = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    by_class: dict[str, dict[float, dict[str, Any]]] = {}
    for row in answer.rows.to_pylist():
        by_class.setdefault(row["class"], {})[round(row["threshold"], 6)] = row
    rows = []
    for name, found in by_class.items():
        cells = [_word(name)]
        for threshold in wanted:
            row = found[threshold]
            cells.append(Cell(_short(row["purity"]), _short(row["completeness"])))
        rows.append(cells)
    head = ("class", *(f"≥ {threshold:g}" for threshold in wanted))
    return Grid(head, rows, (answer,), kind="pairs")


def _group(part: str, answer: Answer) -> Grid:
    rows = [
        [
            _word(row["name"]),
            Cell(count(row["n"])),
            Cell(count(row["n_bad"])),
            Cell(share(row["precision"])),
            Cell(share(row["recall"])),
            Cell(share(row["accuracy"])),
        ]
        for row in answer.rows.to_pylist()
        if row["part"] == part
    ]
    head = (part, "images", "bad", "precision, bad", "recall, bad", "accuracy, class")
    return Grid(head, rows, (answer,))


def _plain(answer: Answer, columns: Mapping[str, Any]) -> Grid:
    rows = [[make(row) for make in columns.values()] for row in answer.rows.to_pylist()]
    return Grid(tuple(columns), rows, (answer,))


def _word(text: str) -> Cell:
    return Cell(text, is_number=False)


def _with_interval(value: float, bounds: tuple[float, float]) -> Cell:
    if np.isnan(value):
        return Cell(NOTHING)
    return Cell(share(value), between(bounds) or "one night")


def share(value: float | None) -> str:
    """Return a score or probability as text."""
    return NOTHING if value is None or np.isnan(value) else f"{value:.3f}"


def _short(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


def count(value: float | None) -> str:
    """Return a number of things as text."""
    return NOTHING if value is None else f"{value:,.0f}"


def _mean_count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def between(bounds: tuple[float, float]) -> str:
    """Return an interval as text, empty where it is not known."""
    low, high = bounds
    return "" if np.isnan(low) or np.isnan(high) else f"{low:.3f}–{high:.3f}"
