"""Optax transformations from the settings.

A schedule maps (peak learning rate, total steps) to an Optax schedule; an optimiser maps
(learning rate schedule, settings) to a transformation. A new one is a line in its table.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from emotion_jax.config import TrainingSettings
from emotion_jax.errors import choose
from emotion_jax.training import muon

MOST = 2**31 - 1  # steps; they are counted in int32

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, steps),
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
    "exponential": lambda peak, steps: optax.exponential_decay(peak, steps, 0.01),
}

OPTIMIZERS: dict[
    str, Callable[[optax.Schedule, TrainingSettings], optax.GradientTransformation]
] = {
    "adam": lambda rate, s: _chain(optax.scale_by_adam(), rate, s),
    # Weight decay is decoupled for all of them, so adam with decay is adamw by another name.
    "adamw": lambda rate, s: _chain(optax.scale_by_adam(), rate, s),
    "sgd": lambda rate, s: _chain(optax.trace(s.momentum, nesterov=True), rate, s),
    "muon": lambda rate, s: _chain(muon.scale_by_muon(s.momentum), rate, s),
}


def schedule(settings: TrainingSettings, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step: a linear warm-up, then the named schedule over the steps left.

    Raises:
      UserError: there is no schedule of that name.
    """
    make = choose(SCHEDULES, settings.schedule, "training.schedule")
    total = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), MOST)
    if settings.schedule != "constant":  # with which a run may go on beyond its last epoch
        warmup = min(warmup, total - 1)
    after = make(settings.learning_rate, total - warmup)
    if not warmup:
        return after
    rise = optax.linear_schedule(0.0, settings.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def optimizer(settings: TrainingSettings, rate: optax.Schedule) -> optax.GradientTransformation:
    """The transformation from gradients to updates.

    Raises:
      UserError: there is no optimiser of that name.
    """
    return choose(OPTIMIZERS, settings.optimizer, "training.optimizer")(rate, settings)


def _chain(
    scale: optax.GradientTransformation, rate: optax.Schedule, settings: TrainingSettings
) -> optax.GradientTransformation:
    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else None
    decay = None
    if settings.weight_decay:
        decay = optax.add_decayed_weights(settings.weight_decay, mask=_kernels)
    parts = (clip, scale, decay, optax.scale_by_learning_rate(rate))
    return optax.chain(*(part for part in parts if part is not None))


def _kernels(params: Any) -> Any:
    """True for kernels, False for biases and BatchNorm's scales, which decay only harms."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
