"""Whether a model's probabilities mean what they say."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emotion_jax.evaluation import metrics

BINS = 15


def compute(
    probs: np.ndarray, labels: np.ndarray, classes: Sequence[str], scaled_by: float = 1.0
) -> dict[str, Any]:
    """The calibration part of a report, as plain values for JSON.

    Args:
      probs: float [n, C], n >= 1, rows sum to 1.
      labels: int [n].
      classes: C names.
      scaled_by: temperature of the probabilities; 1: none, or it cannot be undone.

    Returns:
      ``brier ece_floor classwise_ece classwise_ece_per_class`` (see the functions
      here), ``bins`` of the reliability diagram (``confidence accuracy interval count``) and
      ``before_temperature``: ``ece log_loss brier bins`` without the scaling, if there is any.
    """
    by_class = classwise_ece(probs, labels)
    before = None
    if scaled_by != 1.0:
        raw = unscaled(probs, scaled_by)
        before = {
            "ece": metrics.expected_calibration_error(raw, labels, BINS),
            "log_loss": metrics.log_loss(labels, raw),
            "brier": brier(raw, labels),
            "bins": plain(metrics.reliability_bins(raw, labels, BINS)),
        }
    return {
        "brier": brier(probs, labels),
        "ece_floor": ece_floor(probs),
        "classwise_ece": float(by_class.mean()),
        "classwise_ece_per_class": dict(zip(classes, by_class.tolist(), strict=True)),
        "bins": plain(metrics.reliability_bins(probs, labels, BINS)),
        "before_temperature": before,
    }


def brier(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the images of ``Σ_k (p_k - [k is the label])²``, 0 to 2 (Brier 1950).

    Args:
      probs: float [n, C], n >= 1.
      labels: int [n].
    """
    error = probs.astype(np.float64)
    error[np.arange(len(labels)), labels] -= 1
    return float(np.square(error).sum(axis=1).mean())


def classwise_ece(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Calibration error of each class's probability, over equal-mass bins: float64 [C].

    For class k, of the statement "the label is k" that is made with ``p_k`` on every image; the
    mean over the classes is the classwise ECE (Kull et al. 2019, arXiv:1910.12656).

    Args:
      probs: float [n, C], n >= 1.
      labels: int [n].
      bins: number of bins.
    """
    columns = (metrics.equal_mass_bins(p, labels == k, bins) for k, p in enumerate(probs.T))
    return np.array([metrics.calibration_error(table) for table in columns])


def ece_floor(probs: np.ndarray, bins: int = BINS) -> float:
    """The ECE to expect of a perfectly calibrated model, as its bins are finite.

    If every image is right with the probability of its confidence c_i, a bin's accuracy differs
    from its confidence by about a normal of variance ``Σ c_i (1 - c_i) / n_b²``, whose mean size is
    ``sqrt(2 / π)`` standard deviations: ``Σ_b sqrt(2 / π Σ_{i in b} c_i (1 - c_i)) / n``.

    Args:
      probs: float [n, C], n >= 1.
      bins: number of bins.
    """
    confidence = np.sort(probs.max(axis=1).astype(np.float64))
    spread = [(part * (1 - part)).sum() for part in np.array_split(confidence, bins)]
    return math.fsum(math.sqrt(2 / math.pi * max(s, 0.0)) for s in spread) / len(confidence)


def unscaled(probs: np.ndarray, temperature: float) -> np.ndarray:
    """What the probabilities were before they were scaled: ``softmax(T ln p)``, float64 [n, C]."""
    logs = temperature * np.log(probs.astype(np.float64).clip(np.finfo(np.float64).tiny))
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def plain(bins: Sequence[metrics.Bin]) -> list[dict[str, Any]]:
    """Bins as values for JSON."""
    return [
        {
            "confidence": b.confidence,
            "accuracy": b.accuracy,
            "interval": list(b.interval),
            "count": b.count,
        }
        for b in bins
    ]
