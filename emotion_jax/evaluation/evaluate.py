"""From a trained model and a split to the numbers and files of a report."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.data.split import Split
from emotion_jax.evaluation import calibration, conformal, metrics, report, selective
from emotion_jax.training import ancestry, selection
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import predict as predict_lib
from emotion_jax.training.metrics import quotients
from emotion_jax.training.trained import Trained


@dataclass(frozen=True)
class Evaluated:
    """A split, predicted.

    Attributes:
      quotients: ``accuracy precision recall f1 loss n``.
      report: ``metrics.compute`` with ``calibration``, ``selective``, ``conformal``,
        ``checkpoint`` and ``protocol``.
      probs: float64 [n, K], rows sum to 1.
      figures: more pictures for the report, PNG by name.
    """

    split: Split
    quotients: dict[str, float]
    report: dict[str, Any]
    probs: np.ndarray
    figures: dict[str, bytes] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Write the report's files to ``out``.

        Raises:
          UserError: the folder cannot be written to, or another program's report.json is in it.
        """
        split = self.split
        report.write(out, self.report, split.paths, split.labels, self.probs, self.figures)

    def text(self) -> str:
        """scikit-learn's classification_report and a headline."""
        return report.text(self.report, self.split.labels, self.probs)


def evaluate(
    trained: Trained,
    split: Split,
    tta: bool = False,
    batch_size: int = predict_lib.BATCH_SIZE,
    progress: bool = False,
    thresholds: Mapping[str, Any] | None = None,
) -> Evaluated:
    """Predict every image of ``split`` once, in order, and compute the metrics.

    Args:
      trained: the model.
      split: labelled by place in ``trained.classes``.
      tta: average the probabilities over the views that the checkpoint declares.
      batch_size: images at a time over all devices, at most the split and what is usual; has no
        influence on the result but rounding.
      progress: show a bar.
      thresholds: of ``training.conformal.fit_thresholds`` on other images, seen in the same views;
        empty: no sets; None: those that the checkpoint holds, if it does, which are of one view.
        Of a split that the model learnt from or was chosen by for the most part there are no sets.

    Raises:
      UserError: the split is empty or the probabilities are not finite.
    """
    mesh = mesh_lib.make()
    views = trained.description["tta"] if tta else ["identity"]
    predict_fn = predict_lib.make_predict(trained.module, mesh, views, trained.temperature)
    variables = mesh_lib.put(trained.variables, mesh_lib.replicated(mesh))
    title = f"evaluating {split.name}" if progress else ""
    # Below the usual size all splits share one compiled program.
    batch_size = min(batch_size, max(len(split), predict_lib.BATCH_SIZE))
    logs, sums = predict_lib.predict(predict_fn, variables, split, batch_size, mesh, title)
    probs = np.exp(logs.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    seen = trained.train_hashes if trained.seen.complete else None
    content = metrics.compute(split.labels, probs, trained.classes, seen, split.hashes)
    if thresholds is None and not tta:
        thresholds = trained.description.get("conformal")
    learnt = ancestry.count(trained, split)
    if 2 * learnt > len(split):
        thresholds = None
    # Of several views the mean was taken after the scaling: it cannot be undone.
    scaled = 1.0 if tta else trained.temperature
    content |= {
        "calibration": calibration.compute(probs, split.labels, trained.classes, scaled),
        "selective": selective.compute(probs, split.labels),
        "conformal": conformal.compute(probs, split.labels, trained.classes, thresholds)
        if thresholds
        else None,
    }
    content["checkpoint"] = _checkpoint(trained)
    content["protocol"] = _protocol(trained, split, views if tta else None, thresholds, learnt)
    return Evaluated(split, quotients(sums), content, probs)


def _protocol(
    trained: Trained,
    split: Split,
    views: Sequence[str] | None,
    thresholds: Mapping[str, Any] | None,
    learnt: int,
) -> dict[str, Any]:
    """How it was measured; ``learnt``: images that the model learnt from or was chosen by."""
    left_out = [name for name in (trained.whole or trained).classes if name not in trained.classes]
    doubt = trained.validation_doubt
    return {
        "split": split.name,
        "n": len(split),
        "digest": _digest(split),
        "seed": trained.config.training.seed,
        "selection": selection.words(trained.description),
        **({"validation": doubt} if doubt else {}),
        "tta": list(views) if views else None,
        "votes": split.votes,
        "without": left_out or None,
        "interval": "95% Wilson",
        "deduplicated": "without images whose decoded pixels also occur in train, be it that of "
        "its teachers or of what it began with"
        if trained.seen.complete
        else "not known: what it comes from has seen images of another size",
        "conformal": _origin_of_sets(thresholds, learnt, len(split)),
    }


def _digest(split: Split) -> str:
    """Of the images as they were decoded, in the order of their paths."""
    return hashlib.sha256(split.hashes[np.argsort(split.paths)].tobytes()).hexdigest()[:16]


def _origin_of_sets(thresholds: Mapping[str, Any] | None, learnt: int, n: int) -> str:
    """Of the thresholds, or why there are none."""
    if thresholds:
        return f"thresholds from {thresholds['n']:,} validation images"
    if 2 * learnt > n:
        return (
            f"not shown: the network has learnt from, or was chosen by, {learnt:,} of these {n:,} "
            "images, and sets of classes promise something about new ones"
        )
    return (
        "not shown: the sets need thresholds from validation images, other than these and seen in "
        "the same views and classes, of which there are none here"
    )


def _checkpoint(trained: Trained) -> dict[str, Any]:
    about = trained.description
    names = ("step", "epoch", "fingerprint", "temperature", "versions", "config")
    model = {"path": str(trained.path), "model": trained.config.model.name}
    # Of all classes: it tells which checkpoint that was.
    digest = (trained.whole or trained).digest
    return model | {name: about[name] for name in names} | {"weights": digest}
