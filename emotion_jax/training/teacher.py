"""Knowledge distillation: what finished networks make of the very images that are learnt from.

Hinton et al. 2015 (arXiv:1503.02531); that teacher and student see one augmented image is what
counts (Beyer et al. 2022, arXiv:2106.05237).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from emotion_jax.errors import UserError
from emotion_jax.training import trained
from emotion_jax.training.predict import log_probabilities
from emotion_jax.training.step import resized
from emotion_jax.training.trained import Trained

Teach = Callable[[jax.Array], jax.Array]


def load(names: Sequence[str], classes: tuple[str, ...]) -> Teach:
    """The mean of teachers, as a function to be traced into the step.

    Args:
      names: of their checkpoints; at least one.
      classes: of the student.

    Returns:
      Images float [N, S, S, C] in [0, 255] to probabilities float32 [N, K]; each teacher sees them
      at its own size and is as sure as its temperature says.

    Raises:
      UserError: a checkpoint is missing, or has other classes.
    """
    teachers = [trained.load(trained.resolve(Path(name))) for name in names]
    for teacher in teachers:
        if teacher.classes != classes:
            raise UserError(
                f"training.teachers: {teacher.path} knows {', '.join(teacher.classes)}, the data "
                f"has {', '.join(classes)}; a teacher needs the same classes."
            )

    def teach(images: jax.Array) -> jax.Array:
        each = jnp.stack([_probabilities(teacher, images) for teacher in teachers])
        return jax.lax.stop_gradient(each.mean(0))

    return teach


def _probabilities(teacher: Trained, images: jax.Array) -> jax.Array:
    size = teacher.description["image_size"]
    if images.shape[1] != size:
        images = resized(images, size)
    logits = jnp.asarray(teacher.module.apply(teacher.variables, images))
    return jnp.exp(log_probabilities(logits, teacher.temperature))
