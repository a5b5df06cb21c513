"""Splits: images and labels that can be indexed, in memory or on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emotion_jax.data import folder
from emotion_jax.errors import UserError

CHUNK = 4096

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Split:
    """Examples of one split, by number.

    Attributes:
      source: uint8 [N, H, W, C] in memory, or a random-access source on disk.
      rows: int64 [n], the examples of ``source`` that belong to this split.
      labels: int32 [n].
      hashes: uint64 [n], of the decoded images.
      paths: [n], relative to the data's root.
      soft: float32 [n, K], probabilities of the classes to learn from; None: the labels.
      votes: where the labels come from votes, the rule and what was left out.
      statistics: mean and standard deviation to normalise with; None: the split's own.
    """

    name: str
    source: Any
    rows: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    paths: tuple[str, ...]
    soft: np.ndarray | None = None
    votes: dict[str, Any] | None = None
    statistics: Statistics | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> np.ndarray:
        """What is learnt: int32 [n] or float32 [n, K]."""
        return self.labels if self.soft is None else self.soft

    @property
    def in_memory(self) -> bool:
        """Whether ``images`` costs no disk access."""
        return isinstance(self.source, np.ndarray)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The images of these numbers: uint8 [len(indices), H, W, C].

        Raises:
          UserError: the data cache is damaged.
        """
        rows = self.rows[indices]
        if self.in_memory:
            return self.source[rows]
        return _read(self.source, rows.tolist())

    def subset(self, name: str, indices: np.ndarray) -> "Split":
        """The examples of these numbers as a split of their own."""
        return replace(
            self,
            name=name,
            rows=self.rows[indices],
            labels=self.labels[indices],
            hashes=self.hashes[indices],
            paths=tuple(self.paths[i] for i in indices),
            soft=None if self.soft is None else self.soft[indices],
        )


@dataclass(frozen=True)
class Dataset:
    """What a run trains on and is measured by.

    Attributes:
      classes: in label order.
      fingerprint: SHA-256 hex of the content of all splits, wherever they lie.
      problems: files that were not usable.
      train, validation: cut from the train folder.
      test: None where there is no test folder.
    """

    classes: tuple[str, ...]
    fingerprint: str
    problems: tuple[folder.Problem, ...]
    train: Split
    validation: Split
    test: Split | None


def normalisation(split: Split) -> Statistics:
    """Mean and standard deviation of each channel over all pixels, in units of [0, 1]."""
    if split.statistics is not None:
        return split.statistics
    total = square = np.zeros(1)
    pixels = 0
    for start in range(0, len(split), CHUNK):
        batch = split.images(np.arange(start, min(start + CHUNK, len(split))))
        values = batch.reshape(-1, batch.shape[-1]).astype(np.float64) / 255.0
        total = total + values.sum(0)
        square = square + (values**2).sum(0)
        pixels += len(values)
    mean = total / pixels
    std = np.sqrt(np.maximum(square / pixels - mean**2, 1e-12))
    # Six digits are kept: what the checkpoint's JSON says is what the network computes with.
    return tuple(mean.round(6).tolist()), tuple(std.round(6).tolist())


def in_memory(source: Any, n: int) -> np.ndarray:
    """The n images of a source on disk: uint8 [n, H, W, C]."""
    images = np.empty((n, *source.dataset_info.features["image"].shape), np.uint8)
    for start in range(0, n, CHUNK):  # in place: joining chunks would take the memory twice
        stop = min(start + CHUNK, n)
        images[start:stop] = _read(source, range(start, stop))
    return images


def _read(source: Any, rows: Sequence[int]) -> np.ndarray:
    """Images of a source on disk, checked against ArrayRecord's checksums on the way."""
    try:
        return np.stack([record["image"] for record in source.__getitems__(rows)])
    except RuntimeError as error:
        where = source.dataset_info.data_dir
        reason = str(error).partition(" (")[0]
        raise UserError(
            f"The data cache is damaged: {where}: {reason}; delete that folder and run again."
        ) from None
