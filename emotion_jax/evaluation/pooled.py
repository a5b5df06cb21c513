"""The numbers of a cross-validation: by fold, over the folds, and over all held-out images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from emotion_jax import files
from emotion_jax.evaluation import metrics
from emotion_jax.evaluation.folds import Fold

METRICS = ("accuracy", "precision", "recall", "f1", "log_loss", "ece")


@dataclass(frozen=True)
class Result:
    """A fold that is done.

    Attributes:
      about: ``step epoch seconds`` of the checkpoint that was chosen.
      probs: float64 [n, K], of the held-out images.
    """

    fold: Fold
    about: Mapping[str, Any]
    probs: np.ndarray


def corrected_interval(
    values: Sequence[float], test_to_train: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of the mean over folds, whose training sets overlap.

    ``mean ± t sqrt((1/J + n_test/n_train) s²)`` with J - 1 degrees of freedom (Nadeau and Bengio
    2003, the corrected resampled t; Bouckaert and Frank 2004 for repeated k-fold). ``s²/J`` alone
    takes the folds for independent and is far too narrow.

    Args:
      values: J >= 2 of them, one a fold.
      test_to_train: held-out images by the rest.
      confidence: in (0, 1).

    Returns:
      Lower and upper end.
    """
    count = len(values)
    spread = math.sqrt((1 / count + test_to_train) * float(np.var(values, ddof=1)))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * spread
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def summarise(
    results: Sequence[Result], labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """``n classes mean std interval per_fold pooled``, plain values for JSON.

    Args:
      results: of all folds of all repeats, in order.
      labels: int [N], of train.
      classes: in label order.

    Returns:
      ``mean std interval`` map each of ``METRICS`` to its mean, sample standard deviation and
      ``corrected_interval`` over the folds. ``per_fold``: a mapping a fold. ``pooled``: ``METRICS``
      over all held-out predictions of a repeat, their mean over the repeats, ``std`` over them
      (None for one), and ``repeats``, each as ``metrics.compute`` gives it.
    """
    per_fold = [_row(result, classes) for result in results]
    repeats = max(result.fold.repeat for result in results)
    pooled = [_pooled(results, repeat + 1, labels, classes) for repeat in range(repeats)]
    n = pooled[0]["n"]
    ratio = float(np.mean([row["n"] / (n - row["n"]) for row in per_fold]))
    columns = {name: [row[name] for row in per_fold] for name in METRICS}
    over = {name: [repeat[name] for repeat in pooled] for name in METRICS}
    return {
        "n": n,
        "classes": list(classes),
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "std": {name: float(np.std(values, ddof=1)) for name, values in columns.items()},
        "interval": {
            name: _clipped(name, corrected_interval(values, ratio))
            for name, values in columns.items()
        },
        "per_fold": per_fold,
        "pooled": {
            "n": n,
            **{name: float(np.mean(values)) for name, values in over.items()},
            "std": {
                name: float(np.std(values, ddof=1)) if repeats > 1 else None
                for name, values in over.items()
            },
            "repeats": pooled,
        },
    }


def predictions_csv(
    results: Sequence[Result], paths: Sequence[str], labels: np.ndarray, classes: Sequence[str]
) -> str:
    """A line an image of train, in order: ``path,label,fold,predicted,<class>...``.

    Every probability is of a network that was not trained on the image. With repeats they are the
    mean over the repeats, and ``fold`` is one number a repeat, parted by "/".

    Args:
      results: of all folds of all repeats, in order.
      paths, labels: [N], of train.
      classes: in label order.
    """
    repeats = max(result.fold.repeat for result in results)
    probs = np.mean([of_repeat(results, repeat + 1)[1] for repeat in range(repeats)], axis=0)
    names: list[list[str]] = [[] for _ in paths]
    for result in results:
        for row in result.fold.rows:
            names[row].append(str(result.fold.number))
    header = ["path", "label", "fold", "predicted", *classes]
    best = probs.argmax(axis=1)
    rows = (
        [path, classes[labels[i]], "/".join(names[i]), classes[best[i]]]
        + [f"{p:.8g}" for p in probs[i]]
        for i, path in enumerate(paths)
    )
    return files.csv_text([header, *rows])


def text(content: Mapping[str, Any]) -> str:
    """The table that is printed."""
    lines = [f"{'':10}{'mean':>9}{'std':>9}   {'95% interval':<18}{'pooled':>9}"]
    for name in METRICS:
        low, high = content["interval"][name]
        lines.append(
            f"{name:10}{content['mean'][name]:9.4f}{content['std'][name]:9.4f}"
            f"   {f'{low:.4f} to {high:.4f}':<18}{content['pooled'][name]:9.4f}"
        )
    return "\n".join(lines)


def _row(result: Result, classes: Sequence[str]) -> dict[str, Any]:
    fold = result.fold
    values = metrics.compute(fold.held_out.labels, result.probs, classes)
    return {
        "repeat": fold.repeat,
        "fold": fold.number,
        "workdir": fold.name,
        "seed": fold.config.training.seed,
        "n": len(fold.held_out),
        "train": len(fold.data.train) - fold.repeated,
        "repeated": fold.repeated,
        "validation": len(fold.data.validation),
        **result.about,
        **{name: values[name] for name in METRICS},
    }


def of_repeat(results: Sequence[Result], repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """All images of train in order, and their held-out probabilities: int64 [N], float64 [N, K]."""
    chosen = [result for result in results if result.fold.repeat == repeat]
    rows = np.concatenate([result.fold.rows for result in chosen])
    order = np.argsort(rows)
    return rows[order], np.concatenate([result.probs for result in chosen])[order]


def _pooled(
    results: Sequence[Result], repeat: int, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    rows, probs = of_repeat(results, repeat)
    content = metrics.compute(labels[rows], probs, classes)
    del content["deduplicated"]  # no image is on both sides
    return content


def _clipped(name: str, interval: tuple[float, float]) -> list[float]:
    low, high = interval
    return [max(low, 0.0), high if name == "log_loss" else min(high, 1.0)]
