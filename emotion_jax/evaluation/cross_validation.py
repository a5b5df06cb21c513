"""Cross-validation: a training run a fold, each the ordinary loop in a workdir of its own.

    config.toml scheme.json     what was asked for
    fold-<repeat>-<fold>/       a workdir of training; its report/ is on the held-out images
        probabilities.npy       of them, float64 [n, K]
        fold.json               written last: this fold is done
    predictions.csv             of every image, by the network that had not seen it
    cross_validation.json, cross_validation.png
    report/                     of the first repeat's predictions, as of any evaluation

Everything that is written in the end is computed from the folds' files, so it does not hang on how
often the command was stopped.
"""

import hashlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from emotion_jax import files
from emotion_jax.config import Config
from emotion_jax.data.split import Dataset
from emotion_jax.errors import UserError
from emotion_jax.evaluation import fold_plots, pooled, report, scheme_file, summary
from emotion_jax.evaluation import folds as folds_lib
from emotion_jax.evaluation.evaluate import evaluate
from emotion_jax.evaluation.folds import Fold, Scheme
from emotion_jax.evaluation.pooled import Result
from emotion_jax.training import ancestry, loop, workdir
from emotion_jax.training import trained as trained_lib

ABOUT = ("step", "epoch", "seconds")


def cross_validate(config: Config, folder: Path, whole: Dataset, scheme: Scheme) -> dict[str, Any]:
    """Train and measure every fold that is not done yet, and write the results.

    Args:
      config: of the runs; a fold's seed is ``training.seed`` plus its place.
      folder: held by ``workdir.opened``, after ``scheme_file.check``.
      whole: from ``dataset.load_whole``.
      scheme: how train is cut.

    Returns:
      What cross_validation.json says.

    Raises:
      UserError: the folds cannot be cut, are others than before, or a run cannot go on.
      NonFiniteError: the loss of a fold's run is not finite.
      Interrupted: a signal came; the run of the fold was saved first.
    """
    progress = config.logging.progress
    groups, about_groups = folds_lib.grouped(whole.train, scheme, progress)
    print(_grouping_text(about_groups))
    if about_groups["largest"] * scheme.folds > len(whole.train):
        print(
            "The largest group is more than a fold, so the folds are unequal; if its images are "
            "only alike, use a smaller --near, or -1.",
            file=sys.stderr,
        )
    folds = folds_lib.cut(config, whole, groups, scheme)
    scheme_file.note(folder, scheme, whole.fingerprint, [f.data.fingerprint for f in folds])
    workdir.note(folder, config, whole.problems)
    if not scheme_file.begun(folder):
        _check_held_out(config, folds)
    results = []
    with tqdm(total=len(folds), desc="folds", unit="fold", disable=not progress) as bar:
        for fold in folds:
            result = _finished(fold, folder / fold.name)
            if result is None:
                tqdm.write(_fold_text(fold, scheme))
                result = _run(fold, folder / fold.name)
            results.append(result)
            bar.update()
    content = {
        "folds": scheme.folds,
        "repeats": scheme.repeats,
        **pooled.summarise(results, whole.train.labels, whole.classes),
        "grouping": about_groups,
        "protocol": {**_protocol(scheme), "votes": whole.train.votes},
        "fingerprint": whole.fingerprint,
        "config": config.model_dump(mode="json"),
    }
    _write(folder, content, results, whole)
    return content


def _check_held_out(config: Config, folds: Sequence[Fold]) -> None:
    """Refuse to begin with, or to learn from, a network that has seen what is held out from it.

    Raises:
      UserError: there is one, or it cannot be told; names the setting.
    """
    for setting, name in ancestry.names(config):
        model = trained_lib.load(trained_lib.resolve(Path(name)))
        if sentence := ancestry.not_comparable(setting, model, config):
            raise UserError(f"{sentence} Leave the setting out, or name weights of that size.")
        for fold in folds:
            if seen := ancestry.count(model, fold.held_out):
                raise UserError(
                    f"{setting}: {name} has learnt from, or was chosen by, {seen:,} of the "
                    f"{len(fold.held_out):,} images that fold {fold.number} holds out, so they "
                    "would not be held out from it; leave the setting out, or name weights of "
                    "other images."
                )


def _run(fold: Fold, place: Path) -> Result:
    """Train the fold, or go on, and predict what it has held out."""
    with workdir.opened(place, fold.config):
        loop.train(
            fold.config,
            place,
            fold.data,
            lambda history: summary.write_curves(place, history, fold.config),
        )
        best = trained_lib.load(trained_lib.resolve(place))
        result = evaluate(best, fold.held_out, progress=fold.config.logging.progress)
        result.write(place / "report")
        about = {name: best.description[name] for name in ABOUT}
        buffer = io.BytesIO()
        np.save(buffer, result.probs, allow_pickle=False)
        content = {
            **about,
            "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "made_with": _made_with(fold),
        }
        with files.reported(place):
            files.write_bytes_atomic(place / "probabilities.npy", buffer.getvalue())
            files.write_text_atomic(place / "fold.json", json.dumps(content, indent=2) + "\n")
    return Result(fold, about, result.probs)


def _finished(fold: Fold, place: Path) -> Result | None:
    """What a run before this one made of the fold; None where it is not done, or was damaged."""
    try:
        content = json.loads((place / "fold.json").read_text())
        data = (place / "probabilities.npy").read_bytes()
        same = content["made_with"] == _made_with(fold)
        if not same or content["sha256"] != hashlib.sha256(data).hexdigest():
            return None
        about = {name: content[name] for name in ABOUT}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return Result(fold, about, np.load(io.BytesIO(data), allow_pickle=False))


def _made_with(fold: Fold) -> dict[str, Any]:
    """Of a fold that is done; where it is not the same, the loop goes on or says what differs."""
    return {"fingerprint": fold.data.fingerprint, "settings": workdir.agreed(fold.config)}


def _write(
    folder: Path, content: dict[str, Any], results: Sequence[Result], whole: Dataset
) -> None:
    table = pooled.predictions_csv(results, whole.train.paths, whole.train.labels, whole.classes)
    rows, probs = pooled.of_repeat(results, 1)
    page = {
        **content["pooled"]["repeats"][0],
        "deduplicated": None,
        "checkpoint": {name: content[name] for name in ("fingerprint", "config")},
        "protocol": content["protocol"],
    }
    paths = [whole.train.paths[row] for row in rows]
    report.write(folder / "report", page, paths, whole.train.labels[rows], probs)
    with files.reported(folder):
        files.write_text_atomic(folder / "predictions.csv", table)
        files.write_bytes_atomic(folder / "cross_validation.png", fold_plots.boxes(content))
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        files.write_text_atomic(folder / "cross_validation.json", text)


def _protocol(scheme: Scheme) -> dict[str, str]:
    return {
        "held_out": f"stratified {scheme.folds}-fold of train alone; a group is in one fold",
        "groups": "identical images, near-duplicates, and one subject's images where known",
        "selection": "each fold cuts its own validation split from the rest, as training does",
        "seed": "training.seed plus the place of the fold; folds: data.split_seed plus the repeat",
        "normalisation": "mean and standard deviation of all of train, for all folds",
        "deduplicated": "nothing to leave out: identical images are in one fold",
        "interval": "95%, corrected resampled t (Nadeau and Bengio 2003)",
        "std": "sample standard deviation over the folds",
    }


def _grouping_text(about: dict[str, Any]) -> str:
    said = [f"{about['identical']:,} further copies of images"]
    if about["near_distance"] is not None:
        said.append(f"{about['near_pairs']:,} pairs of near-duplicates")
    if about["subjects"] is not None:
        said.append(f"{about['subjects']:,} subjects")
    return (
        f"{', '.join(said)}: {about['groups']:,} groups that stay together, "
        f"the largest of {about['largest']:,} images."
    )


def _fold_text(fold: Fold, scheme: Scheme) -> str:
    repeat = f" of repeat {fold.repeat}/{scheme.repeats}" if scheme.repeats > 1 else ""
    return (
        f"Fold {fold.number}/{scheme.folds}{repeat}: {len(fold.data.train) - fold.repeated:,} "
        f"images to train on, {len(fold.data.validation):,} for validation, "
        f"{len(fold.held_out):,} held out."
    )
