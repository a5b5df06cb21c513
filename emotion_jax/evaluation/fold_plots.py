"""The picture of a cross-validation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from emotion_jax.evaluation import plots

NAMES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "log_loss": "Log loss, nats",
    "ece": "Calibration error",
}
SHARES = ("accuracy", "precision", "recall", "f1")


@plots.png
def boxes(content: Mapping[str, Any]) -> Figure:
    """A box a metric over the folds, each fold as a dot, the mean with its corrected interval.

    Args:
      content: of cross_validation.json: ``per_fold mean interval n folds repeats``.

    Returns:
      The PNG file's bytes.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[4, 1.35, 1.35])
    repeats = f" × {content['repeats']}" if content["repeats"] > 1 else ""
    left.set_title(f"{content['folds']} folds{repeats} of {content['n']:,} images")
    _panel(left, content, SHARES)
    left.set_ylabel("Share; precision, recall and F1 are macro")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
    _panel(middle, content, ("log_loss",))
    _panel(right, content, ("ece",))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def _panel(axes: Axes, content: Mapping[str, Any], names: tuple[str, ...]) -> None:
    columns = [[row[name] for row in content["per_fold"]] for name in names]
    places = np.arange(len(names))
    axes.boxplot(
        columns,
        positions=places - 0.12,
        widths=0.34,
        whis=(0, 100),
        patch_artist=True,
        boxprops={"facecolor": "#d3e6f3", "edgecolor": plots.BLUE},
        medianprops={"color": plots.BLUE},
        whiskerprops={"color": plots.BLUE},
        capprops={"color": plots.BLUE},
    )
    for place, values, name in zip(places, columns, names, strict=True):
        mean, (low, high) = content["mean"][name], content["interval"][name]
        spread = np.linspace(-0.1, 0.1, len(values)) - 0.12
        axes.plot(
            place + spread, values, "o", color=plots.BLUE, markersize=4, label=_once(place, "Fold")
        )
        axes.errorbar(
            place + 0.22,
            mean,
            [[mean - low], [high - mean]],
            fmt="D",
            color=plots.ORANGE,
            markersize=5,
            capsize=4,
            linewidth=1.6,
            label=_once(place, "Mean, corrected 95% interval"),
        )
        shown = f"{mean:.3f}" if name == "log_loss" else f"{mean:.1%}"
        axes.annotate(shown, (place + 0.27, mean), (4, 0), textcoords="offset points", va="center")
    axes.set_xlim(-0.45, len(names) - 0.35)
    axes.set_xticks(places, [NAMES[name] for name in names])
    axes.grid(visible=False, axis="x")


def _once(place: Any, label: str) -> str | None:
    return label if place == 0 else None
