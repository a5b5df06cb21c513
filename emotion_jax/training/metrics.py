"""Sums on the device, quotients on the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


class Sums(struct.PyTreeNode):
    """What accuracy, precision and recall are made of.

    Attributes:
      confusion: int32 [K, K], rows true, columns predicted.
      loss: float32, sum of the examples' losses.
    """

    confusion: jax.Array
    loss: jax.Array

    @classmethod
    def zeros(cls, classes: int) -> "Sums":
        """Nothing seen yet."""
        return cls(jnp.zeros((classes, classes), jnp.int32), jnp.zeros((), jnp.float32))

    @classmethod
    def of(cls, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> "Sums":
        """Sums over a batch.

        Args:
          logits: float [N, K].
          labels: int32 [N].
          losses: float32 [N].
          mask: bool [N]; False where a row is padding.
        """
        classes = logits.shape[-1]
        true = jax.nn.one_hot(labels, classes, dtype=jnp.float32) * mask[:, None]
        predicted = jax.nn.one_hot(logits.argmax(-1), classes, dtype=jnp.float32)
        # Counts below 2**24 are exact in float32, and a product of matrices is what devices do.
        confusion = jnp.matmul(true.T, predicted, precision="highest").astype(jnp.int32)
        return cls(confusion, jnp.sum(jnp.where(mask, losses, 0.0)))

    def __add__(self, other: "Sums") -> "Sums":
        return jax.tree.map(jnp.add, self, other)


def quotients(sums: Any) -> dict[str, float]:
    """Accuracy, macro precision, recall and F1 over the classes present, mean loss, and n.

    Args:
      sums: a ``Sums`` on the host (NumPy leaves) or on the device.

    Returns:
      ``accuracy precision recall f1 loss n``; a quotient of nothing is 0, as in scikit-learn with
      ``zero_division=0``.
    """
    confusion = np.asarray(sums.confusion, np.float64)
    n = confusion.sum()
    support, predicted, hits = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
    f1 = np.divide(2 * hits, support + predicted, out=np.zeros_like(hits), where=support > 0)
    present = support > 0
    macro = [float(values[present].mean()) if n else 0.0 for values in (precision, recall, f1)]
    return {
        "accuracy": float(hits.sum() / n) if n else 0.0,
        "precision": macro[0],
        "recall": macro[1],
        "f1": macro[2],
        "loss": float(np.asarray(sums.loss, np.float64) / n) if n else 0.0,
        "n": int(n),
    }
