"""Figures as PNG bytes: the same input gives the same bytes, whatever the user's matplotlib style.

Colours: Okabe and Ito (2008), distinguishable with every common colour blindness.
"""

import functools
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emotion_jax.training import selection

BLUE, SKY, ORANGE, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
INK, MUTED, GRID = "#1b2430", "#667085", "#e4e7ec"
BLUES = LinearSegmentedColormap.from_list(
    "blues", ["#ffffff", "#d3e6f3", "#7fb8dc", BLUE, "#00466e"]
)
_STYLE: Any = {
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$a$"
    "axes.edgecolor": "#98a2b3",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def png(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """Render what ``draw`` returns, in our style and no other."""

    @functools.wraps(draw)
    def render(*args: Any, **kwargs: Any) -> bytes:
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"(Glyph|Matplotlib currently does not support)")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            buffer = io.BytesIO()
            # No software version in the file: the bytes are the picture's alone.
            FigureCanvasAgg(draw(*args, **kwargs)).print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()

    return render


@png
def confusion_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts and row percentages, coloured by the share of the true class.

    Args:
      matrix: int [C, C], rows true, columns predicted.
      classes: C names.

    Returns:
      The PNG file's bytes.
    """
    counts = np.asarray(matrix)
    size, names = len(classes), [label(name) for name in classes]
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(max(1.8 + 0.64 * size, 4.5), 16.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap=BLUES, vmin=0, vmax=1)
    axes.set_xticks(range(size), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Predicted", ylabel="True", title="Confusion matrix")
    if size <= 20:
        for row, column in np.ndindex(size, size):
            ink = "white" if share[row, column] > 0.68 else INK
            _cell(axes, row, column, int(counts[row, column]), share[row, column], ink)
    else:  # no room for numbers
        figure.colorbar(image, ax=axes, format=PercentFormatter(1), label="Share of the true class")
    return figure


def _cell(axes: Axes, row: int, column: int, count: int, share: float, ink: str) -> None:
    centred: dict[str, Any] = {"ha": "center", "color": ink}
    weight: dict[str, Any] = {"weight": "bold" if row == column else "normal", "fontsize": 9.5}
    axes.text(column, row - 0.03, f"{share:.0%}", va="bottom", **weight, **centred)
    axes.text(column, row + 0.08, f"{count:,}", va="top", fontsize=7, alpha=0.8, **centred)


@png
def curves(history: Sequence[dict[str, Any]], rule: str = selection.BEST) -> Figure:
    """Loss, accuracy, macro precision and recall, and the learning rate by epoch.

    Args:
      history: rows of metrics.jsonl; a value that is missing or None leaves a gap.
      rule: by which an epoch is chosen (``selection.RULES``); that epoch is marked.

    Returns:
      The PNG file's bytes.
    """
    column = functools.partial(_column, history)
    epoch = column("epoch")
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    loss, accuracy, macro, rate = panels.flat
    many = {"marker": "o", "markersize": 3} if len(history) <= 30 else {}
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epoch, column(name), color=BLUE, label="Train", **many)
        axes.plot(epoch, column(f"val_{name}"), color=ORANGE, label="Validation", **many)
    for name, colour in (("precision", GREEN), ("recall", BLUE)):
        macro.plot(epoch, column(name), color=colour, linestyle=":", label=f"Train {name}")
        macro.plot(epoch, column(f"val_{name}"), color=colour, label=f"Validation {name}", **many)
    rate.plot(epoch, column("learning_rate"), color=INK, **many)
    rate.yaxis.set_major_formatter("{x:g}")
    titles = ("Loss", "Accuracy", "Macro precision and recall", "Learning rate")
    for axes, title in zip(panels.flat, titles, strict=True):
        axes.set(title=title, xlabel="Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (accuracy, macro):
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    validated = [row for row in history if None not in map(row.get, ("val_accuracy", "val_loss"))]
    if validated:
        _mark(selection.chosen(validated, rule), panels)
    for axes in (loss, accuracy, macro):
        axes.legend()
    return figure


def _column(history: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """One value a row, float64, NaN where there is none."""
    values = (row.get(name) for row in history)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _mark(chosen: Mapping[str, Any], panels: np.ndarray) -> None:
    epoch, accuracy = chosen["epoch"], chosen["val_accuracy"]
    for axes in panels.flat:
        axes.axvline(epoch, color=MUTED, linestyle="--", linewidth=1)
    panels[0, 1].plot(
        epoch,
        accuracy,
        "*",
        color=ORANGE,
        markersize=13,
        markeredgecolor="white",
        label=f"Chosen: {accuracy:.1%} at epoch {epoch:g}",
    )


def label(name: str, limit: int = 18) -> str:
    """A name in one line, of so many characters at most, that the font library takes."""
    shown = " ".join(name.encode("utf-8", "replace").decode().split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
