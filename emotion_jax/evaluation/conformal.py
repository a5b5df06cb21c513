"""Whether sets of classes hold the true one as often as they promise."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emotion_jax.evaluation.metrics import wilson_interval
from emotion_jax.training.conformal import prediction_sets


def compute(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str], fitted: Mapping[str, Any]
) -> dict[str, Any]:
    """The conformal part of a report, as plain values for JSON.

    Args:
      probs: float [n, C], n >= 1.
      labels: int [n].
      classes: C names.
      fitted: ``conformal.fit_thresholds`` on other images.

    Returns:
      ``method``, ``calibrated_on`` (images that the thresholds are from) and ``levels``: by level
      the ``threshold``, the ``coverage`` (share of the sets that hold the true class) with its 95%
      Wilson ``interval``, ``coverage_per_class`` (None for a class that is not in the data),
      ``mean_size`` and ``sizes`` (number of sets with 0, 1, ... C classes).
    """
    return {
        "method": "LAC, split conformal",
        "calibrated_on": fitted["n"],
        "levels": {
            level: _level(prediction_sets(probs, threshold), labels, classes, threshold)
            for level, threshold in fitted["thresholds"].items()
        },
    }


def _level(
    sets: np.ndarray, labels: np.ndarray, classes: Sequence[str], threshold: float
) -> dict[str, Any]:
    n = len(labels)
    hit, size = sets[np.arange(n), labels], sets.sum(axis=1)
    per_class = {
        name: float(hit[labels == k].mean()) if (labels == k).any() else None
        for k, name in enumerate(classes)
    }
    return {
        "threshold": threshold,
        "coverage": float(hit.mean()),
        "interval": list(wilson_interval(int(hit.sum()), n)),
        "coverage_per_class": per_class,
        "mean_size": float(size.mean()),
        "sizes": np.bincount(size, minlength=len(classes) + 1).tolist(),
    }
