"""Runs side by side: metrics, paired tests on the same images, curves, and settings that differ."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax import config as config_lib
from emotion_jax import files
from emotion_jax.errors import UserError, listed
from emotion_jax.evaluation import compare_plots, metrics, paired, templates


@dataclass(frozen=True)
class Run:
    """A report, read.

    Attributes:
      name: of its folder, or where two have the same the path.
      classes: in the order of ``probs``.
      labels: path -> true class.
      probs: path -> float64 [K].
      config: settings by dotted name, and how it was evaluated.
      images: digest of what was evaluated, at which size; "" in reports of earlier versions.
      history: rows of metrics.jsonl; empty where there is none.
    """

    name: str
    classes: tuple[str, ...]
    labels: dict[str, str]
    probs: dict[str, np.ndarray]
    config: dict[str, Any]
    images: str
    history: tuple[dict[str, Any], ...]


def read(folders: Sequence[Path]) -> list[Run]:
    """Read workdirs (their reports) or folders that scripts/evaluate.py has written.

    Raises:
      UserError: there is no report in one.
    """
    return [_read(name, folder) for name, folder in files.named(folders)]


def _read(name: str, folder: Path) -> Run:
    report = folder / "report" if (folder / "report" / "report.json").is_file() else folder
    try:
        content = json.loads((report / "report.json").read_text(encoding="utf-8"))
        text = (report / "predictions.csv").read_text(encoding="utf-8")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        classes = tuple(header[3:])
        probs = {row[0]: np.array(row[3:], float) for row in rows}
        labels = {row[0]: row[1] for row in rows}
        settings = config_lib.from_mapping(content["checkpoint"]["config"], str(report))
        protocol = content.get("protocol") or {}
        lines = folder / "metrics.jsonl"
        history = lines.read_text().splitlines() if lines.is_file() else []
        return Run(
            name=name,
            classes=classes,
            labels=labels,
            probs=probs,
            config=config_lib.flatten(settings) | _evaluated(protocol),
            images=protocol.get("digest", ""),
            history=tuple(json.loads(line) for line in history),
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder} holds no report of scripts/train.py or scripts/evaluate.py; evaluate first."
        ) from None


def _evaluated(protocol: Mapping[str, Any]) -> dict[str, Any]:
    votes = protocol.get("votes")
    return {
        "evaluation.split": protocol.get("split"),
        "evaluation.tta": bool(protocol.get("tta")),
        "evaluation.votes": votes["rule"] if votes else None,
        "evaluation.without": protocol.get("without") or None,
    }


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """What compare.json says: every run on the images that all have predicted, the first as base.

    Raises:
      UserError: fewer than two runs, other classes, no image in common, or other images under the
        same names.
    """
    if len(runs) < 2:
        raise UserError("One run alone cannot be compared; name two or more.")
    base = runs[0]
    for run in runs[1:]:
        if set(run.classes) != set(base.classes):
            raise UserError(
                f"{run.name} knows {listed(run.classes)}, {base.name} knows "
                f"{listed(base.classes)}: such runs cannot be compared."
            )
        same_names = run.labels.keys() == base.labels.keys()
        if same_names and _size(run) == _size(base) and run.images != base.images:
            raise UserError(
                f"{run.name} and {base.name} were evaluated on other images under the same names: "
                "such runs cannot be compared."
            )
    common = [p for p in base.labels if all(r.labels.get(p) == base.labels[p] for r in runs)]
    if not common:
        raise UserError(f"{listed([r.name for r in runs])} have no image with one label in common.")
    labels = np.array([base.classes.index(base.labels[path]) for path in common])
    probs = [_aligned(run, base.classes, common) for run in runs]
    rows = [_row(run, labels, p, base.classes) for run, p in zip(runs, probs, strict=True)]
    pairs = [_pair(labels, probs[0], p) for p in probs[1:]]
    for pair, p_value in zip(pairs, paired.holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p_value
    for row, pair in zip(rows[1:], pairs, strict=True):
        row["against_first"] = pair
    return {
        "images": len(common),
        "left_out": {run.name: len(run.labels) - len(common) for run in runs},
        "classes": list(base.classes),
        "runs": rows,
        "settings": _differences(runs),
    }


def _size(run: Run) -> Any:
    """Digests are of images as a network sees them; without one nothing can be said."""
    size = (run.config["data.image_size"], run.config["data.channels"])
    return size if run.images else None


def _aligned(run: Run, classes: Sequence[str], paths: Sequence[str]) -> np.ndarray:
    order = [run.classes.index(name) for name in classes]
    return np.stack([run.probs[path] for path in paths])[:, order]


def _row(run: Run, labels: np.ndarray, probs: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    probs = probs / probs.sum(axis=1, keepdims=True)
    content = metrics.compute(labels, probs, classes)
    names = ("accuracy", "accuracy_interval", "precision", "recall", "f1", "log_loss", "ece")
    recall = {name: row["recall"] for name, row in content["per_class"].items() if row["support"]}
    return {"name": run.name, **{name: content[name] for name in names}, "recall_by_class": recall}


def _pair(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    a, b = first.argmax(axis=1), second.argmax(axis=1)
    n, classes = len(labels), first.shape[1]
    only_first, only_second, p_value = paired.mcnemar(a == labels, b == labels)
    gain = (b == labels).astype(float) - (a == labels)

    def f1_gain(at: np.ndarray) -> float:
        scores = [paired.macro_f1(labels[at], found[at], classes) for found in (a, b)]
        return scores[1] - scores[0]

    return {
        "accuracy": float(gain.mean()),
        "accuracy_interval": paired.bootstrap(lambda at: float(gain[at].mean()), n),
        "f1": f1_gain(np.arange(n)),
        "f1_interval": paired.bootstrap(f1_gain, n),
        "only_first_right": only_first,
        "only_this_right": only_second,
        "p": p_value,
    }


def _differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Setting -> its value in each run, of those that are not the same in all."""
    names = sorted({name for run in runs for name in run.config})
    values = {name: [run.config.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


def text(content: Mapping[str, Any]) -> str:
    """The comparison as a table for a terminal."""
    width = max(len(row["name"]) for row in content["runs"])
    lines = [
        f"{content['images']:,} images that all have predicted",
        f"{'':{width}}  accuracy   macro F1   log loss    ECE   against the first (95% interval)",
    ]
    for row in content["runs"]:
        line = f"{row['name']:{width}}  {row['accuracy']:8.2%}   {row['f1']:8.4f}   "
        line += f"{row['log_loss']:8.4f}  {row['ece']:5.1%}"
        if pair := row.get("against_first"):
            low, high = pair["accuracy_interval"]
            line += f"   {pair['accuracy']:+.2%} ({low:+.2%} to {high:+.2%}), "
            line += f"McNemar p = {pair['p_holm']:.2g}"
        lines.append(line)
    return "\n".join(lines)


def write(out: Path, content: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Write compare.json, compare.png and compare.html.

    Raises:
      UserError: the folder cannot be written to.
    """
    picture = compare_plots.figure(content, [(run.name, run.history) for run in runs])
    environment = templates.environment(Path(__file__).parent)
    page = environment.get_template("compare.html.j2").render(
        content=content, picture=compare_plots.base64(picture)
    )
    with files.reported(out):
        out.mkdir(parents=True, exist_ok=True)
        files.write_text_atomic(out / "compare.json", json.dumps(content, indent=2) + "\n")
        files.write_bytes_atomic(out / "compare.png", picture)
        files.write_text_atomic(out / "compare.html", page)
