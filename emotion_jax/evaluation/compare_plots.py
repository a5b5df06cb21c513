"""The figure of a comparison."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from emotion_jax.evaluation.plots import BLUE, GREEN, INK, MUTED, ORANGE, SKY, label, png

COLOURS = (BLUE, ORANGE, GREEN, SKY, "#CC79A7", "#E69F00", "#666666")


@png
def figure(
    content: Mapping[str, Any], histories: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
) -> Figure:
    """Accuracy with intervals, recall by class, and the curves of training over each other.

    Args:
      content: of ``compare.compare``.
      histories: name and rows of metrics.jsonl of each run.

    Returns:
      The PNG file's bytes.
    """
    drawn = Figure(figsize=(11.2, 7.2), layout="constrained")
    panels = drawn.subplots(2, 2)
    _accuracy(panels[0, 0], content["runs"])
    _classes(panels[0, 1], content["runs"])
    for axes, name, title in (
        (panels[1, 0], "val_accuracy", "Validation accuracy by epoch"),
        (panels[1, 1], "val_loss", "Validation loss by epoch"),
    ):
        for i, (run, rows) in enumerate(histories):
            colour = COLOURS[i % len(COLOURS)]
            axes.plot([r["epoch"] for r in rows], [r[name] for r in rows], color=colour,
                      label=label(run))  # fmt: skip
        axes.set(title=title, xlabel="Epoch")
        if name == "val_accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if not any(rows for _, rows in histories):
            axes.text(0.5, 0.5, "no metrics.jsonl", transform=axes.transAxes, ha="center",
                      color=MUTED)  # fmt: skip
        elif len(histories) <= len(COLOURS):
            axes.legend()
    return drawn


def _accuracy(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(rows):
        low, high = row["accuracy_interval"]
        axes.plot([low, high], [i, i], color=COLOURS[i % len(COLOURS)], linewidth=3)
        axes.plot(row["accuracy"], i, "o", color=COLOURS[i % len(COLOURS)], markersize=8)
        axes.annotate(f"{row['accuracy']:.1%}", (row["accuracy"], i), (0, 8), color=INK,
                      textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
    axes.set_yticks(range(len(rows)), [label(row["name"]) for row in rows])
    axes.set(title="Accuracy, 95% interval", ylim=(len(rows) - 0.5, -0.6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _classes(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(rows[0]["recall_by_class"])
    places = np.arange(len(names))
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        values = [row["recall_by_class"][name] for name in names]
        offset = (i - (len(rows) - 1) / 2) * width
        axes.bar(places + offset, values, width, color=COLOURS[i % len(COLOURS)])
    axes.set_xticks(places, [label(name) for name in names], rotation=30, ha="right")
    axes.set(title="Recall by class", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def base64(picture: bytes) -> str:
    """For a data URI."""
    return b64encode(picture).decode()
