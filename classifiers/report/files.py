"""Writing a report: the page, and beside it every table as CSV, plots as PNG, scores as JSON."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from classifiers.report import plots
from classifiers.report.page import render
from classifiers.report.thumbnails import thumbnails
from lake.outputs import write_output, write_output_text

if TYPE_CHECKING:
    import pyarrow as pa

    from classifiers.validation.metrics import Scores
    from classifiers.validation.tables import Evaluation

PAGE = "index.html"


def write_report(evaluation: Evaluation, folder: Path, images: Path | None = None) -> int:
    """Write the report and return how many of its images could not be read.

    Parameters
    ----------
    folder : gets ``index.html``, which needs none of the other files, ``<table>.csv``,
        ``<plot>.png`` and ``scores.json``.
    images : the survey's image folder, for thumbnails; without it there are none.

    Raises
    ------
    SurveyError : the folder cannot be written.
    """
    mistakes = evaluation.answers["score_mistakes"].rows.to_pylist()
    pictures = [] if images is None else thumbnails(images, mistakes)
    from pyarrow import csv

    for name, rows in _tables(evaluation).items():
        write_output(folder / f"{name}.csv", partial(csv.write_csv, rows))
    for name, figure in _figures(evaluation).items():
        write_output(folder / f"{name}.png", partial(plots.save_png, figure))
    write_output_text(folder / "scores.json", json.dumps(_summary(evaluation), indent=1) + "\n")
    write_output_text(folder / PAGE, render(evaluation, pictures))
    return sum(bool(picture.problem) for picture in pictures)


def _tables(evaluation: Evaluation) -> dict[str, pa.Table]:
    named = {
        "summary": "score_summary",
        "calibration": "score_calibration",
        "thresholds": "score_thresholds",
        "average_precision": "score_average_precision",
        "top": "score_top",
        "looks": "score_looks",
        "groups": "score_groups",
        "mistakes": "score_mistakes",
        "exposures": "score_exposures",
        "exposure_shares": "score_shares",
    }
    answers = evaluation.answers
    seeds = evaluation.seeds
    return {
        "scores": evaluation.table(),
        "confusion": evaluation.confusion(),
        **{name: answers[query].rows for name, query in named.items() if query in answers},
        **({} if seeds is None else {"seeds": seeds.table(), "seeds_by_class": seeds.by_class()}),
    }


def _figures(evaluation: Evaluation) -> dict[str, plots.Figure]:
    drawn = {"calibration": plots.calibration_figure(evaluation.calibration, evaluation.brier)}
    for cut, scores in evaluation.scores.items():
        title = f"{evaluation.model.name}, probability >= {cut:g}, split by {evaluation.split}"
        name = "confusion" if cut == 0 else f"confusion-{cut:g}"
        classes = evaluation.model.classes
        drawn[name] = plots.confusion_figure(classes, scores.confusion, title)
    return drawn


def _summary(evaluation: Evaluation) -> dict[str, object]:
    return {
        "model": evaluation.model.name,
        "sha256": evaluation.model.card["sha256"],
        "split": evaluation.split,
        "held_out": list(evaluation.held_out),
        "n_held_out": evaluation.n_held_out,
        "brier": evaluation.brier,
        "leak": evaluation.leak,
        "seeds": None if evaluation.seeds is None else evaluation.seeds.table().to_pylist()[0],
        "scores": {str(cut): value.to_dict() for cut, value in evaluation.scores.items()},
        "exposures": None if evaluation.exposures is None else _votes(*evaluation.exposures),
    }


def _votes(by_class: Scores, good_or_bad: Scores) -> dict[str, object]:
    return {"by_class": by_class.to_dict(), "good_or_bad": good_or_bad.to_dict()}
