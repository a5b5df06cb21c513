"""What is exported: pixels in, probabilities out, and what is said about it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emotion_jax import models
from emotion_jax.training.predict import log_probabilities
from emotion_jax.training.trained import Trained

PRODUCER = "emotion_jax"
INPUT, OUTPUT = "images", "probabilities"
Runner = Callable[[np.ndarray], np.ndarray]  # uint8 [N, S, S, C] to float32 [N, K]


def applied(trained: Trained) -> Callable[[Any, jax.Array], jax.Array]:
    """(variables, uint8 [N, S, S, C]) to float32 [N, K]."""

    def probabilities(variables: Any, images: jax.Array) -> jax.Array:
        logits = jnp.asarray(trained.module.apply(variables, images))
        return jnp.exp(log_probabilities(logits, trained.temperature))

    return probabilities


def probabilities(trained: Trained) -> Callable[[jax.Array], jax.Array]:
    """uint8 [N, S, S, C] to float32 [N, K]; the variables are constants of it."""
    apply = applied(trained)

    def probabilities(images: jax.Array) -> jax.Array:
        return apply(trained.variables, images)

    return probabilities


def runner(trained: Trained) -> Runner:
    """The model in JAX."""
    apply, variables = jax.jit(applied(trained)), jax.device_put(trained.variables)
    return lambda images: np.asarray(apply(variables, images))


def image_shape(trained: Trained) -> tuple[int, int, int]:
    """[S, S, C] of an image."""
    side = trained.description["image_size"]
    return side, side, trained.description["channels"]


def in_float32(trained: Trained) -> Trained:
    """The same model, computing in float32 whatever it was trained in; its variables always are."""
    settings = trained.config.model
    if settings.dtype == "float32":
        return trained
    about = trained.description
    settings = settings.model_copy(update={"dtype": "float32"})
    module = models.build(
        settings,
        len(trained.classes),
        about["image_size"],
        tuple(about["mean"]),
        tuple(about["std"]),
    )
    config = trained.config.model_copy(update={"model": settings})
    return dataclasses.replace(trained, config=config, module=module)


def describe(trained: Trained) -> dict[str, Any]:
    """What a user of the file needs to know; plain values for JSON."""
    about = trained.description
    side, _, channels = image_shape(trained)
    return {
        "producer": PRODUCER,
        "classes": list(trained.classes),
        "input": f"{INPUT}: uint8 [N, {side}, {side}, {channels}], "
        f"{'grey (ITU-R 601 luma)' if channels == 1 else 'RGB'}, any N >= 1",
        "output": f"{OUTPUT}: float32 [N, {len(trained.classes)}], in the order of the classes",
        "image_size": side,
        "channels": channels,
        "crop": about["crop"],
        "temperature": trained.temperature,
        "model": trained.config.model.model_dump(mode="json"),
        "step": about["step"],
        "fingerprint": about["fingerprint"],
        "versions": about["versions"],
    }
