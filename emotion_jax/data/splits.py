"""The validation split and folds: stratified, seeded, identical images on one side."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from emotion_jax.errors import UserError

SEEN = 0.7  # of a group's images, when the folds of a repeat are chosen


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


def folds(
    labels: np.ndarray, groups: np.ndarray, count: int, seed: int, repeat: int = 0
) -> np.ndarray:
    """The fold that each image is held out in: int64 [n], from 0.

    A group is in one fold; the folds are about equal in size and in the classes' shares
    (scikit-learn's StratifiedGroupKFold).

    Args:
      labels: int [n].
      groups: int [n].
      count: of the folds, at least 2.
      seed: of the choice.
      repeat: from 0; each gives other folds.

    Raises:
      UserError: there are too few groups.
    """
    most = max(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    few = UserError(
        f"--folds: {len(labels)} images in {len(np.unique(groups))} groups that stay together "
        f"(at most {most} of a class) are too few for {count} folds; use fewer."
    )
    if count > most:
        raise few
    # scikit-learn shuffles groups of equal content alone, so people would come in the same folds
    # again. A repeat is chosen by the sight of a part of each group's images.
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    seen = np.random.default_rng([seed, repeat]).random(len(labels)) < (SEEN if repeat else 1.0)
    seen[first] = True
    rows = np.flatnonzero(seen)
    fold_of = np.zeros(len(first), np.int64)
    cut = StratifiedGroupKFold(count, shuffle=True, random_state=(seed + repeat) % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        try:
            parts = list(cut.split(rows, labels[rows], groups[rows]))
        except ValueError:  # scikit-learn's word for too few images of every class
            raise few from None
    for number, (_, held_out) in enumerate(parts):
        fold_of[group.reshape(-1)[rows[held_out]]] = number
    if not np.bincount(fold_of, minlength=count).all():
        raise few
    return fold_of[group.reshape(-1)]
