"""Read predictions.csv, as cross-validation and evaluation write it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion_jax.errors import UserError, listed

NAME = "predictions.csv"
LAYOUT = "path,label,fold,predicted,<class>... (fold may be missing)"


@dataclass(frozen=True)
class Predictions:
    """Probabilities of images by name.

    Attributes:
      classes: of the columns.
      probs: path -> float64 [classes], summing to 1.
      out_of_fold: whether the file says by which fold's network each image was predicted.
    """

    source: Path
    classes: tuple[str, ...]
    probs: dict[str, np.ndarray]
    out_of_fold: bool


def read(source: Path) -> Predictions:
    """Read ``source``, or predictions.csv in it. A path that comes twice counts with its mean.

    Raises:
      UserError: there is no such file, or it is not such a table.
    """
    path = source / NAME if source.is_dir() else source
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *rows = csv.reader(file)
    except OSError as error:
        raise UserError(
            f"Cannot read the predictions {path}: {error.strerror}; cross_validate.py writes them."
        ) from None
    except (csv.Error, ValueError):
        raise UserError(f"{path} is empty or no CSV table; it needs {LAYOUT}.") from None
    folds = header[2:3] == ["fold"]
    fixed = ["path", "label", *["fold"] * folds, "predicted"]
    classes = tuple(header[len(fixed) :])
    if header[: len(fixed)] != fixed or len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(f"{path} has the columns {listed(header)}; it needs {LAYOUT}.")
    found: dict[str, list[np.ndarray]] = {}
    for number, row in enumerate(rows, 2):
        found.setdefault(row[0] if row else "", []).append(
            _probabilities(row, len(fixed), len(classes), f"{path}, line {number}")
        )
    if not found:
        raise UserError(f"{path} has no line but its first; it needs {LAYOUT}.")
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    return Predictions(path, classes, means, folds)


def _probabilities(row: list[str], skip: int, count: int, where: str) -> np.ndarray:
    try:
        values = np.array(row[skip:], np.float64)
    except ValueError:
        raise UserError(f"{where}: a probability is not a number.") from None
    if len(values) != count:
        raise UserError(f"{where}: {len(row)} values instead of {skip + count}.")
    total = values.sum()
    if not (np.isfinite(total) and (values >= 0).all() and abs(total - 1) < 0.01):
        raise UserError(f"{where}: the probabilities do not add up to 1 (but to {total:g}).")
    return values / total
