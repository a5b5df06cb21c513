"""Small multiples of accuracy against the strength of what makes pictures worse."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from emotion_jax.evaluation.plots import BLUE, INK, MUTED, SKY, png

COLUMNS = 4


@png
def curves(robustness: Mapping[str, Any], classes: int) -> Figure:
    """A panel a corruption: accuracy with its 95% interval, the clean accuracy, and chance.

    Args:
      robustness: ``robustness.compute``.
      classes: their number.

    Returns:
      The PNG file's bytes.
    """
    names = list(robustness["curves"])
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(11.2, 2.9 * rows), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).flat)
    for axes, name in zip(panels, names, strict=False):
        curve = robustness["curves"][name]
        points = curve["points"]
        places = np.arange(len(points) + 1)
        accuracy = [robustness["clean"], *(point["accuracy"] for point in points)]
        low, high = np.array([point["interval"] for point in points]).T
        axes.axhline(robustness["clean"], color=MUTED, linestyle="--", linewidth=1)
        axes.axhline(1 / classes, color=MUTED, linestyle=":", linewidth=1)
        axes.fill_between(places[1:], low, high, color=SKY, alpha=0.35, linewidth=0)
        axes.plot(places, accuracy, "o-", color=BLUE, markersize=4)
        axes.annotate(
            f"{accuracy[-1]:.0%}", (places[-1], accuracy[-1]), (0, 7), color=INK, ha="center",
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
        strengths = [f"{point['strength']:g}" for point in points]
        axes.set_xticks(places, ["none", *strengths])
        axes.set(title=name.capitalize(), xlabel=curve["unit"], ylim=(0, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in panels[len(names) :]:
        axes.axis("off")
    figure.supylabel("Accuracy (dashed: clean, dotted: chance)", fontsize=9)
    return figure
