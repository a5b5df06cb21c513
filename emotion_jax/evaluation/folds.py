"""The folds of a cross-validation as data sets that ``training.loop`` trains on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from emotion_jax.config import Config
from emotion_jax.data import near, splits, subjects
from emotion_jax.data.split import Dataset, Split, normalisation
from emotion_jax.errors import UserError

SEEDS = 2**32
REPEATED = 0.05  # of a fold's training images


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


def grouped(
    whole: Split, scheme: Scheme, progress: bool = False
) -> tuple[np.ndarray, dict[str, Any]]:
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
    That is left out where people are so few that it would repeat more than ``REPEATED``.

    Args:
      config: of the runs.
      whole: from ``dataset.load_whole``.
      groups: int [n], from ``grouped``.
      scheme: how.

    Raises:
      UserError: there are too few images or groups.
    """
    train = replace(whole.train, statistics=normalisation(whole.train))
    parts = list(_parts(config, train, groups, scheme))
    classes = len(whole.classes)
    counts = np.stack([np.bincount(train.labels[p.kept], minlength=classes) for p in parts])
    # By votes there are eight classes, whether an image shows them all or not.
    occur = np.flatnonzero(np.bincount(train.labels, minlength=classes))
    _check(parts, counts[:, occur], [whole.classes[i] for i in occur])
    missing = counts.max(axis=0) - counts
    if (missing.sum(axis=1) > REPEATED * counts.sum(axis=1)).any():
        missing = np.zeros_like(missing)
    return [
        _fold(config, whole, train, place, part, lacks)
        for place, (part, lacks) in enumerate(zip(parts, missing, strict=True))
    ]


class _Part(NamedTuple):
    """Rows of train: int64, sorted; repeat and number from 1."""

    repeat: int
    number: int
    kept: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


def _parts(config: Config, train: Split, groups: np.ndarray, scheme: Scheme) -> Iterator[_Part]:
    fraction, seed = config.data.validation_fraction, config.data.split_seed
    for repeat in range(scheme.repeats):
        fold_of = splits.folds(train.labels, groups, scheme.folds, seed, repeat)
        for number in range(scheme.folds):
            rest = np.flatnonzero(fold_of != number)
            kept, validation = splits.stratified(
                train.labels[rest], groups[rest].astype(np.uint64), fraction, seed
            )
            held_out = np.flatnonzero(fold_of == number)
            yield _Part(repeat + 1, number + 1, rest[kept], rest[validation], held_out)


def _check(parts: Sequence[_Part], counts: np.ndarray, classes: Sequence[str]) -> None:
    for part, of_class in zip(parts, counts, strict=True):
        if not of_class.all() or not len(part.validation):
            name = classes[int(np.argmin(of_class))]
            raise UserError(
                f"--folds: with fold {part.number} (repeat {part.repeat}) held out and "
                f"{len(part.validation)} images for validation, too few are left to train on "
                f"({name}: {of_class.min()}); use fewer folds, or give each class more images "
                "that need not stay together."
            )


def _fold(
    config: Config, whole: Dataset, train: Split, place: int, part: _Part, missing: np.ndarray
) -> Fold:
    rng = np.random.default_rng([config.data.split_seed, part.repeat, part.number])
    filled = np.sort(np.concatenate([part.kept, *_repeats(train.labels, part.kept, missing, rng)]))
    training = config.training
    seed = {"seed": (training.seed + place) % SEEDS}
    digest = hashlib.sha256(whole.fingerprint.encode())
    for rows in (filled, part.validation, part.held_out):
        digest.update(rows.astype("<i8").tobytes() + b"|")
    return Fold(
        repeat=part.repeat,
        number=part.number,
        config=config.model_copy(update={"training": training.model_copy(update=seed)}),
        data=replace(
            whole,
            fingerprint=digest.hexdigest(),
            problems=(),  # told once, of the whole
            train=train.subset("train", filled),
            validation=train.subset("val", part.validation),
        ),
        held_out=train.subset("fold", part.held_out),
        rows=part.held_out,
        repeated=len(filled) - len(part.kept),
    )


def _repeats(
    labels: np.ndarray, kept: np.ndarray, missing: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Of each class as many rows from ``kept`` as are missing, none twice while others are left."""
    drawn = []
    for label, count in enumerate(missing):
        own = rng.permutation(kept[labels[kept] == label])
        drawn.append(np.resize(own, count))
    return drawn
