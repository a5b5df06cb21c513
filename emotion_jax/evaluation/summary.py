"""The end of a run: its chosen step on every split, as files and as a few lines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion_jax import files
from emotion_jax.config import Config
from emotion_jax.data.split import Dataset
from emotion_jax.evaluation import plots
from emotion_jax.evaluation.evaluate import evaluate
from emotion_jax.training import multihost
from emotion_jax.training import trained as trained_lib
from emotion_jax.training.conformal import fit_thresholds
from emotion_jax.training.selection import RULES


def finish(
    workdir: Path, data: Dataset, history: Sequence[dict[str, Any]], progress: bool = False
) -> str:
    """Evaluate the chosen step; the main process writes report/, curves.png and summary.json.

    Args:
      workdir: of the run.
      data: what it was trained on.
      history: its rows of metrics.jsonl.
      progress: show bars.

    Returns:
      What to print: the report on the test split, or on validation where there is no test split.

    Raises:
      UserError: no checkpoint is whole, or a file cannot be written.
    """
    step = multihost.step_of_main(workdir / "checkpoints", lambda: trained_lib.resolve(workdir))
    assert step is not None  # resolve has raised
    best = trained_lib.load(step)
    # Sets of classes promise something about images that neither training nor their thresholds saw.
    results = {
        "train": evaluate(best, data.train, progress=progress, thresholds={}),
        "val": evaluate(best, data.validation, progress=progress, thresholds={}),
    }
    if data.test is not None:
        thresholds = fit_thresholds(results["val"].probs, data.validation.labels)
        results["test"] = evaluate(best, data.test, progress=progress, thresholds=thresholds)
    if not multihost.is_main():
        return ""
    reported = results["test" if data.test is not None else "val"]
    reported.write(workdir / "report")
    write_curves(workdir, history, best.config)
    seconds = best.description["seconds"]
    rates = [row["images_per_second"] for row in history]
    summary = {
        "step": best.description["step"],
        "epoch": best.description["epoch"],
        "seconds": seconds,
        "images_per_second": round(len(rates) / sum(1 / rate for rate in rates), 2),
        **{name: result.quotients for name, result in results.items()},
    }
    with files.reported(workdir):
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        files.write_text_atomic(workdir / "summary.json", text)
    split = "test" if data.test is not None else "validation (there is no test folder)"
    chosen = best.config.training.selection.capitalize()
    return (
        f"{chosen} step {summary['step']} (epoch {summary['epoch']}) on {split}:\n\n"
        f"{reported.text()}\n\nReport: {workdir / 'report' / 'report.html'}"
    )


def write_curves(workdir: Path, history: Sequence[dict[str, Any]], config: Config) -> None:
    """Draw curves.png of a run with this configuration.

    Raises:
      UserError: it cannot be written.
    """
    with files.reported(workdir):
        rule = RULES[config.training.selection]
        files.write_bytes_atomic(workdir / "curves.png", plots.curves(history, rule))
