"""The page of a report: what stands in which table, and the numbers as a reader wants them.

The layout is ``report.html``; everything that comes from lists and tables is escaped there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifiers.report import plots
from classifiers.report.grids import NOTHING, between, count, make_grids, share
from lake.cameras import viewer_url

if TYPE_CHECKING:
    from classifiers.report.thumbnails import Thumbnail
    from classifiers.validation.tables import Evaluation

_HERE = Path(__file__).parent


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
    environment.filters["count"] = count
    figures = {name: Markup(plots.to_svg(figure)) for name, figure in _figures(evaluation).items()}
    return environment.get_template("report.html").render(
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        evaluation=evaluation,
        card=evaluation.model.card,
        tiles=_tiles(evaluation),
        made=_made(evaluation),
        figures=figures,
        grids=make_grids(evaluation),
        mistakes=_mistakes(evaluation, pictures),
        n_unreadable=sum(bool(picture.problem) for picture in pictures),
        nothing=NOTHING,
    )


def _tiles(evaluation: Evaluation) -> list[Tile]:
    scores, bad = evaluation.scores[0.0], evaluation.any_bad
    tiles = [
        Tile("accuracy", share(scores.accuracy), between(scores.accuracy_interval)),
        Tile("mean F1 over classes", share(scores.macro_f1), between(scores.macro_f1_interval)),
        Tile(
            "bad images found",
            share(bad["recall"]),
            note=f"recall, of {count(bad['n_bad'])}, whatever class",
        ),
        Tile("found ones that are bad", share(bad["precision"]), note="precision, whatever class"),
    ]
    cut = evaluation.cut
    if cut > 0:
        kept = evaluation.scores[cut]
        tiles.append(
            Tile(
                f"accuracy at probability ≥ {cut:g}",
                share(kept.accuracy),
                between(kept.accuracy_interval),
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
