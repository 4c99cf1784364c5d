"""How a model gets better as people look: scores of successive models on the same nights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake.errors import NotFound, SurveyError
from lake.model_files import model_names, read_card
from lake.outputs import OutputFile
from lake.record import digest
from lake.store import Lake


def history(lake: Lake, models: Sequence[str] = (), rescore: bool = False) -> pa.Table:
    """Return one row a model, oldest first: what it learned from, and its scores by night.

    Scores can be compared within a `series`: the same nights held out, the same classifier and
    inputs. They are those that the model had when it was trained.

    Parameters
    ----------
    models : names; all of the lake when empty.
    rescore : score all on the labels that there are now, in case those have changed since.

    Raises
    ------
    SurveyError : no models, or with `rescore` one that cannot be scored any more.
    """
    names = list(models) or model_names(lake)
    if not names:
        raise NotFound(f"no models in {lake.root}; train one with `survey-qa train`")
    cards = sorted((read_card(lake, name) for name in names), key=lambda c: (c["date"], c["name"]))
    series: dict[str, int] = {}
    rows = []
    for card in cards:
        scores = _rescored(lake, card) if rescore else card["scores"][card["split"]["by"]]["0.0"]
        training, seen = card["training"], card.get("rounds", {})
        counts = training["n_by_class"]
        low, high = scores.get("macro_f1_interval") or (None, None)
        rows.append(
            {
                "series": series.setdefault(_series(card), len(series) + 1),
                "model": card["name"],
                "date": card["date"],
                "classifier": card["classifier"],
                "held_out_nights": len(card["split"]["held_out"]),
                "n_train": training["n_train"],
                "n_bad": sum(counts.values()) - counts.get(card["classes"][0], 0),
                "n_classes": len(card["classes"]),
                "rounds": len(seen),
                "judged": sum(one["judged"] for one in seen.values()),
                "looks": sum(one["looks"] for one in seen.values()),
                "accuracy": scores["accuracy"],
                "macro_f1": scores["macro_f1"],
                "macro_f1_low": low,
                "macro_f1_high": high,
            }
        )
    rows.sort(key=lambda row: row["series"])
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("series", pa.int32()),
        ("model", pa.string()),
        ("date", pa.string()),
        ("classifier", pa.string()),
        ("held_out_nights", pa.int32()),
        ("n_train", pa.int64()),
        ("n_bad", pa.int64()),
        ("n_classes", pa.int32()),
        ("rounds", pa.int32()),
        ("judged", pa.int64()),
        ("looks", pa.int64()),
        ("accuracy", pa.float64()),
        ("macro_f1", pa.float64()),
        ("macro_f1_low", pa.float64()),
        ("macro_f1_high", pa.float64()),
    ]
)


def check_plot(path: Path) -> None:
    """Raise `SurveyError` for a file whose suffix names no format of a picture."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise SurveyError(
            f"cannot write {path}: its name ends in none of {', '.join(f'.{end}' for end in known)}"
        )


def plot_history(rows: pa.Table, output: OutputFile) -> None:
    """Draw the mean F1 against labels and against looks, a line a series; the suffix says how.

    Raises `SurveyError` when the file cannot be written, or its suffix says nothing.
    """
    check_plot(output.path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    every = rows.to_pylist()
    for number in dict.fromkeys(row["series"] for row in every):
        mine = [row for row in every if row["series"] == number and row["macro_f1"] is not None]
        if not mine:
            continue
        f1 = [row["macro_f1"] for row in mine]
        below = [max(y - _or(row["macro_f1_low"], y), 0.0) for y, row in zip(f1, mine, strict=True)]
        above = [
            max(_or(row["macro_f1_high"], y) - y, 0.0) for y, row in zip(f1, mine, strict=True)
        ]
        label = f"{mine[0]['classifier']}, {mine[0]['held_out_nights']} nights held out"
        for axes, column in ((left, "n_train"), (right, "looks")):
            at = [row[column] for row in mine]
            axes.errorbar(at, f1, yerr=[below, above], marker="o", capsize=3, lw=1.2, label=label)
            if axes is left:
                for x, y, row in zip(at, f1, mine, strict=True):
                    axes.annotate(
                        row["model"], (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8
                    )
    left.set_xlabel("labelled CCD images learned from")
    right.set_xlabel("looks (verdicts of one inspector)")
    left.set_ylabel("mean F1 of the held-out nights")
    left.legend(fontsize=8, frameon=False)
    with output.opened() as file:
        figure.savefig(file, dpi=150, format=output.path.suffix.lower().lstrip("."))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _series(card: dict[str, Any]) -> str:
    """Return what models that can be compared have in common."""
    split, training = card["split"], card["training"]
    inputs = [card["embedders"], card["context"], card["columns"]]
    return digest([split["by"], split["held_out"], card["classifier"], inputs, training["release"]])


def _rescored(lake: Lake, card: dict[str, Any]) -> dict[str, Any]:
    from classifiers.validation.evaluate import evaluate

    return evaluate(lake, card["name"]).scores[0.0].to_dict()
