"""FER+: ten annotators' votes an image in place of one label (Barsoum et al. 2016)."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from emotion_jax.data.dataset import Split
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
RULE = "FER+ majority: single votes dropped, then more than half of the votes"


def majority(votes: Sequence[int]) -> str | None:
    """The class of more than half of the votes, single votes not counted.

    Args:
      votes: ten counts, in the order of ``COLUMNS``.

    Returns:
      A class, "unknown" or "not_face"; None if there is no majority.
    """
    counted = [count if count > 1 else 0 for count in votes]
    best = max(counted)
    if 2 * best <= sum(counted):
        return None
    column = COLUMNS[counted.index(best)]
    return EMOTIONS.get(column, column)


def read(path: Path) -> dict[str, str | None]:
    """File stem of an image -> its majority.

    Raises:
      UserError: the file cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if missing := {"image", *COLUMNS} - set(rows.fieldnames or ()):
                raise UserError(f"{path} has no column {listed(sorted(missing))}; see README.md.")
            return {row["image"]: majority([int(row[name]) for name in COLUMNS]) for row in rows}
    except OSError as error:
        raise UserError(f"Cannot read the votes {path}: {error.strerror}.") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"The votes {path} are not a table of whole numbers: {error}.") from None


def relabel(split: Split, path: Path, classes: Sequence[str]) -> tuple[Split, dict[str, Any]]:
    """Replace the labels by the majority of the votes; images without a usable one are left out.

    Args:
      split: its file stems are the images of the table.
      path: ``image`` and ``COLUMNS``.
      classes: of the model.

    Returns:
      The split and, for the protocol, the rule and how many were left out by reason.

    Raises:
      UserError: the table cannot be read, or no image is left.
    """
    table = read(path)
    stems = [PurePosixPath(name).stem for name in split.paths]
    chosen = [table.get(stem) if stem in table else "no row" for stem in stems]
    kept = [i for i, name in enumerate(chosen) if name in classes]
    if not kept:
        raise UserError(f"The votes {path} give none of the {len(split)} images a known class.")
    labels = np.array([classes.index(str(chosen[i])) for i in kept], np.int32)
    left_out = Counter(name or "no majority" for name in chosen if name not in classes)
    relabelled = replace(split.subset(split.name, np.array(kept)), labels=labels)
    return relabelled, {"rule": RULE, "left_out": dict(sorted(left_out.items()))}
