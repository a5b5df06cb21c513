"""Knowledge distillation: what finished networks make of the very images that are learnt from.

Hinton et al. 2015 (arXiv:1503.02531); that teacher and student see one augmented image is what
counts (Beyer et al. 2022, arXiv:2106.05237). But where the images are made worse (data/degrade.py)
the teachers see them as they were (noisy student; Xie et al. 2020, arXiv:1911.04252).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from emotion_jax.errors import UserError
from emotion_jax.training import trained
from emotion_jax.training.predict import log_probabilities
from emotion_jax.training.step import resized
from emotion_jax.training.trained import Trained

Teach = Callable[[jax.Array], jax.Array]


class Teachers(NamedTuple):
    """Whom is learnt from.

    Attributes:
      teach: images float [N, S, S, C] in [0, 255] to the mean of the teachers' probabilities,
        float32 [N, K], to be traced into the step; each teacher sees them at its own size and is
        as sure as its temperature says.
      models: they themselves.
    """

    teach: Teach
    models: tuple[Trained, ...]

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each one's weights and temperature."""
        return [model.digest for model in self.models]


def load(names: Sequence[str], classes: tuple[str, ...], channels: int) -> Teachers:
    """The teachers of a student.

    Args:
      names: of their checkpoints; at least one.
      classes: of the student.
      channels: of the student's images.

    Raises:
      UserError: a checkpoint is missing, or has other classes or channels.
    """
    teachers = tuple(trained.load(trained.resolve(Path(name))) for name in names)
    for teacher in teachers:
        if teacher.classes != classes:
            raise UserError(
                f"training.teachers: {teacher.path} knows {', '.join(teacher.classes)}, the data "
                f"has {', '.join(classes)}; a teacher needs the same classes."
            )

        if teacher.description["channels"] != channels:
            raise UserError(
                f"training.teachers: {teacher.path} sees {teacher.description['channels']} "
                f"channel(s), data.channels is {channels}; a teacher needs the same."
            )

    def teach(images: jax.Array) -> jax.Array:
        each = jnp.stack([_probabilities(teacher, images) for teacher in teachers])
        return jax.lax.stop_gradient(each.mean(0))

    return Teachers(teach, teachers)


def _probabilities(teacher: Trained, images: jax.Array) -> jax.Array:
    size = teacher.description["image_size"]
    if images.shape[1] != size:
        images = resized(images, size)
    logits = jnp.asarray(teacher.module.apply(teacher.variables, images))
    return jnp.exp(log_probabilities(logits, teacher.temperature))
