"""From a trained model and a split to the numbers and files of a report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.data.split import Split
from emotion_jax.evaluation import calibration, conformal, metrics, report, selective
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import predict as predict_lib
from emotion_jax.training import selection
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
          UserError: the folder cannot be written to.
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
      batch_size: images at a time over all devices; has no influence on the result but
        rounding.
      progress: show a bar.
      thresholds: of ``training.conformal.fit_thresholds`` on other images, seen in the same views;
        empty: no sets; None: those that the checkpoint holds, if it does, which are of one view.

    Raises:
      UserError: the split is empty or the probabilities are not finite.
    """
    mesh = mesh_lib.make()
    views = trained.description["tta"] if tta else ["identity"]
    predict_fn = predict_lib.make_predict(trained.module, mesh, views, trained.temperature)
    variables = mesh_lib.put(trained.variables, mesh_lib.replicated(mesh))
    title = f"evaluating {split.name}" if progress else ""
    logs, sums = predict_lib.predict(predict_fn, variables, split, batch_size, mesh, title)
    probs = np.exp(logs.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    seen = trained.train_hashes if trained.seen_complete else None
    content = metrics.compute(split.labels, probs, trained.classes, seen, split.hashes)
    if thresholds is None and not tta:
        thresholds = trained.description.get("conformal")
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
    content["protocol"] = {
        "split": split.name,
        "n": len(split),
        "seed": trained.config.training.seed,
        "selection": selection.words(trained.description),
        "tta": list(views) if tta else None,
        "votes": split.votes,
        "interval": "95% Wilson",
        "deduplicated": "without images whose decoded pixels also occur in train, be it that of "
        "its teachers or of what it began with"
        if trained.seen_complete
        else "not known: what it comes from has seen images of another size",
    }
    return Evaluated(split, quotients(sums), content, probs)


def _checkpoint(trained: Trained) -> dict[str, Any]:
    about = trained.description
    names = ("step", "epoch", "fingerprint", "temperature", "versions", "config")
    model = {"path": str(trained.path), "model": trained.config.model.name}
    return model | {name: about[name] for name in names} | {"weights": trained.digest}
