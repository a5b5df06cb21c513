"""The folds of a cross-validation as data sets that ``training.loop`` trains on."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emotion_jax.config import Config
from emotion_jax.data import near, splits, subjects
from emotion_jax.data.dataset import Dataset, Split, normalisation
from emotion_jax.errors import UserError

SEEDS = 2**32


@dataclass(frozen=True)
class Scheme:
    """How train is cut into folds.

    Attributes:
      folds: at least 2.
      repeats: of the whole, each with other folds.
      groups: see ``subjects.subjects``; None: nothing is known of who is shown.
      near: largest distance of near-duplicates, bits; -1: they are not looked for.
    """

    folds: int = 5
    repeats: int = 1
    groups: str | None = None
    near: int = near.DISTANCE

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UserError(f"--folds is {self.folds}; use at least 2.")
        if self.repeats < 1:
            raise UserError(f"--repeats is {self.repeats}; use at least 1.")
        if not -1 <= self.near <= 64:
            raise UserError(f"--near is {self.near}; use 0 to 64, or -1 for none.")


@dataclass(frozen=True)
class Fold:
    """One training run and the images that it is measured by.

    Attributes:
      repeat, number: from 1.
      config: of the run, with a seed of its own.
      data: what it trains on and chooses its checkpoint by.
      held_out: the rest of train.
      rows: int64 [n], the place of the held-out images in train.
      repeated: images of ``data.train`` that are in it twice.
    """

    repeat: int
    number: int
    config: Config
    data: Dataset
    held_out: Split
    rows: np.ndarray
    repeated: int

    @property
    def name(self) -> str:
        """Of its workdir."""
        return f"fold-{self.repeat}-{self.number}"


def grouped(whole: Split, scheme: Scheme, progress: bool = False) -> tuple[np.ndarray, dict]:
    """Which images stay on one side: group numbers int64 [n], and counts for the report.

    Raises:
      UserError: ``scheme.groups`` does not give every image a subject.
    """
    labels: list[Any] = [whole.hashes]
    if scheme.groups is not None:
        labels.append(subjects.subjects(scheme.groups, whole.paths))
    first = np.sort(np.unique(whole.hashes, return_index=True)[1])
    pairs = np.zeros((0, 2), np.int64)
    if scheme.near >= 0:
        different = whole.subset(whole.name, first)
        pairs = first[near.near_pairs(different, scheme.near, progress=progress)]
    groups = near.joined(len(whole), pairs, *labels)
    return groups, {
        "groups": int(groups.max()) + 1,
        "largest": int(np.bincount(groups).max()),
        "identical": len(whole) - len(first),
        "near_pairs": len(pairs),
        "near_distance": scheme.near if scheme.near >= 0 else None,
        "subjects": len(set(labels[1])) if scheme.groups is not None else None,
    }


def cut(config: Config, whole: Dataset, groups: np.ndarray, scheme: Scheme) -> list[Fold]:
    """All folds of all repeats, in order.

    Their runs differ in what they see and in their seed, not in anything that the compiled
    program depends on. All normalise by the mean and standard deviation of all of train, two
    numbers a channel without labels; and where a fold has fewer training images of a class than
    another one, some of its own are in it twice, so that all have the same number of each class.

    Args:
      config: of the runs.
      whole: from ``dataset.load_whole``.
      groups: int [n], from ``grouped``.
      scheme: how.

    Raises:
      UserError: there are too few images or groups.
    """
    seed, count = config.data.split_seed, scheme.folds
    train = replace(whole.train, statistics=normalisation(whole.train))
    parts = []
    for repeat in range(scheme.repeats):
        fold_of = splits.folds(train.labels, groups, count, seed + repeat)
        for number in range(count):
            rest, rows = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
            kept, validation = splits.stratified(
                train.labels[rest],
                groups[rest].astype(np.uint64),
                config.data.validation_fraction,
                seed,
            )
            parts.append((repeat, number, rest[kept], rest[validation], rows))
    counts = np.stack([_counts(train.labels[part[2]], whole) for part in parts])
    if not counts.all() or not all(len(part[3]) for part in parts):
        repeat, number = parts[int(np.argmin(counts.min(axis=1)))][:2]
        name = whole.classes[int(np.argmin(counts.min(axis=0)))]
        raise UserError(
            f"--folds: with fold {number + 1} (repeat {repeat + 1}) held out, and a validation "
            f"split, too few images are left to train on ({name}: {counts.min()}); use fewer "
            "folds, or give each class more images that may be parted."
        )
    return [
        _fold(config, whole, train, count, part, counts.max(axis=0)) for part in parts
    ]


def _fold(
    config: Config, whole: Dataset, train: Split, count: int, part: Any, target: np.ndarray
) -> Fold:
    repeat, number, kept, validation, rows = part
    rng = np.random.default_rng([config.data.split_seed, repeat, number])
    filled = np.sort(np.concatenate([kept, *_repeats(train.labels, kept, target, rng)]))
    training = config.training
    seed = (training.seed + repeat * count + number) % SEEDS
    config = config.model_copy(update={"training": training.model_copy(update={"seed": seed})})
    digest = hashlib.sha256(whole.fingerprint.encode())
    for indices in (filled, validation, rows):
        digest.update(np.asarray(indices, "<i8").tobytes() + b"|")
    return Fold(
        repeat=repeat + 1,
        number=number + 1,
        config=config,
        data=replace(
            whole,
            fingerprint=digest.hexdigest(),
            train=train.subset("train", filled),
            validation=train.subset("val", validation),
        ),
        held_out=train.subset("fold", rows),
        rows=rows,
        repeated=len(filled) - len(kept),
    )


def _repeats(
    labels: np.ndarray, kept: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Of each class, rows from ``kept`` that make up what it lacks to ``target``."""
    drawn = []
    for label, wanted in enumerate(target):
        own = kept[labels[kept] == label]
        missing = wanted - len(own)
        drawn.append(rng.choice(own, missing, replace=missing > len(own)))
    return drawn


def _counts(labels: np.ndarray, whole: Dataset) -> np.ndarray:
    return np.bincount(labels, minlength=len(whole.classes))
