"""FER+: ten annotators' votes an image in place of one label.

Barsoum et al. 2016 (arXiv:1608.01041), with the rules of the code that came with it.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from emotion_jax.data.fer2013 import SPLITS
from emotion_jax.errors import UserError, listed

# Column of the file -> class.
EMOTIONS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contempt",
}
COLUMNS = (*EMOTIONS, "unknown", "not_face")
# What two of them are called in FER+'s own file, fer2013new.csv.
NAMES = {"Image name": "image", "NF": "not_face"}
CLASSES = tuple(sorted(EMOTIONS.values()))
RULE = "FER+ majority: single votes dropped, then more than half of the votes"
MOST = 3  # emotions that an image may show


def majority(votes: Sequence[int]) -> str | None:
    """The class of more than half of the votes, single votes not counted.

    Args:
      votes: ten counts, in the order of ``COLUMNS``.

    Returns:
      A class, "unknown" or "not_face"; None if there is no majority.
    """
    counted = _counted(votes)
    best = max(counted)
    if 2 * best <= sum(counted):
        return None
    column = COLUMNS[counted.index(best)]
    return EMOTIONS.get(column, column)


def distribution(votes: Sequence[int]) -> np.ndarray | None:
    """The share of each class in the votes, of the few that most of them are for.

    Single votes are dropped. Emotions are taken from the most voted down until three quarters of
    the votes are; "unknown" and "not_face" end that.

    Args:
      votes: ten counts, in the order of ``COLUMNS``.

    Returns:
      float32 [8] in the order of ``CLASSES``, sum 1; None where the votes tell too little: half of
      them or fewer are taken, more than three emotions are, or it is no emotion that leads.
    """
    counted = np.array(_counted(votes))
    emotions, others = np.split(counted, [len(EMOTIONS)])
    total, taken = counted.sum(), np.zeros(len(EMOTIONS))
    for count in np.unique(counted)[::-1]:  # those of equal votes are taken together
        if taken.sum() >= 0.75 * total or np.count_nonzero(taken) >= MOST:
            break
        taken[emotions == count] = count
        if count in others:
            break
    if 2 * taken.sum() <= total or np.count_nonzero(taken) > MOST:
        return None
    by_class = dict(zip(EMOTIONS.values(), taken / taken.sum(), strict=True))
    return np.array([by_class[name] for name in CLASSES], np.float32)


def _counted(votes: Sequence[int]) -> list[int]:
    return [count if count > 1 else 0 for count in votes]


class Table(NamedTuple):
    """A file of votes.

    Attributes:
      votes: file stem of an image, or its split and stem with a slash between -> ten counts, in
        the order of ``COLUMNS``.
      digest: SHA-256 hex of the file.
    """

    votes: dict[str, tuple[int, ...]]
    digest: str

    def of(self, path: str) -> tuple[int, ...] | None:
        """The votes on the image at ``path``; None where it has no row."""
        split, stem = PurePosixPath(path).parts[0], PurePosixPath(path).stem
        return self.votes.get(stem) or self.votes.get(f"{split}/{stem}")

    def of_each(self, paths: Sequence[str]) -> list[tuple[int, ...] | None]:
        """The votes on the images of a split.

        Raises:
          UserError: images that have a row are called the same.
        """
        found = [self.of(path) for path in paths]
        by_stem: dict[str, str] = {}
        for path, counts in zip(paths, found, strict=True):
            other = by_stem.setdefault(PurePosixPath(path).stem, path)
            if counts is not None and other != path:
                raise UserError(
                    f"The votes know images by their names, and {other} and {path} are called the "
                    "same; use the names of the table, or fer2013.csv itself."
                )
        return found


def read(path: Path) -> Table:
    """Read a file of votes, or FER+'s own, ``fer2013new.csv``.

    The rows of that one are those of ``fer2013.csv``, so each is found by its split and number, as
    the images of that table are called (``fer2013.write_tree``), and by the name that it may give.

    Raises:
      UserError: the file cannot be read, or has other columns.
    """
    try:
        data = path.read_bytes()
        rows = csv.DictReader(data.decode("utf-8-sig").splitlines())
        given = list(rows.fieldnames or ())
        rows.fieldnames = [NAMES.get(name, name) for name in given]
        if missing := {"image", *COLUMNS} - set(rows.fieldnames):
            raise UserError(
                f"{path} has no column {listed(sorted(missing))}; see docs/accuracy.md."
            )
        own = "Image name" in given
        table: dict[str, tuple[int, ...]] = {}
        for number, row in enumerate(rows):
            name = row["image"]
            numbered = f"{SPLITS.get(row.get('Usage', ''), '')}/{number:05d}"
            names = (numbered, PurePosixPath(name).stem) if own else (name,)
            table |= dict.fromkeys(names, tuple(int(row[column]) for column in COLUMNS))
        return Table(table, sha256(data).hexdigest())
    except OSError as error:
        raise UserError(f"Cannot read the votes {path}: {error.strerror}.") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"The votes {path} are not a table of whole numbers: {error}.") from None


def majorities(
    table: Table, paths: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The labels of images by majority.

    Args:
      table: the votes.
      paths: of the images.
      classes: in label order; images of others are left out.

    Returns:
      The numbers of the images that have a label, int64 [m]; their labels, int32 [m]; and, for the
      protocol, the rule and how many were left out by reason.

    Raises:
      UserError: images are called the same.
    """
    votes = table.of_each(paths)
    chosen = ["no row" if counts is None else majority(counts) for counts in votes]
    kept = [i for i, name in enumerate(chosen) if name in classes]
    labels = np.array([classes.index(str(chosen[i])) for i in kept], np.int32)
    left_out = Counter(name or "no majority" for name in chosen if name not in classes)
    return np.array(kept, int), labels, {"rule": RULE, "left_out": dict(sorted(left_out.items()))}


def distributions(table: Table, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The distributions of images.

    Returns:
      The numbers of the images that have one, int64 [m], and float32 [m, 8].

    Raises:
      UserError: images are called the same.
    """
    found = [None if votes is None else distribution(votes) for votes in table.of_each(paths)]
    kept = [i for i, shares in enumerate(found) if shares is not None]
    return np.array(kept, int), np.array([found[i] for i in kept], np.float32).reshape(-1, 8)
