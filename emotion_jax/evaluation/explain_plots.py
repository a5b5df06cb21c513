"""Pictures of where a network looks."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from emotion_jax.evaluation.plots import INK, MUTED, label, png

COLUMNS = 5


@png
def by_class(faces: np.ndarray, heats: Sequence[np.ndarray], classes: Sequence[str]) -> Figure:
    """A column a class: the mean face, and over it the mean of each kind of heat.

    Args:
      faces: float [K, S, S], mean grey pictures in [0, 255]; NaN for a class without images.
      heats: Grad-CAM and occlusion, each float [K, S, S].
      classes: K names.

    Returns:
      The PNG file's bytes.
    """
    names = ("mean face", "Grad-CAM", "occlusion")
    figure = Figure(figsize=(1.55 * len(classes) + 0.6, 5.4), layout="constrained")
    panels = figure.subplots(3, len(classes), squeeze=False)
    for k, name in enumerate(classes):
        panels[0, k].set_title(label(name), fontsize=10)
        for row, axes in enumerate(panels[:, k]):
            axes.axis("off")
            if np.isnan(faces[k]).any():
                continue
            axes.imshow(faces[k], cmap="gray", vmin=0, vmax=255)
            if row:
                heat = heats[row - 1][k]
                axes.imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=max(heat.max(), 1e-9))
    for row, name in enumerate(names):
        panels[row, 0].text(-0.12, 0.5, name, transform=panels[row, 0].transAxes, rotation=90,
                            va="center", ha="right", color=MUTED, fontsize=9)  # fmt: skip
    return figure


@png
def mistakes(
    faces: np.ndarray, heats: np.ndarray, captions: Sequence[tuple[str, str, float]]
) -> Figure:
    """The surest mistakes, each as the picture and with what spoke for the wrong answer.

    Args:
      faces: uint8 [n, S, S] grey.
      heats: float [n, S, S].
      captions: true class, answer and its probability, of each.

    Returns:
      The PNG file's bytes.
    """
    rows = max(1, math.ceil(len(faces) / COLUMNS))
    figure = Figure(figsize=(11.2, 1.65 * rows + 0.2), layout="constrained")
    panels = figure.subplots(rows, 2 * COLUMNS, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for i, (true, answer, p) in enumerate(captions):
        plain, hot = panels[i // COLUMNS, 2 * (i % COLUMNS) : 2 * (i % COLUMNS) + 2]
        for axes in (plain, hot):
            axes.imshow(faces[i], cmap="gray", vmin=0, vmax=255)
        hot.imshow(heats[i], cmap="inferno", alpha=0.5, vmin=0, vmax=1)
        plain.set_title(f"is {label(true)}", fontsize=8, color=INK)
        hot.set_title(f"{label(answer)} {p:.0%}", fontsize=8, color="#D55E00")
    return figure
