"""Figures of what a model's probabilities are worth, as PNG bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emotion_jax.evaluation.plots import (
    BLUE,
    BLUES,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SKY,
    label,
    png,
)


@png
def reliability(
    bins: Sequence[Mapping[str, Any]],
    ece: float,
    floor: float,
    confidences: np.ndarray,
    before: Sequence[Mapping[str, Any]] | None = None,
) -> Figure:
    """Accuracy against confidence with 95% intervals, and how confident the model is.

    Args:
      bins: ``confidence accuracy interval count``, by rising confidence.
      ece: expected calibration error, 0 to 1.
      floor: that of a perfectly calibrated model with these bins.
      confidences: float [n], probability of the predicted class of each image.
      before: bins without the temperature, where there is one.

    Returns:
      The PNG file's bytes.
    """
    figure = Figure(figsize=(6.2, 6.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    percent = PercentFormatter(1)
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.2, label="Calibrated")
    if before is not None:
        column = [[b[name] for b in before] for name in ("confidence", "accuracy")]
        marks: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "white"}
        upper.plot(*column, color="#98a2b3", linewidth=1.2, label="Before temperature", **marks)
    _bins(upper, bins)
    counts = sorted({b["count"] for b in bins})
    each = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    upper.text(
        0.985, 0.03, f"{len(bins)} bins of {each} images", color=MUTED, ha="right",
        transform=upper.transAxes,
    )  # fmt: skip
    upper.set(xlim=(0, 1.012), ylim=(0, 1.02), ylabel="Accuracy of the bin, 95% interval")
    upper.set_title(f"Reliability: ECE {ece:.1%} (calibrated: {floor:.1%} by chance)")
    upper.legend(loc="upper left")
    upper.yaxis.set_major_formatter(percent)
    lower.hist(confidences, np.linspace(0, 1, 41), color=BLUE, rwidth=0.86)
    mean = float(confidences.mean(dtype=np.float64))
    lower.axvline(mean, color=ORANGE, linewidth=1.4)
    lower.annotate(
        f"mean {mean:.1%}", (mean, 1), (-5, -3), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right", va="top", color=ORANGE,
    )  # fmt: skip
    lower.set(xlabel="Confidence: probability of the predicted class", ylabel="Images")
    lower.xaxis.set_major_formatter(percent)
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _bins(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Points with intervals, and a bar from the diagonal to each."""
    confidence = np.array([b["confidence"] for b in bins])
    accuracy = np.array([b["accuracy"] for b in bins])
    low, high = np.array([b["interval"] for b in bins]).T
    for over, colour, name in (
        (True, "#f3c6a5", "Overconfident by"),
        (False, SKY, "Underconfident by"),
    ):
        chosen = (confidence > accuracy) == over
        if chosen.any():
            ends = confidence[chosen], accuracy[chosen]
            wide: dict[str, Any] = {"linewidth": 7, "colors": colour, "alpha": 0.75}
            axes.vlines(confidence[chosen], *ends, label=name, **wide)
    axes.errorbar(
        confidence, accuracy, np.stack([accuracy - low, high - accuracy]), color=BLUE, fmt="o",
        markersize=5, elinewidth=1.3, capsize=2.5, label="Accuracy",
    )  # fmt: skip


@png
def selective(risk: np.ndarray, at_coverage: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy on the most confident images against their share.

    Args:
      risk: float [n], of ``selective.risk_coverage``.
      at_coverage: coverage, as text, to ``n accuracy confidence``.

    Returns:
      The PNG file's bytes.
    """
    n = len(risk)
    shares = np.arange(1, n + 1) / n
    wrong = round(float(risk[-1]) * n)
    best = 1 - (np.arange(1, n + 1) - (n - wrong)).clip(min=0) / np.arange(1, n + 1)
    figure = Figure(figsize=(6.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(shares, best, color=GREEN, linestyle=":", label="Every mistake put last")
    axes.axhline(1 - risk[-1], color=MUTED, linestyle="--", linewidth=1.2, label="Drawn by lot")
    axes.plot(shares, 1 - risk, color=BLUE, label="Least confident left out")
    for row in at_coverage.values():
        point = row["n"] / n, row["accuracy"]
        axes.plot(*point, "o", color=BLUE, markeredgecolor="white", markersize=8)
        axes.annotate(
            f"{row['accuracy']:.1%} of {point[0]:.0%}\n(p ≥ {row['confidence']:.2f})", point,
            (5, 4), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    lowest = min(float((1 - risk).min()), float(1 - risk[-1]))
    axes.set(xlim=(0, 1.1), ylim=(max(0.0, lowest - 0.12), 1.015))
    axes.set(xlabel="Share of the images that are answered", ylabel="Accuracy on those")
    axes.set_title("Leaving out the least confident")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower left")
    return figure


@png
def conformal(levels: Mapping[str, Mapping[str, Any]], shown: str) -> Figure:
    """The sizes of the sets by level, and the coverage of each class at one of them.

    Args:
      levels: level, as text, to ``coverage mean_size sizes coverage_per_class ...``.
      shown: the level whose classes are shown.

    Returns:
      The PNG file's bytes.
    """
    per_class = {k: v for k, v in levels[shown]["coverage_per_class"].items() if v is not None}
    height = 1.6 + 0.42 * len(levels) + 0.26 * min(len(per_class), 30)
    figure = Figure(figsize=(6.2, max(height, 4.6)), layout="constrained")
    ratios = [len(levels) + 0.5, 0.62 * min(len(per_class), 30) + 0.5]
    upper, lower = figure.subplots(2, 1, height_ratios=ratios)
    _sizes(upper, levels)
    places = np.arange(len(per_class))
    lower.hlines(places, 0, 1, color=GRID, linewidth=1)
    lower.plot(list(per_class.values()), places, "o", color=BLUE, markersize=6)
    lower.axvline(float(shown), color=INK, linestyle="--", linewidth=1.2)
    lower.axvline(levels[shown]["coverage"], color=ORANGE, linewidth=1.2)
    lower.set_yticks(places, [label(name) for name in per_class])
    lower.invert_yaxis()
    lower.set(xlim=(min([0.5, *per_class.values()]) - 0.02, 1.005))
    lower.set_title(f"Coverage by class at {float(shown):.0%} (orange: of all images)")
    lower.xaxis.set_major_formatter(PercentFormatter(1))
    lower.grid(visible=False)
    return figure


def _sizes(axes: Axes, levels: Mapping[str, Mapping[str, Any]]) -> None:
    names = [f"{float(level):.0%}" for level in levels]
    shares = np.array([np.array(row["sizes"]) / sum(row["sizes"]) for row in levels.values()])
    left = np.zeros(len(levels))
    for size, share in enumerate(shares.T):
        colour = "#f3c6a5" if size == 0 else BLUES(0.12 + 0.88 * size / (shares.shape[1] - 1))
        axes.barh(names, share, left=left, color=colour, edgecolor="white")
        for row in np.flatnonzero(share >= 0.045).tolist():
            ink = "white" if size > shares.shape[1] / 2 else INK
            centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
            axes.text(left[row] + share[row] / 2, row, str(size), color=ink, **centred)
        left += share
    for place, found in enumerate(levels.values()):
        axes.text(1.01, place, f"mean {found['mean_size']:.2f}", va="center", fontsize=8)
    axes.set(xlim=(0, 1.14), title="Classes in a set, by promised coverage")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    axes.grid(visible=False)
