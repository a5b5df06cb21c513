"""The validation split: stratified, seeded, identical images on one side."""

import numpy as np


def stratified(
    labels: np.ndarray, hashes: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut row numbers into (train, validation).

    Images with equal hashes go to the same side, whatever their labels; such a group counts for
    the class of its first image. A class gives about ``fraction`` of its groups to validation, at
    least one where it has two or more.

    Args:
      labels: int [n].
      hashes: uint64 [n] of the decoded images.
      fraction: share of validation, in (0, 1).
      seed: of the choice.

    Returns:
      Two sorted int64 arrays that partition range(n).
    """
    unique, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(unique), bool)
    for label in np.unique(labels):
        # In order of first appearance, so that the choice hangs on the images' order alone.
        members = np.flatnonzero(labels[first] == label)
        members = members[np.argsort(first[members])]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    validation = held_out[group.reshape(-1)]
    return np.flatnonzero(~validation), np.flatnonzero(validation)
