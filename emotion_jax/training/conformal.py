"""Sets of classes that hold the true one with a chosen probability: split conformal prediction.

The least ambiguous sets (LAC: Sadinle, Lei and Wasserman 2019, arXiv:1609.00451): all classes whose
probability reaches one threshold, taken from images that the network was not trained on. If those
and new images come from the same source, the share of sets with the true class is at least the
level, whatever the network (Vovk et al. 2005). It is a mean over all images: a rare class can be
covered less.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

LEVELS = (0.8, 0.9, 0.95)


def fit_thresholds(
    probs: np.ndarray, labels: np.ndarray, levels: Sequence[float] = LEVELS
) -> dict[str, Any]:
    """The least probability that a class needs to be in the set, by level.

    With the n probabilities of the true classes in rising order it is the
    ``n + 1 - ceil((n + 1) level)``-th of them; 0, so every class, if there is none.

    Args:
      probs: float [n, C] of a split that the network was not trained on, temperature included.
      labels: int [n].
      levels: shares of the sets that are to hold the true class.

    Returns:
      ``n`` and ``thresholds`` (level, as text, to probability), plain values for JSON.
    """
    n = len(labels)
    own = np.sort(probs[np.arange(n), labels].astype(np.float64))

    def threshold(level: float) -> float:
        # 1e-9: (n + 1) level may be a whole number that rounding has put a hair above.
        place = n + 1 - math.ceil((n + 1) * level - 1e-9)
        return float(own[place - 1]) if place >= 1 else 0.0

    return {"n": n, "thresholds": {f"{level:g}": threshold(level) for level in levels}}


def prediction_sets(probs: np.ndarray, threshold: float) -> np.ndarray:
    """Which classes are in the set of each image: bool [n, C].

    A set can be empty: no class is as probable as the true ones of that share of images are.

    Args:
      probs: float [n, C], temperature included.
      threshold: of ``fit_thresholds``.
    """
    return probs >= threshold
