"""Pictures of an evaluation: the confusion matrix and the calibration curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_confusion(classes: tuple[str, ...], counts: np.ndarray, title: str, path: Path) -> None:
    """Draw counts (n_classes, n_classes), true class by row, shaded by the share of the row."""
    figure, axes = _figure(8.5, 7.5)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(counts / totals, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = counts[row, column] / totals[row, 0] > 0.5
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8,
            color="white" if dark else "black",
        )  # fmt: skip
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=60, ha="right")
    axes.set_yticks(places, classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    figure.savefig(path, format="png")


def plot_calibration(calibration: pa.Table, brier: float, path: Path) -> None:
    """Draw the share that is right against the mean probability, a point a bin."""
    figure, axes = _figure(5.5, 5.5)
    rows = [row for row in calibration.to_pylist() if row["n"]]
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot([row["probability"] for row in rows], [row["right"] for row in rows], marker="o")
    for row in rows:
        axes.annotate(f"{row['n']}", (row["probability"], row["right"]), fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean probability of the decided class")
    axes.set_ylabel("share that is right")
    axes.set_title(f"calibration (Brier score {brier:.3f})")
    figure.savefig(path, format="png")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Without pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots()
