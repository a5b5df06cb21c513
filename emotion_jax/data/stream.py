"""Which examples make up a batch: a pure function of (seed, step), shared by both pipelines."""

from functools import lru_cache
from typing import Protocol

import numpy as np

from emotion_jax.errors import UserError


class Examples(Protocol):
    """Random access to n labelled images."""

    @property
    def labels(self) -> np.ndarray:
        """int32 [n]."""

    @property
    def targets(self) -> np.ndarray:
        """What is learnt: labels, int32 [n], or probabilities of the classes, float32 [n, K]."""

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), H, W, C]."""


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Full batches in n examples; the last partial batch of an epoch is dropped.

    Raises:
      UserError: there is not one.
    """
    if batch_size > n:
        raise UserError(
            f"training.batch_size: {batch_size} images do not fit the {n} of the train split; "
            f"use at most {n}."
        )
    return n // batch_size


def batch_indices(seed: int, step: int, n: int, batch_size: int) -> np.ndarray:
    """Examples of the batch of ``step`` (from 0): int32 [batch_size], none twice in an epoch."""
    epoch, place = divmod(step, n // batch_size)
    return _permutation(seed, epoch, n)[place * batch_size : (place + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    order = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int32)
    order.flags.writeable = False
    return order
