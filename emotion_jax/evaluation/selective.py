"""What is gained where a model may leave its least certain answers to a person."""

from typing import Any

import numpy as np

COVERAGES = (0.8, 0.9)


def compute(probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The selective-prediction part of a report, as plain values for JSON.

    Args:
      probs: float [n, C], n >= 1.
      labels: int [n].

    Returns:
      ``aurc`` (area under the risk-coverage curve: the mean risk over the n coverages; Geifman et
      al. 2019, arXiv:1805.08206), ``aurc_best`` (of an order that puts every mistake last) and
      ``at_coverage``: by coverage the ``accuracy`` on the ``n`` most confident images and the
      ``confidence`` of the least confident of them.
    """
    risk = risk_coverage(probs, labels)
    n = len(risk)
    confidence = -np.sort(-probs.max(axis=1).astype(np.float64))
    wrong = int((probs.argmax(axis=1) != labels).sum())
    best = (np.arange(1, n + 1) - (n - wrong)).clip(min=0) / np.arange(1, n + 1)
    answered = {coverage: max(1, round(coverage * n)) for coverage in COVERAGES}
    return {
        "aurc": float(risk.mean()),
        "aurc_best": float(best.mean()),
        "at_coverage": {
            f"{coverage:g}": {
                "n": count,
                "accuracy": 1 - float(risk[count - 1]),
                "confidence": float(confidence[count - 1]),
            }
            for coverage, count in answered.items()
        },
    }


def risk_coverage(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of wrong answers among the i + 1 most confident images: float64 [n].

    Equally confident images count with the mean of their mistakes, so that their order has no
    influence (El-Yaniv and Wiener 2010).

    Args:
      probs: float [n, C].
      labels: int [n].
    """
    _, group = np.unique(-probs.max(axis=1), return_inverse=True)
    wrong = (probs.argmax(axis=1) != labels).astype(np.float64)
    mean = np.bincount(group, weights=wrong) / np.bincount(group)
    # Groups are numbered by falling confidence.
    return np.cumsum(mean[np.sort(group)]) / np.arange(1, len(labels) + 1)
