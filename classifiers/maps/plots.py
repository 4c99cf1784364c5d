"""Pictures of the embeddings by class and by cluster, and the silhouettes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from classifiers.maps.maps import ALL, NOISE, SHOWN_CLUSTER, EmbeddingMap
from lake.cameras import ccd_name, viewer_url
from lake.extras import import_extra
from lake.outputs import write_output, write_output_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of the classes in the vocabulary's order, good first, and of clusters from the largest.
_COLOURS = (
    "#4c78a8", "#e45756", "#f58518", "#54a24b", "#b279a2", "#eeca3b", "#9d755d", "#ff9da6",
    "#17becf", "#2f4b7c", "#8c1d40", "#00a37a", "#7f7f00", "#d0006f", "#5a3fd8", "#a0cb00",
)  # fmt: skip
_GREY = "#c8c8c8"
#: A click on a CCD opens the survey's page of it, where there is one.
_OPEN_VIEWER = """
document.getElementById('{plot_id}').on('plotly_click', function (event) {
  const page = event.points[0].customdata;
  if (page) window.open(page, '_blank', 'noopener');
});
"""


def draw_maps(found: EmbeddingMap, folder: Path) -> list[Path]:
    """Write the pictures into `folder` and return them.

    ``classes.png`` and ``clusters.png`` are the map in two dimensions, ``silhouettes.png`` the
    mean of each class, and ``map.html`` the map in three dimensions, which turns under the mouse
    and holds all that it needs: it opens from disk, without a network.

    Raises
    ------
    SurveyError : the folder cannot be written, or the extra ``maps`` is not installed.
    """
    page = _page(found)
    pictures = {
        "classes.png": _draw_classes,
        "clusters.png": _draw_clusters,
        "silhouettes.png": _draw_silhouettes,
    }
    for name, draw in pictures.items():
        write_output(folder / name, partial(draw, found))
    write_output_text(folder / "map.html", page)
    return [folder / name for name in (*pictures, "map.html")]


def _groups(found: EmbeddingMap) -> list[tuple[str, str, np.ndarray]]:
    """Return name, colour and rows of the CCDs without a label, and of each class."""
    names = found.rows["class"].to_numpy(zero_copy_only=False)
    groups = [("no label", _GREY, np.flatnonzero([name is None for name in names]))]
    for number, name in enumerate(found.order):
        groups.append((name, _COLOURS[number % len(_COLOURS)], np.flatnonzero(names == name)))
    return [group for group in groups if len(group[2])]


def _cluster_colours(found: EmbeddingMap) -> tuple[np.ndarray, int]:
    """Return the colour of each CCD by its cluster, grey in a small one or none, and their count.

    Clusters are numbered from the largest: the first few have colours of their own.
    """
    cluster = found.rows["cluster"].to_numpy()
    sizes = np.bincount(cluster[cluster != NOISE], minlength=1)
    shown = (cluster != NOISE) & (sizes[np.maximum(cluster, 0)] > SHOWN_CLUSTER)
    colours = np.array(_COLOURS)[np.maximum(cluster, 0) % len(_COLOURS)]
    return np.where(shown, colours, _GREY), int((sizes > SHOWN_CLUSTER).sum())


def _draw_classes(found: EmbeddingMap, file: BinaryIO) -> None:
    figure, axes = _figure(9.5, 7)
    x, y = found.rows["x"].to_numpy(), found.rows["y"].to_numpy()
    for name, colour, rows in _groups(found):
        axes.scatter(
            x[rows], y[rows], s=4, linewidths=0, color=colour, label=f"{name} ({len(rows):,})"
        )
    _finish_map(axes, found, "by class")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3, frameon=False)
    figure.savefig(file, format="png")


def _draw_clusters(found: EmbeddingMap, file: BinaryIO) -> None:
    figure, axes = _figure(7.5, 7)
    x, y = found.rows["x"].to_numpy(), found.rows["y"].to_numpy()
    colours, n_shown = _cluster_colours(found)
    for grey in (True, False):
        rows = (colours == _GREY) == grey
        axes.scatter(x[rows], y[rows], s=4, linewidths=0, c=list(colours[rows]))
    _finish_map(axes, found, f"{n_shown} clusters of more than {SHOWN_CLUSTER} CCDs")
    figure.savefig(file, format="png")


def _draw_silhouettes(found: EmbeddingMap, file: BinaryIO) -> None:
    rows = [row for row in found.classes().to_pylist() if row["silhouette"] is not None]
    figure, axes = _figure(7, 1.5 + 0.35 * len(rows))
    colours = {name: colour for name, colour, _ in _groups(found)}
    classes = [row for row in rows if row["class"] != ALL]
    axes.barh(
        [f"{row['class']} ({row['ccds']:,})" for row in classes],
        [row["silhouette"] for row in classes],
        color=[colours[row["class"]] for row in classes],
    )
    for row in rows:
        if row["class"] == ALL:
            axes.axvline(row["silhouette"], color="black", linewidth=1)
            axes.set_title(f"{found.embedder}: silhouette {row['silhouette']:.3f} over all")
    axes.axvline(0, color="0.7", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("mean silhouette: 1 apart, 0 mixed, below 0 nearer another class")
    figure.savefig(file, format="png")


def _page(found: EmbeddingMap) -> str:
    """Return the map in three dimensions as a page of its own."""
    go: Any = import_extra("plotly.graph_objects", "maps", "the map that turns")
    hover, pages = _descriptions(found)
    colours, n_shown = _cluster_colours(found)

    def points(rows: np.ndarray, name: str, colour: Any, visible: bool) -> go.Scatter3d:
        x, y, z = (found.rows[axis].to_numpy()[rows] for axis in ("x3", "y3", "z3"))
        return go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            name=name,
            visible=visible,
            marker={"size": 2, "color": colour},
            text=[hover[row] for row in rows],
            customdata=[pages[row] for row in rows],
            hoverinfo="text",
        )

    by_class = [
        points(rows, f"{name} ({len(rows):,})", colour, True)
        for name, colour, rows in _groups(found)
    ]
    clustered, alone = np.flatnonzero(colours != _GREY), np.flatnonzero(colours == _GREY)
    by_cluster = [
        points(clustered, f"{n_shown} clusters", colours[clustered], False),
        points(alone, "in none, or a small one", _GREY, False),
    ]
    buttons = [
        {
            "label": label,
            "method": "restyle",
            "args": [{"visible": [mine] * len(by_class) + [not mine] * len(by_cluster)}],
        }
        for label, mine in (("by class", True), ("by cluster", False))
    ]
    figure = go.Figure([*by_class, *by_cluster])
    figure.update_layout(
        title=f"{found.embedder}: {found.rows.num_rows:,} CCDs ({found.method})",
        updatemenus=[{"type": "buttons", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1}],
        legend={"itemsizing": "constant"},
        scene={
            **{f"{axis}axis": {"visible": False} for axis in "xyz"},
            "camera": {"eye": {"x": 0.9, "y": 0.9, "z": 0.7}},
        },
        margin={"l": 0, "r": 0, "b": 0, "t": 50},
    )
    page: str = figure.to_html(
        include_plotlyjs=True,
        div_id="map",
        post_script=_OPEN_VIEWER,
        # Nothing that would reach for the network.
        config={"displaylogo": False, "modeBarButtons": [["toImage", "resetCameraDefault3d"]]},
    )
    return page


def _descriptions(found: EmbeddingMap) -> tuple[list[str], list[str | None]]:
    """Return what is said of each CCD under the mouse, and the survey's page of it."""
    hover, pages = [], []
    for row in found.rows.select(
        ["camera", "night", "expnum", "ccdnum", "class", "cluster"]
    ).to_pylist():
        ccd = ccd_name(row["camera"], row["ccdnum"]) or str(row["ccdnum"])
        cluster = "no cluster" if row["cluster"] == NOISE else f"cluster {row['cluster']}"
        said = (f"{row['expnum']}-{ccd}", f"night {row['night']}", row["class"] or "no label")
        hover.append("<br>".join((*said, cluster)))
        pages.append(viewer_url(row["camera"], row["expnum"], ccd))
    return hover, pages


def _finish_map(axes: Axes, found: EmbeddingMap, title: str) -> None:
    # The axes of such a map mean nothing: only who is near whom does.
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{found.embedder}, {found.rows.num_rows:,} CCDs ({found.method}): {title}")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Without pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots()
