"""Pictures of an evaluation, as matplotlib figures: for files (PNG) and for the page (SVG)."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec

import numpy as np
import pyarrow as pa

from classifiers.validation.metrics import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, RULE = "#1d2733", "#5d6b7a", "#d4dae1"
BLUE, RED = "#1f5f99", "#b5472b"
#: Thresholds that are marked on a curve.
_MARKED = (0.5, 0.9)
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    # Text stays text, and the same figure gives the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "survey-qa",
}


P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let `draw` draw in the style of the report."""

    @functools.wraps(draw)
    def styled(*arguments: P.args, **options: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*arguments, **options)

    return styled


@_styled
def confusion_figure(classes: Sequence[str], counts: np.ndarray, title: str) -> Figure:
    """Draw counts (n_classes, n_classes), true class by row, shaded by the share of the row."""
    figure, (axes,) = _figure(8.5, 7.5)
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
    return figure


@_styled
def calibration_figure(calibration: pa.Table, brier: float) -> Figure:
    """Draw the share that is right against the mean probability, and how many are so sure."""
    figure, (axes, below) = _figure(4.6, 4.8, 2, 1, height_ratios=(4, 1), sharex=True)
    rows = calibration.to_pylist()
    axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    right = [row["share_right"] for row in rows]
    chances = [row["probability"] for row in rows]
    axes.plot(chances, right, color=BLUE, marker="o", markersize=4, linewidth=1.2)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share that is right")
    axes.set_title(f"Brier score {brier:.3f}")
    widths = [row["high"] - row["low"] for row in rows]
    lows = [row["low"] for row in rows]
    below.bar(lows, [row["n"] for row in rows], widths, align="edge", color=BLUE, alpha=0.35)
    below.set(xlabel="probability of the decided class", ylabel="images")
    return figure


@_styled
def threshold_figure(thresholds: Sequence[Mapping[str, Any]], total: int) -> Figure:
    """Draw good or bad: against the threshold, purity against completeness, and the effort.

    `thresholds` are rows of ``score_thresholds`` of all bad ones, of `total` images.
    """
    figure, (against, curve, effort) = _figure(9.6, 3.3, 1, 3)
    x = [row["threshold"] for row in thresholds]
    purity = _values(thresholds, "purity")
    completeness = _values(thresholds, "completeness")
    against.plot(x, purity, color=BLUE, label="purity (precision)")
    against.plot(x, completeness, color=RED, label="completeness (recall)")
    against.set(xlabel="least probability of being bad", ylim=(0, 1.02), xlim=(0, 1))
    against.legend(loc="lower left", fontsize=8)
    curve.plot(completeness, purity, color=INK, linewidth=1.2)
    for row in thresholds:
        if row["threshold"] in _MARKED and row["purity"] is not None:
            point = (row["completeness"], row["purity"])
            curve.plot(*point, "o", color=INK, markersize=4)
            curve.annotate(
                f"{row['threshold']:g}", point, (-4, -11), textcoords="offset points", fontsize=8
            )
    curve.set(xlabel="completeness", ylabel="purity", xlim=(0, 1.02), ylim=(0, 1.02))
    looked = [row["n_selected"] / total for row in thresholds]
    effort.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    effort.plot([0, *looked[::-1]], [0, *completeness[::-1]], color=RED)
    effort.set(xlabel="share of images looked at", ylabel="share of bad ones found")
    effort.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


@_styled
def class_curves_figure(thresholds: pa.Table, precisions: Mapping[str, float]) -> Figure:
    """Draw purity against completeness, a panel a class, its average precision above."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in thresholds.to_pylist():
        curves.setdefault(row["class"], []).append(row)
    n_columns = min(5, len(curves))
    n_rows = -(-len(curves) // n_columns)
    figure, panels = _figure(9.6, 1.95 * n_rows + 0.3, n_rows, n_columns, sharex=True, sharey=True)
    for index, (axes, (name, rows)) in enumerate(zip(panels, curves.items(), strict=False)):
        completeness = _values(rows, "completeness")
        axes.plot(completeness, _values(rows, "purity"), color=BLUE, linewidth=1.2)
        axes.set_title(f"{name}  {precisions.get(name, np.nan):.3f}", fontsize=8.5)
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        # Those with nothing below them tell the numbers.
        axes.tick_params(labelbottom=index + n_columns >= len(curves))
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.supxlabel("completeness (recall)", fontsize=9)
    figure.supylabel("purity (precision)", fontsize=9)
    return figure


@_styled
def classes_figure(scores: Scores) -> Figure:
    """Draw precision and recall of each class with their intervals."""
    shown = [one for one in scores.classes if one.support or np.isfinite(one.precision)]
    figure, (axes,) = _figure(9.6, 0.36 * len(shown) + 0.9)
    kinds = (("precision", BLUE, -0.14), ("recall", RED, 0.14))
    for label, color, offset in kinds:
        values = np.array([getattr(one, label) for one in shown])
        bounds = np.array([getattr(one, f"{label}_interval") for one in shown])
        places = np.arange(len(shown)) + offset
        axes.hlines(places, bounds[:, 0], bounds[:, 1], color=color, linewidth=1.5, alpha=0.55)
        axes.plot(values, places, "o", color=color, markersize=4.5, label=label)
    axes.set_yticks(range(len(shown)), [f"{one.name} ({one.support:,})" for one in shown])
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlim=(-0.01, 1.01))
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return figure


@_styled
def nights_figure(nights: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw precision and recall of the bad, a point a night; rows of ``score_groups``."""
    figure, (axes,) = _figure(9.6, 2.6)
    places = np.arange(len(nights))
    for name, color in (("precision", BLUE), ("recall", RED)):
        axes.plot(places, _values(nights, name), "o", color=color, markersize=4, label=name)
    step = max(1, len(nights) // 12)
    axes.set_xticks(places[::step], [row["name"].split()[-1] for row in nights[::step]])
    axes.tick_params(axis="x", labelrotation=35)
    axes.set(ylim=(-0.03, 1.03), ylabel="of the bad, a night")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return figure


@_styled
def shares_figure(shares: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw exposures: purity and completeness against the share of bad CCDs, and one another."""
    figure, (against, curve) = _figure(9.6, 3.1, 1, 2)
    x = [row["share"] for row in shares]
    purity, completeness = _values(shares, "purity"), _values(shares, "completeness")
    against.plot(x, purity, color=BLUE, marker=".", label="purity (precision)")
    against.plot(x, completeness, color=RED, marker=".", label="completeness (recall)")
    against.set(xlabel="least share of bad CCDs", xlim=(0, 1), ylim=(0, 1.02))
    against.legend(loc="lower left", fontsize=8)
    curve.plot(completeness, purity, color=INK, marker=".", linewidth=1.2)
    curve.set(xlabel="completeness", ylabel="purity", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def save_png(figure: Figure, file: BinaryIO) -> None:
    """Write a figure as PNG."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure.savefig(file, format="png", metadata={"Software": None})


def to_svg(figure: Figure) -> str:
    """Return a figure as an ``svg`` element, to stand inside a page."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    # A page needs no namespaces, and no width in points: the style decides.
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", text[text.index("<svg") :])
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2).replace("xlink:href", "href")


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [np.nan if row[name] is None else row[name] for row in rows]


def _figure(
    width: float, height: float, n_rows: int = 1, n_columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    # Without pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, **options)
    return figure, list(panels.ravel())
