"""What a set of predictions is worth: from labels and probabilities to the numbers of a report."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from emotion_jax.errors import UserError


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    Attributes:
      confidence: mean probability of the predicted class.
      accuracy: share of the predictions that are right.
      count: number of images, at least 1.
    """

    confidence: float
    accuracy: float
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy."""
        return wilson_interval(round(self.accuracy * self.count), self.count)


def compute(
    labels: np.ndarray,
    probs: np.ndarray,
    classes: Sequence[str],
    train_hashes: np.ndarray | None = None,
    hashes: np.ndarray | None = None,
) -> dict[str, Any]:
    """All metrics of a report, as plain values for JSON. The first maximum is the prediction.

    Args:
      labels: int [n], indices into ``classes``.
      probs: float32 or float64 [n, C], rows sum to 1.
      classes: C distinct names.
      train_hashes: uint64, hashes of the training images; None: not known.
      hashes: uint64 [n], hashes of these images; None: not known.

    Returns:
      ``n classes accuracy accuracy_interval`` (95% Wilson) ``precision recall f1`` (macro over the
      classes present in ``labels``; a quotient of nothing is 0) ``keras_precision keras_recall``
      (see ``keras_precision_recall``) ``log_loss`` (nats; probabilities are clipped by the epsilon
      of their type, as in scikit-learn) ``ece per_class confusion_matrix`` (rows true, columns
      predicted) and ``deduplicated``: ``n accuracy f1`` of the images that are not in train
      (accuracy and f1 None if none is left; all of it None if hashes are not known).

    Raises:
      UserError: there are no images, or a probability is not a number.
    """
    n = len(labels)
    if n == 0:
        raise UserError("There is no image to evaluate.")
    if not np.isfinite(probs).all():
        raise UserError("The model's probabilities are not all finite; the checkpoint is unusable.")
    predicted = probs.argmax(axis=1)
    correct = int((predicted == labels).sum())
    keras_precision, keras_recall = keras_precision_recall(labels, probs)
    per_class = _per_class(labels, predicted, len(classes))
    macro = per_class[per_class[:, 3] > 0].mean(axis=0)
    return {
        "n": n,
        "classes": list(classes),
        "accuracy": correct / n,
        "accuracy_interval": list(wilson_interval(correct, n)),
        "precision": float(macro[0]),
        "recall": float(macro[1]),
        "f1": float(macro[2]),
        "keras_precision": keras_precision,
        "keras_recall": keras_recall,
        "log_loss": log_loss(labels, probs),
        "ece": expected_calibration_error(probs, labels),
        "per_class": {
            name: {"precision": p, "recall": r, "f1": f, "support": int(support)}
            for name, (p, r, f, support) in zip(classes, per_class.tolist(), strict=True)
        },
        "confusion_matrix": _confusion(labels, predicted, len(classes)).tolist(),
        "deduplicated": _deduplicated(labels, predicted, len(classes), train_hashes, hashes),
    }


def wilson_interval(correct: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a proportion (Wilson 1927, the score interval).

    ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`` with ``p = correct / n``.

    Args:
      correct: successes.
      n: trials; with none, nothing is known: (0, 1).
      z: quantile of the normal distribution; 1.959964 for 95%.

    Returns:
      Lower and upper end, within [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    p, scale = correct / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # At the ends one bound is exact; rounding would put it a hair inside.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


def keras_precision_recall(labels: np.ndarray, probs: np.ndarray) -> tuple[float, float]:
    """What Keras' ``Precision()`` and ``Recall()`` give for a softmax and one-hot labels.

    All n * C outputs are binary decisions ``p >= 0.5`` and are counted together, so an image whose
    top probability is below one half counts as no prediction. (Keras itself compares with ``>``;
    that differs where a probability is 0.5 to the last bit.)

    Args:
      labels: int [n].
      probs: float [n, C].

    Returns:
      Precision (0 if no output reaches one half) and recall.
    """
    positive = probs >= 0.5
    hits = int(positive[np.arange(len(labels)), labels].sum())
    return hits / max(int(positive.sum()), 1), hits / len(labels)


def expected_calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top probability over equal-mass bins.

    ``ECE = Σ_b (n_b / n) |accuracy_b - confidence_b|`` (Naeini et al. 2015; equal mass: Nguyen and
    O'Connor 2015) over ``reliability_bins``.

    Args:
      probs: float [n, C], n >= 1.
      labels: int [n].
      bins: number of bins.

    Returns:
      0 (calibrated) to 1.
    """
    return calibration_error(reliability_bins(probs, labels, bins))


def calibration_error(table: Sequence[Bin]) -> float:
    """``Σ_b (n_b / n) |accuracy_b - confidence_b|``, 0 to 1."""
    total = math.fsum(abs(b.accuracy - b.confidence) * b.count for b in table)
    return total / sum(b.count for b in table)


def reliability_bins(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[Bin]:
    """``equal_mass_bins`` of the probability of the predicted class.

    Args:
      probs: float [n, C].
      labels: int [n].
      bins: number of bins.
    """
    return equal_mass_bins(probs.max(axis=1), probs.argmax(axis=1) == labels, bins)


def equal_mass_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> list[Bin]:
    """Group images by confidence, with equal counts.

    The bins are those of ``np.array_split`` over the sorted confidences, but for ties: equal
    confidences share the bin of the first of them, so the order of the images has no influence.

    Args:
      confidence: float [n], probability of some statement about each image.
      correct: bool [n], whether it holds.
      bins: number of bins; those that are left empty are dropped.

    Returns:
      Bins by rising confidence; their counts add up to n.
    """
    confidence = confidence.astype(np.float64)
    n = len(confidence)
    rank = np.searchsorted(np.sort(confidence), confidence, side="left")
    ends = np.cumsum(n // bins + (np.arange(bins) < n % bins))
    index = np.searchsorted(ends, rank, side="right")
    # fsum is exact, so the order of the images has no influence on the last bit either.
    return [
        Bin(math.fsum(confidence[member]) / count, int(correct[member].sum()) / count, count)
        for member in (index == b for b in range(bins))
        if (count := int(member.sum()))
    ]


def _per_class(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Precision, recall, F1 and support of each class: float64 [C, 4]."""
    with warnings.catch_warnings():
        # scikit-learn takes few images of many classes for a regression.
        warnings.filterwarnings("ignore", "The number of unique classes")
        columns = precision_recall_fscore_support(
            labels, predicted, labels=np.arange(classes), zero_division=0
        )
    return np.stack(columns, axis=1).astype(np.float64)


def _confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    cell = labels.astype(np.int64) * classes + predicted
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the images of ``-log p`` of the label, p no nearer to 0 than its type tells from 1.

    Args:
      labels: int [n].
      probs: float [n, C].
    """
    epsilon = np.finfo(probs.dtype).eps
    likelihood = probs[np.arange(len(labels)), labels].clip(epsilon, 1 - epsilon)
    return float(-np.log(likelihood.astype(np.float64)).mean())


def _deduplicated(
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    train_hashes: np.ndarray | None,
    hashes: np.ndarray | None,
) -> dict[str, Any] | None:
    if train_hashes is None or hashes is None:
        return None
    new = ~np.isin(hashes, train_hashes, kind="sort")
    if not new.any():
        return {"n": 0, "accuracy": None, "f1": None}
    labels, predicted = labels[new], predicted[new]
    table = _per_class(labels, predicted, classes)
    return {
        "n": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "f1": float(table[table[:, 3] > 0, 2].mean()),
    }
