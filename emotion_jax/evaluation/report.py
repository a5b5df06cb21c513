"""An evaluation as files: JSON and CSV to compute with, figures and one HTML page to read."""

import base64
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import classification_report

from emotion_jax import files
from emotion_jax.errors import UserError
from emotion_jax.evaluation import (
    calibration,
    calibration_plots,
    metrics,
    page,
    plots,
    robustness_plots,
    selective,
)

MISTAKES = 20
# Figures that not every report has: those of an earlier one do not stay beside the next.
OPTIONAL = ("conformal", "robustness", "explain", "mistakes")
# By which a report.json is known to be one.
KEYS = {"n", "classes", "accuracy", "confusion_matrix", "checkpoint", "protocol"}
SHOWN_LEVEL = "0.9"  # whose coverage is shown by class


def write(
    out: Path,
    report: Mapping[str, Any],
    paths: Sequence[str],
    labels: np.ndarray,
    probs: np.ndarray,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write report.json, predictions.csv, report.html and the figures in it as PNG files.

    Those are confusion_matrix, reliability, selective and, with the keys of that name in
    ``report``, conformal and robustness. Each file is whole or not there, and depends on nothing
    but the arguments.

    Args:
      out: the folder; made if need be.
      report: ``metrics.compute`` and ``checkpoint`` and ``protocol`` (plain values for JSON);
        ``calibration``, ``selective`` and ``conformal`` are shown if they are there.
      paths: n names of the images, shown as they are.
      labels: int [n].
      probs: float [n, C].
      more: further figures, PNG by name (``explain.figures``).

    Raises:
      UserError: the folder cannot be written to, or another program's report.json is in it.
    """
    check(out)
    figures = {
        "confusion_matrix": plots.confusion_matrix(report["confusion_matrix"], report["classes"]),
        **_trust(report, labels, probs),
        **(more or {}),
    }
    rendered = page.html(report, mistakes(paths, labels, probs, report["classes"]), figures)
    try:
        out.mkdir(parents=True, exist_ok=True)
        content = json.dumps(report, indent=2, allow_nan=False) + "\n"
        files.write_text_atomic(out / "report.json", content)
        table = predictions_csv(paths, labels, probs, report["classes"])
        files.write_text_atomic(out / "predictions.csv", table)
        # In this order no optional figure is ever there that the page does not hold.
        _remove_earlier(out)
        files.write_text_atomic(out / "report.html", rendered)
        for name, png in figures.items():
            files.write_bytes_atomic(out / f"{name}.png", png)
    except OSError as error:
        raise UserError(f"Cannot write the report to {out}: {error.strerror or error}.") from None


def check(out: Path) -> None:
    """Refuse a folder that holds a report.json which is none of ours: it would be replaced.

    Raises:
      UserError: it does, or cannot be read.
    """
    place = out / "report.json"
    try:
        content = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(
            f"Cannot write the report to {out}: {place}: {error.strerror or error}."
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content.keys() >= KEYS:
        raise UserError(
            f"{place} is no report of an evaluation, and would be replaced by one; name another "
            "folder, or move it away."
        )


def _remove_earlier(out: Path) -> None:
    """Delete the optional figures of the report that is in ``out``: its page holds their bytes."""
    page_of_earlier = out / "report.html"
    held = page_of_earlier.read_bytes() if page_of_earlier.is_file() else b""
    for path in (out / f"{name}.png" for name in OPTIONAL):
        png = path.read_bytes() if path.is_file() else b""
        if png and base64.b64encode(png) in held:
            path.unlink()


def _trust(report: Mapping[str, Any], labels: np.ndarray, probs: np.ndarray) -> dict[str, bytes]:
    """Figures of what the probabilities are worth; of sets of classes if ``report`` has them."""
    bins = calibration.plain(metrics.reliability_bins(probs, labels, calibration.BINS))
    before = (report.get("calibration") or {}).get("before_temperature") or {}
    risk = selective.risk_coverage(probs, labels)
    drawn = {
        "reliability": calibration_plots.reliability(
            bins,
            report["ece"],
            calibration.ece_floor(probs),
            probs.max(axis=1),
            before.get("bins"),
        ),
        "selective": calibration_plots.selective(
            risk, selective.compute(probs, labels)["at_coverage"]
        ),
    }
    if sets := report.get("conformal"):
        drawn["conformal"] = calibration_plots.conformal(sets["levels"], SHOWN_LEVEL)
    if curves := report.get("robustness"):
        drawn["robustness"] = robustness_plots.curves(curves, len(report["classes"]))
    return drawn


def text(report: Mapping[str, Any], labels: np.ndarray, probs: np.ndarray) -> str:
    """scikit-learn's classification_report of the classes present, and the headline under it.

    Args:
      report: as for ``write``.
      labels: int [n].
      probs: float [n, C].

    Returns:
      Lines for a terminal, no line end at the end.
    """
    present = np.unique(labels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")
        table = classification_report(
            labels,
            probs.argmax(axis=1),
            labels=present,
            target_names=[report["classes"][i] for i in present],
            digits=4,
            zero_division=0,
        )
    low, high = report["accuracy_interval"]
    parts = [
        f"accuracy {report['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}, "
        f"n = {report['n']})",
        f"macro F1 {report['f1']:.4f}",
        f"log loss {report['log_loss']:.4f}",
        f"ECE {report['ece']:.4f}",
    ]
    new = report.get("deduplicated")
    if new and new["n"]:
        parts.append(f"accuracy without images in train {new['accuracy']:.4f} (n = {new['n']})")
    return f"{table.rstrip()}\n\n{'; '.join(parts)}"


def predictions_csv(
    paths: Sequence[str], labels: np.ndarray, probs: np.ndarray, classes: Sequence[str]
) -> str:
    """A line an image, in order: ``path,label,predicted,<class>...``; LF line ends.

    Args:
      paths: n names.
      labels: int [n].
      probs: float [n, C], written with 8 significant digits.
      classes: C names.
    """
    header = ["path", "label", "predicted", *classes]
    rows = (
        [path, classes[label], classes[best], *(f"{p:.8g}" for p in row)]
        for path, label, best, row in zip(paths, labels, probs.argmax(axis=1), probs, strict=True)
    )
    return files.csv_text([header, *rows])


def mistakes(
    paths: Sequence[str], labels: np.ndarray, probs: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The (at most 20) wrong predictions of the highest confidence: ``path label predicted p``."""
    predicted, confidence = probs.argmax(axis=1), probs.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "path": paths[i],
            "label": classes[labels[i]],
            "predicted": classes[predicted[i]],
            "p": float(confidence[i]),
        }
        for i in surest
    ]
