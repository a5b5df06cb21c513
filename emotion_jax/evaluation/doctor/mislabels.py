"""Likely mislabels, by confident learning on predictions of networks that had not seen the image.

Northcutt, Jiang and Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels",
by its authors' library, cleanlab.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.data import votes as votes_lib
from emotion_jax.errors import UserError, listed
from emotion_jax.evaluation.doctor.findings import MISLABEL, Finding
from emotion_jax.evaluation.doctor.predictions import Predictions
from emotion_jax.evaluation.doctor.survey import Survey

PRECISION_AT = (100, 500, 1000)


@dataclass(frozen=True)
class Ranking:
    """Likely mislabels, the likeliest first.

    Attributes:
      findings: of kind ``mislabel``.
      labels: of all images that have a prediction, path -> class.
      notes: what was left out, for a reader.
    """

    findings: list[Finding]
    labels: dict[str, str]
    notes: list[str]


def find(survey: Survey, predictions: Predictions) -> Ranking:
    """Rank the images whose label the predictions contradict.

    Args:
      survey: the images; the labels are those of their folders.
      predictions: of some or all of them.

    Raises:
      UserError: the predictions are of other images or classes, or cleanlab is not installed.
    """
    rows = [i for i, path in enumerate(survey.paths) if path in predictions.probs]
    if not rows:
        raise UserError(
            f"{predictions.source} predicts none of the images in {survey.tree.root} "
            f"(it names {next(iter(predictions.probs))!r}, the folder has {survey.paths[0]!r})."
        )
    names = survey.tree.classes
    known = [i for i in rows if names[survey.label[i]] in predictions.classes]
    if not known:
        raise UserError(
            f"{predictions.source} knows the classes {listed(predictions.classes)}, "
            f"{survey.tree.root} has {listed(names)}: none is the same."
        )
    notes = _notes(survey, predictions, len(rows), len(known))
    labels = np.array([predictions.classes.index(names[survey.label[i]]) for i in known])
    probs = np.stack([predictions.probs[survey.paths[i]] for i in known])
    if len(np.unique(labels)) == 1:
        name = names[survey.label[known[0]]]
        notes.append(f"All of them are of the class {name}: likely mislabels take a second one.")
    findings = []
    for k in _ranked(labels, probs):
        best = int(probs[k].argmax())
        detail = (
            f"labelled {predictions.classes[labels[k]]} (p = {probs[k, labels[k]]:.3f}), "
            f"looks {predictions.classes[best]} (p = {probs[k, best]:.3f})"
        )
        findings.append(Finding(MISLABEL, survey.paths[known[k]], "", detail))
    given = {survey.paths[i]: names[survey.label[i]] for i in known}
    return Ranking(findings, given, notes)


def _ranked(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Numbers of the likely mislabels, by the margin of the best other class over the label's."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError(
            'Finding mislabels needs cleanlab: pip install "emotion-jax[doctor]".'
        ) from None
    if len(np.unique(labels)) == 1:
        return np.zeros(0, np.int64)  # cleanlab fails, unless the class is its first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that no image here has
        return find_label_issues(
            labels,
            probs,
            filter_by="prune_by_noise_rate",
            return_indices_ranked_by="normalized_margin",
            n_jobs=1,
        )


def _notes(survey: Survey, predictions: Predictions, found: int, known: int) -> list[str]:
    notes = [f"{known:,} of {len(survey):,} images have a prediction in {predictions.source}."]
    if found > known:
        notes.append(f"{found - known:,} are of classes that the predictions do not know.")
    if len(predictions.probs) > found:
        more = len(predictions.probs) - found
        notes.append(f"{more:,} predictions are of images that are not in this folder.")
    if not predictions.out_of_fold:
        notes.append(
            "The file has no fold column: if the network was trained on these images, "
            "most mislabels stay hidden, since it has learnt them."
        )
    return notes


def score(ranking: Ranking, table: Path) -> dict[str, Any]:
    """How often FER+'s annotators confirm the ranking.

    An image counts as mislabelled where the majority of its ten votes (``data.votes``) is
    another class than its folder, or that it shows no face; without a majority it does not count
    as one. Images in folders that are called otherwise than the votes' classes are not looked at.

    Args:
      ranking: of images whose file stems are in the table.
      table: FER+ votes, CSV.

    Returns:
      ``n`` images looked at that have a row in the table, ``random``: the share of mislabels among
      them (what a random ranking would score), ``precision``: {k: share among the first k of the
      ranking}.

    Raises:
      UserError: the table cannot be read, has none of the images, or none of their folders is
        called as one of its classes is.
    """
    votes = votes_lib.read(table)
    rated = {path: counts for path in ranking.labels if (counts := votes.of(path)) is not None}
    if not rated:
        raise UserError(f"The votes {table} have none of the images that were predicted.")
    wrong = {
        path: (chosen := votes_lib.majority(counts)) is not None and chosen != label
        for path, counts in rated.items()
        if (label := ranking.labels[path]) in votes_lib.CLASSES
    }
    if not wrong:
        raise UserError(
            f"The votes {table} are for the classes {listed(votes_lib.CLASSES)}; the folders are "
            f"called {listed(sorted({ranking.labels[path] for path in rated}))}: rename them."
        )
    hits = [wrong[finding.path] for finding in ranking.findings if finding.path in wrong]
    cuts = sorted({k for k in PRECISION_AT if k < len(hits)} | {len(hits)} - {0})
    return {
        "n": len(wrong),
        "random": sum(wrong.values()) / len(wrong),
        "precision": {k: sum(hits[:k]) / k for k in cuts},
    }
