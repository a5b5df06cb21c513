"""The one number by which a finished network's confidence is corrected."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from emotion_jax.errors import UserError

LOWEST, HIGHEST = 0.05, 20.0  # what a fit can mean; beyond it the split is too small to say


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which ``softmax(logits / T)`` has the least log loss.

    Guo et al. 2017 (arXiv:1706.04599, section 4.2). The mean loss is convex in 1/T, so the zero of
    its slope ``mean(Σ_k p_k z_k - z_label)`` is found by Brent's method. The most probable class of
    no image changes, nor does accuracy.

    Args:
      logits: float [n, K], or log-probabilities, which are logits as well; of a split that the
        network was not trained on.
      labels: int [n], in [0, K).

    Returns:
      T in [0.05, 20], or 1 where the best lies beyond: every image is right, or too many are
      wrong, so that the split cannot tell. The loss is never above that at T = 1.

    Raises:
      UserError: there is no image, or a logit is not finite.
    """
    if not len(labels):
        raise UserError("There is no image to fit a temperature on; use a validation split.")
    z = np.asarray(logits, np.float64)
    if not np.isfinite(z).all():
        raise UserError("The logits are not all finite; no temperature can be fitted on them.")
    z = z - z.max(axis=1, keepdims=True)  # changes no probability, and keeps the sums exact
    own = z[np.arange(len(labels)), labels]

    def slope(beta: float) -> float:
        return float(((softmax(beta * z, axis=1) * z).sum(axis=1) - own).mean())

    def loss(temperature: float) -> float:
        return -float(log_softmax(z / temperature, axis=1)[np.arange(len(labels)), labels].mean())

    least, most = 1 / HIGHEST, 1 / LOWEST
    if slope(least) >= 0 or slope(most) <= 0:
        return 1.0
    best = 1 / float(brentq(slope, least, most))
    return best if loss(best) < loss(1.0) else 1.0
