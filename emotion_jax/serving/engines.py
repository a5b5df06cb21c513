"""The checkpoints that a server offers, each with a queue of frames and one of pictures."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from emotion_jax import files
from emotion_jax.inference.annotate import jpeg
from emotion_jax.inference.faces import Mtcnn
from emotion_jax.inference.recognizer import Recognizer, Result
from emotion_jax.serving.batcher import Batcher, Work
from emotion_jax.serving.limits import Limits
from emotion_jax.training import trained as trained_lib
from emotion_jax.training.trained import Trained

# Pixels in a frame of 480: someone within three metres of a laptop's camera. Smaller faces cost
# more time than all others together.
LIVE_FACE = 40
BATCH = 8  # frames of different clients that are looked at together
WARM = (480, 360)  # a frame as the page sends it


class Engine:
    """A checkpoint at work.

    Attributes:
      name: among the engines.
      trained: what the checkpoint holds.
      frames: looks at small images at once; large faces only.
      pictures: looks at images one by one, as scripts/predict.py does.
    """

    def __init__(self, name: str, trained: Trained, limits: Limits) -> None:
        """Compile for the batches that are usual.

        Raises:
          UserError: what the detector needs is not installed.
        """
        self.name, self.trained = name, trained
        live = Recognizer(trained, Mtcnn(LIVE_FACE), pixel_cap=limits.pixels)
        still = Recognizer(trained, "mtcnn", pixel_cap=limits.pixels)
        self.frames = Batcher(_work(live), BATCH, limits.clients)
        self.pictures = Batcher(_work(still), 1, limits.pictures)
        shape = (live.preprocess.image_size,) * 2 + (live.preprocess.channels,)
        for size in (1, 2, 4, BATCH):
            live.probabilities(np.zeros((size, *shape), np.uint8))
        still.probabilities(np.zeros((1, *shape), np.uint8))
        blank = jpeg(Image.new("RGB", WARM))
        for recognizer in (live, still):
            recognizer.predict(blank)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.trained.classes


def load(checkpoints: Sequence[Path], limits: Limits) -> dict[str, Engine]:
    """An engine a checkpoint, by names that tell them apart, in their order.

    Raises:
      UserError: a checkpoint is not there or not whole, or something is not installed.
    """
    return {
        name: Engine(name, trained_lib.load(trained_lib.resolve(path)), limits)
        for name, path in files.named(checkpoints)
    }


def _work(recognizer: Recognizer) -> Work:
    cores = os.cpu_count() or 1

    def work(images: Sequence[bytes]) -> Sequence[Result]:
        workers = min(len(images), cores)
        return list(recognizer.results(images, chunk=len(images), workers=workers))

    return work
