"""What makes a finished network's confidence mean what it says, fitted on the validation split."""

from typing import Any

import numpy as np
from scipy.special import softmax

from emotion_jax.training.conformal import fit_thresholds
from emotion_jax.training.temperature import fit_temperature


def fit(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """``temperature`` and, of the probabilities that it gives, ``conformal`` thresholds.

    Args:
      logits: float [n, K], or log-probabilities, of images that the network was not trained on.
      labels: int [n].

    Returns:
      Plain values for JSON.
    """
    temperature = fit_temperature(logits, labels)
    probs = softmax(logits.astype(np.float64) / temperature, axis=1)
    return {"temperature": temperature, "conformal": fit_thresholds(probs, labels)}
