"""Two models on the same images: is one better, and by how much?"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binom

ROUNDS = 2000
SEED = 0


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> tuple[int, int, float]:
    """McNemar's test on which images each model gets right.

    The mid-p version: exact for few images, and not as timid as the exact one (Fagerland, Lydersen
    and Laake 2013, BMC Medical Research Methodology 13:91).

    Args:
      first_right, second_right: bool [n].

    Returns:
      Images that only the first gets right, that only the second does, and the two-sided p: how
      likely so uneven a share of them would be if both were as good.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((~first_right & second_right).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 0, 0, 1.0
    tail = 2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5)
    return only_first, only_second, float(min(tail, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979); each stays at its place."""
    order = np.argsort(p_values)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def bootstrap(
    metric: Callable[[np.ndarray], float], n: int, rounds: int = ROUNDS, seed: int = SEED
) -> tuple[float, float]:
    """95% percentile interval of ``metric`` over images drawn with replacement (Efron 1979).

    Args:
      metric: of the images of these numbers, int64 [n].
      n: how many there are.
      rounds: draws.
      seed: of them.
    """
    rng = np.random.default_rng(seed)
    values = [metric(rng.integers(0, n, n)) for _ in range(rounds)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean F1 over the classes that occur in ``labels``; quick enough for a bootstrap."""
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    support = np.bincount(labels, minlength=classes)
    total = support + np.bincount(predicted, minlength=classes)
    present = support > 0
    return float((2 * hits[present] / total[present]).mean())
