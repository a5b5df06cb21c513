"""The whole of training against its step alone, taken in turns in one process."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emotion_jax.config import Config
from emotion_jax.data.split import Dataset
from emotion_jax.training import loop, workdir

VALIDATION = 64  # images; validation is not what is timed
SETTLE = 1.0  # seconds, in which the epoch's checkpoint is written and the pipeline fills up


def measure(
    config: Config,
    data: Dataset,
    step_alone: Callable[[int], float],
    steps: int,
    rounds: int,
) -> dict[str, list[float]]:
    """Run epochs of the real loop on part of the data, and after each the step alone.

    Feed, augmentation, step, metrics and logging are in an epoch's figure; validation and the
    checkpoint after it are not, as in metrics.jsonl. Both begin with the pipeline's buffers full,
    so an epoch ends with as much prepared as it began with.

    Args:
      config: of the run; its epochs and what it keeps are set here.
      data: of ``config.data``; ``steps`` batches of it are used, or all if there are fewer.
      step_alone: runs that many steps with nothing around them, and gives their seconds.
      steps: an epoch.
      rounds: epochs that count, after one that compiles.

    Returns:
      Images a second, a value a round: ``end_to_end`` and ``alone``.
    """
    batch = config.training.batch_size
    steps = min(steps, max(1, len(data.train) // batch))
    alone: list[float] = []

    def on_epoch(history: Sequence[dict[str, Any]]) -> None:
        del history
        time.sleep(SETTLE)
        alone.append(steps * batch / step_alone(steps))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        config, part = _short(config, rounds + 1), _part(data, steps * batch)
        with workdir.opened(folder, config):
            history = loop.train(config, folder, part, on_epoch)
    whole = [row["images_per_second"] for row in history]
    return {"end_to_end": whole[1:], "alone": alone[1:]}


def _short(config: Config, epochs: int) -> Config:
    training = config.training.model_copy(
        update={
            "epochs": epochs,
            "patience": 0,
            "keep_latest": 1,
            "keep_best": 1,
            "backup_to": None,  # it would go on from a backup, or make some
            # What the step alone does not do, or not at that size.
            "start_size": 0,
            "grow_epochs": 0.0,
            "init_from": "",
            "frozen_epochs": 0.0,
            "teachers": (),
            "average": 0.0,
        }
    )
    augment = config.data.augment.model_copy(update={"blur": 0.0, "noise": 0.0})
    data = config.data.model_copy(update={"augment": augment})
    return config.model_copy(update={"training": training, "data": data})


def _part(data: Dataset, n: int) -> Dataset:
    rng = np.random.default_rng(0)
    train = rng.permutation(len(data.train))[:n]
    validation = np.arange(min(VALIDATION, len(data.validation)))
    return replace(
        data,
        train=data.train.subset("train", np.sort(train)),
        validation=data.validation.subset("val", validation),
    )
