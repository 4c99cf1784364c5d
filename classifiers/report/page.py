"""The page of a report: what stands in which table, and the numbers as a reader wants them.

The layout is ``report.html``; everything that comes from lists and tables is escaped there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifiers import plots
from classifiers.metrics import ClassScore, Scores
from lake.cameras import viewer_url

if TYPE_CHECKING:
    from classifiers.compare import Comparison
    from classifiers.evaluate import Answer, Evaluation
    from classifiers.report.thumbnails import Thumbnail

_HERE = Path(__file__).parent
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


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    name: str
    value: str
    interval: str = ""
    note: str = ""
    is_warning: bool = False


@dataclass(frozen=True)
class Mistake:
    """A CCD that the model gets wrong, as the page shows it."""

    row: Mapping[str, Any]
    link: str | None
    picture: Thumbnail | None


@dataclass(frozen=True)
class Group:
    """The mistakes of one class."""

    name: str
    mistakes: list[Mistake] = field(default_factory=list)


def render(evaluation: Evaluation, pictures: Sequence[Thumbnail]) -> str:
    """Return the page; `pictures` belong to the rows of ``score_mistakes``, none: no pictures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = _count
    figures = {name: Markup(plots.to_svg(figure)) for name, figure in _figures(evaluation).items()}
    return environment.get_template("report.html").render(
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        evaluation=evaluation,
        card=evaluation.model.card,
        tiles=_tiles(evaluation),
        made=_made(evaluation),
        figures=figures,
        grids=_grids(evaluation),
        mistakes=_mistakes(evaluation, pictures),
        n_unreadable=sum(bool(picture.problem) for picture in pictures),
        nothing=NOTHING,
    )


def _tiles(evaluation: Evaluation) -> list[Tile]:
    scores, bad = evaluation.scores[0.0], evaluation.any_bad
    tiles = [
        Tile("accuracy", _share(scores.accuracy), _between(scores.accuracy_interval)),
        Tile("mean F1 over classes", _share(scores.macro_f1), _between(scores.macro_f1_interval)),
        Tile(
            "bad images found",
            _share(bad["recall"]),
            note=f"recall, of {_count(bad['n_bad'])}, whatever class",
        ),
        Tile("found ones that are bad", _share(bad["precision"]), note="precision, whatever class"),
    ]
    cut = evaluation.cut
    if cut > 0:
        kept = evaluation.scores[cut]
        tiles.append(
            Tile(
                f"accuracy at probability ≥ {cut:g}",
                _share(kept.accuracy),
                _between(kept.accuracy_interval),
                f"of the {kept.coverage:.1%} that are so sure",
            )
        )
    if evaluation.leak is not None:
        tiles.append(
            Tile(
                "leak",
                f"{evaluation.leak:+.3f}",
                note="accuracy that a split by image would add",
                is_warning=True,
            )
        )
    return tiles


def _made(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was trained on what, as (name, text)."""
    card = evaluation.model.card
    training, split = card["training"], card["split"]
    steps = " → ".join(
        f"{step['type']}({', '.join(f'{k}={v}' for k, v in step.items() if k != 'type')})"
        for step in card["steps"].values()
    )
    features = evaluation.model.features
    by_class = ", ".join(f"{name} {n:,}" for name, n in training["n_by_class"].items())
    held_out = [name.replace("/", " ") for name in evaluation.held_out]
    return [
        ("vectors", ", ".join(features.embedders)),
        ("beside each vector", features.context),
        ("columns of the CCD table", ", ".join(features.columns) or "none"),
        ("classifier", card["classifier"]),
        ("steps", steps),
        (
            "settings",
            "the default ones" if card["search"] == "none" else "found by " + card["search"],
        ),
        ("class weights", card["class_weight"]),
        ("release", str(training["release"])),
        ("lists learned from", ", ".join(training["sources"]) or "all"),
        ("good images drawn", f"{training['good']:,} at most, E(B-V) below {training['max_ebv']}"),
        ("images learned from", f"{training['n_train']:,}"),
        ("images by class, both sides", by_class),
        ("labelled, without a vector", f"{training['n_missing']:,}"),
        ("kept apart by", f"{split['by']}, {split['test_fraction']:.0%} held out"),
        ("held out", f"{len(held_out)} nights: {', '.join(held_out)}"),
        ("seed", str(card["seed"])),
        ("fingerprint of the data", training["fingerprint"]),
        ("model file, SHA-256", card["sha256"]),
        ("trained", card["date"]),
        ("versions", ", ".join(f"{name} {v}" for name, v in card["versions"].items())),
    ]


def _grids(evaluation: Evaluation) -> dict[str, Grid]:
    answers, at_cut, cut = evaluation.answers, evaluation.at_cut, evaluation.cut
    grids = {
        "splits": _splits(evaluation),
        "classes": _classes(evaluation.scores[0.0], answers["score_classes"]),
        "confusion": _confusion(evaluation.model.classes, evaluation.scores[0.0], answers),
        "calibration": _plain(
            answers["score_calibration"],
            {
                "probability": lambda row: _word(f"{row['low']:.1f} – {row['high']:.1f}"),
                "images": lambda row: Cell(_count(row["n"])),
                "mean probability": lambda row: Cell(_share(row["probability"])),
                "share right": lambda row: Cell(_share(row["share_right"])),
            },
        ),
        "thresholds": _thresholds(answers["score_thresholds"]),
        "ranking": _plain(
            answers["score_average_precision"],
            {
                "class": lambda row: _word(row["class"]),
                "images": lambda row: Cell(_count(row["n_true"])),
                "average precision": lambda row: Cell(_share(row["average_precision"])),
                "by chance": lambda row: Cell(_share(row["by_chance"])),
            },
        ),
        "top": _plain(
            answers["score_top"],
            {
                "looked at": lambda row: Cell(_count(row["looked"])),
                "bad": lambda row: Cell(_mean_count(row["n_bad"])),
                "precision": lambda row: Cell(_share(row["precision"])),
                "of all bad ones": lambda row: Cell(_percent(row["completeness"])),
            },
        ),
        "looks": _plain(
            answers["score_looks"],
            {
                "to find": lambda row: Cell(f"{row['share']:.0%}"),
                "bad images": lambda row: Cell(_count(row["n_bad"])),
                "looks": lambda row: Cell(_mean_count(row["looks"])),
                "of all": lambda row: Cell(_percent(row["share_of_images"])),
                "looks by chance": lambda row: Cell(_mean_count(row["looks_by_chance"])),
            },
        ),
    }
    if cut > 0:
        grids["classes_at_cut"] = _classes(evaluation.scores[cut], at_cut["score_classes"])
        grids["confusion_at_cut"] = _confusion(
            evaluation.model.classes, evaluation.scores[cut], at_cut
        )
    for part in ("camera", "band", "night"):
        grids[part] = _group(part, answers["score_groups"])
    if evaluation.seeds is not None:
        grids["seeds"], grids["seeds_by_class"] = _seeds(evaluation.seeds)
    if evaluation.exposures is not None:
        by_class, good_or_bad = evaluation.exposures
        bad = next(one for one in good_or_bad.classes if one.name != "good")
        grids["exposures"] = _class_grid([bad, *by_class.classes], answers["score_exposures"])
        grids["shares"] = _plain(
            answers["score_shares"],
            {
                "share of bad CCDs": lambda row: _word(f"≥ {row['share']:.2f}"),
                "exposures": lambda row: Cell(_count(row["n_selected"])),
                "purity": lambda row: Cell(_share(row["purity"])),
                "completeness": lambda row: Cell(_share(row["completeness"])),
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
            [_word(name), Cell(_share(row[key])), Cell(_share(row[f"{key}_sd"]))]
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
                        _share(row[name]),
                        "" if row[f"{name}_sd"] is None else f"± {row[f'{name}_sd']:.3f}",
                    )
                    for name in ("precision", "recall", "f1")
                ),
                Cell(_count(row["support"])),
            ]
            for row in rows
        ],
    )
    return over_all, by_class


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
                    Cell(_count(row["n_kept"])),
                    Cell(_percent(row["coverage"])),
                    Cell(_share(row["accuracy"]), _between(said.accuracy_interval) if said else ""),
                    Cell(_share(row["macro_f1"]), _between(said.macro_f1_interval) if said else ""),
                    Cell(_share(row["by_chance"])),
                ]
            )
    head = ("split", "probability", "images", "coverage", "accuracy", "mean F1", "by chance")
    return Grid(head, rows, asked, kind="ranges")


def _classes(scores: Scores, answer: Answer) -> Grid:
    return _class_grid(scores.classes, answer)


def _class_grid(classes: Iterable[ClassScore], answer: Answer) -> Grid:
    rows = [
        [
            _word(one.name),
            _with_interval(one.precision, one.precision_interval),
            _with_interval(one.recall, one.recall_interval),
            _with_interval(one.f1, one.f1_interval),
            Cell(_count(one.support)),
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
                        _count(int(counts[true, called])) if counts[true, called] else "·",
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
            Cell(_count(row["n"])),
            Cell(_count(row["n_bad"])),
            Cell(_share(row["precision"])),
            Cell(_share(row["recall"])),
            Cell(_share(row["accuracy"])),
        ]
        for row in answer.rows.to_pylist()
        if row["part"] == part
    ]
    head = (part, "images", "bad", "precision, bad", "recall, bad", "accuracy, class")
    return Grid(head, rows, (answer,))


def _mistakes(evaluation: Evaluation, pictures: Sequence[Thumbnail]) -> list[Group]:
    groups: dict[str, Group] = {}
    for index, row in enumerate(evaluation.answers["score_mistakes"].rows.to_pylist()):
        link = None
        if row["ccdname"]:
            link = viewer_url(row["camera"], row["expnum"], row["ccdname"], row["release"])
        picture = pictures[index] if pictures else None
        group = groups.setdefault(row["class"], Group(row["class"]))
        group.mistakes.append(Mistake(row, link, picture))
    return list(groups.values())


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    answers = evaluation.answers
    thresholds = answers["score_thresholds"].rows
    precisions = {
        row["class"]: row["average_precision"]
        for row in answers["score_average_precision"].rows.to_pylist()
    }
    bad = [row for row in thresholds.to_pylist() if row["class"] == "any bad"]
    nights = [row for row in answers["score_groups"].rows.to_pylist() if row["part"] == "night"]
    figures = {
        "classes": plots.classes_figure(evaluation.scores[0.0]),
        "calibration": plots.calibration_figure(evaluation.calibration, evaluation.brier),
        "thresholds": plots.threshold_figure(bad, evaluation.n_held_out),
        "class_curves": plots.class_curves_figure(thresholds, precisions),
        "nights": plots.nights_figure(nights),
    }
    if "score_shares" in answers:
        figures["shares"] = plots.shares_figure(answers["score_shares"].rows.to_pylist())
    return figures


def _plain(answer: Answer, columns: Mapping[str, Any]) -> Grid:
    rows = [[make(row) for make in columns.values()] for row in answer.rows.to_pylist()]
    return Grid(tuple(columns), rows, (answer,))


def _word(text: str) -> Cell:
    return Cell(text, is_number=False)


def _with_interval(value: float, bounds: tuple[float, float]) -> Cell:
    if np.isnan(value):
        return Cell(NOTHING)
    return Cell(_share(value), _between(bounds) or "one night")


def _share(value: float | None) -> str:
    return NOTHING if value is None or np.isnan(value) else f"{value:.3f}"


def _short(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _mean_count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _between(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return "" if np.isnan(low) or np.isnan(high) else f"{low:.3f}–{high:.3f}"
