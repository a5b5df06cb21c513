"""Networks without training."""

from pathlib import Path

import jax
import numpy as np

from emotion_jax import config, models
from emotion_jax.data.preprocess import CONVENTION
from emotion_jax.training.trained import Trained

CLASSES = ("sad", "happy", "angry")  # not sorted: the checkpoint's order counts
SIZE = 12


def make_trained(temperature=None, channels=1):
    settings = config.from_mapping({"model": {"widths": (4,), "dense": ()}}, "tests")
    module = models.build(settings.model, len(CLASSES), SIZE, (0.5,) * channels, (0.1,) * channels)
    images = np.zeros((1, SIZE, SIZE, channels), np.uint8)
    variables = jax.device_get(jax.jit(module.init)(jax.random.key(3), images))
    description = {
        "image_size": SIZE,
        "channels": channels,
        "crop": CONVENTION,
        "temperature": temperature,
    }
    hashes = np.empty(0, np.uint64)
    return Trained(Path("step"), description, settings, CLASSES, module, variables, hashes)
