"""What stays the same from step to step of a run: its network, its step, its validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from emotion_jax import models
from emotion_jax.config import Config
from emotion_jax.data import degrade
from emotion_jax.data.split import Dataset, normalisation
from emotion_jax.errors import NonFiniteError
from emotion_jax.training import (
    calibration,
    checkpoint,
    description,
    optimizer,
    sizes,
    step,
    teacher,
    transfer,
)
from emotion_jax.training import feed as feed_lib
from emotion_jax.training import mesh as mesh_lib
from emotion_jax.training import predict as predict_lib
from emotion_jax.training import state as state_lib
from emotion_jax.training.metrics import quotients
from emotion_jax.training.state import TrainState
from emotion_jax.training.trained import Trained

TrainStep = Callable[[TrainState, Any, jax.Array], tuple[TrainState, step.Metrics]]
# Metrics of the validation split, and what was fitted on it.
Validate = Callable[[TrainState], tuple[dict[str, float], dict[str, Any]]]


@dataclass(frozen=True)
class Program:
    """What stays the same from step to step.

    ``train_step`` is that of an epoch, from 0: while images grow it differs. ``teachers`` are the
    models of ``teacher.Teachers``, ``digests`` theirs.
    """

    config: Config
    data: Dataset
    feed: feed_lib.Feed
    key: jax.Array
    train_step: Callable[[int], TrainStep]
    validate: Validate
    rate: Callable[[int], Any]
    store: checkpoint.Store
    describe: Callable[..., dict[str, Any]]
    teachers: tuple[Trained, ...]
    digests: list[str]


def build(config: Config, data: Dataset, store: checkpoint.Store) -> tuple[Program, TrainState]:
    """The program of a run, and the state before its first step.

    Raises:
      UserError: the settings do not fit each other, the data or the devices.
    """
    mesh = mesh_lib.make()
    feed = feed_lib.make(config, data.train, mesh)
    mean, std = normalisation(data.train)
    classes, size = len(data.classes), config.data.image_size
    module = models.build(config.model, classes, size, mean, std)
    rate = optimizer.schedule(config.training, feed.steps_per_epoch)
    tx = optimizer.optimizer(config.training, rate)
    if config.training.frozen_epochs:
        frozen = min(round(config.training.frozen_epochs * feed.steps_per_epoch), optimizer.MOST)
        tx = optax.chain(tx, transfer.freeze(frozen))
    weights = step.class_weights(config.training, data.train.targets, classes)
    names = config.training.teachers
    teachers = teacher.load(names, data.classes, config.data.channels) if names else None
    digests = teachers.digests if teachers else []
    augment = config.data.augment
    worse = partial(degrade.degraded, settings=augment) if degrade.degrades(augment) else None

    @cache
    def train_step(side: int | None) -> TrainStep:
        return step.make_train_step(
            module,
            tx,
            config.training,
            weights,
            feed.prepare,
            mesh,
            feed.take,
            side,
            teachers and teachers.teach,
            worse,
        )

    program = Program(
        config=config,
        data=data,
        feed=feed,
        key=state_lib.make_key(config.training.seed, mesh),
        train_step=lambda epoch: train_step(sizes.side(config, epoch)),
        validate=_validation(module, config, data, mesh),
        rate=rate,
        store=store,
        describe=description.describer(config, data, mean, std, feed.steps_per_epoch, digests),
        teachers=teachers.models if teachers else (),
        digests=digests,
    )
    image_shape = (size, size, config.data.channels)
    seed, averaged = config.training.seed, config.training.average > 0
    state = state_lib.create(module, tx, image_shape, classes, seed, mesh, averaged)
    return program, state


def _validation(module: nn.Module, config: Config, data: Dataset, mesh: Mesh) -> Validate:
    predict = predict_lib.make_predict(module, mesh)
    title = "validation" if config.logging.progress else ""

    def validate(state: TrainState) -> tuple[dict[str, float], dict[str, Any]]:
        batch = predict_lib.BATCH_SIZE
        logs, sums = predict_lib.predict(
            predict, state.variables, data.validation, batch, mesh, title
        )
        if not math.isfinite(float(sums.loss)):
            raise NonFiniteError(f"The validation loss is not finite at step {int(state.step)}.")
        return quotients(sums), calibration.fit(logs, data.validation.labels)

    return validate
