"""The tf.data pipeline: streams from memory or disk, augments on the host, any size of data set.

TensorFlow is imported when a pipeline is made, and kept off the accelerators.
"""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from emotion_jax.config import DataSettings
from emotion_jax.data import augment, stream
from emotion_jax.data.stream import Examples
from emotion_jax.errors import UserError

PREFETCH = 4  # batches made ahead


@lru_cache(maxsize=1)
def require() -> ModuleType:
    """Import TensorFlow, blind to accelerators.

    Raises:
      UserError: it is not installed, or has taken an accelerator already.
    """
    # TensorFlow greets on stderr when it has oneDNN, which nothing here would use.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError(
            'data.pipeline: tfdata needs TensorFlow: pip install "emotion-jax[tfdata]", '
            "or use --data.pipeline resident."
        ) from None
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:
            if tf.config.list_logical_devices(kind):
                raise UserError(
                    f"TensorFlow was started before emotion_jax and holds the {kind}; "
                    "restart the process, or use --data.pipeline resident."
                ) from None
    return tf


def batches(
    examples: Examples,
    settings: DataSettings,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    rows: slice = slice(None),
    image_shape: tuple[int, int, int],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The augmented batches of steps ``start`` to ``stop`` - 1.

    A batch is a pure function of (seed, step), so a run resumes without iterator state.

    Args:
      examples: the train split.
      settings: the augmentation.
      seed: of the order and the augmentation.
      batch_size: of the global batch.
      start, stop: steps, from 0.
      rows: of the global batch that this process feeds.
      image_shape: (S, S, C).

    Yields:
      float32 [b, S, S, C] in [0, 255] and the targets, int32 [b] or float32 [b, K].

    Raises:
      UserError: TensorFlow is missing, or an image cannot be read any more.
    """
    tf = require()
    failed: list[UserError] = []

    def sample(step: np.int64) -> tuple[np.ndarray, ...]:
        try:
            return drawn_at(step)
        except UserError as error:  # TensorFlow would make an error of its own of it
            failed.append(error)
            raise

    def drawn_at(step: np.int64) -> tuple[np.ndarray, ...]:
        chosen = stream.batch_indices(seed, int(step), len(examples), batch_size)[rows]
        rng = np.random.default_rng([seed, int(step), 1])
        uniforms = rng.random((batch_size, augment.UNIFORMS), np.float32)[rows]
        p = augment.parameters(uniforms, settings.augment, image_shape[0])
        # Not a tensor of the whole split: it would take the memory twice.
        return (examples.images(chosen), examples.targets[chosen], *p)

    def make(step: Any) -> tuple[Any, Any]:
        types = (tf.uint8, tf.as_dtype(examples.targets.dtype))
        types += (tf.float32,) * len(augment.Parameters._fields)
        images, targets, *drawn = tf.numpy_function(sample, [step], types, stateful=False)
        images = tf.ensure_shape(images, (None, *image_shape))
        images = apply(images, augment.Parameters(*drawn), settings)
        return images, tf.ensure_shape(targets, (None, *examples.targets.shape[1:]))

    dataset = tf.data.Dataset.range(start, stop)
    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _told(dataset.prefetch(PREFETCH).as_numpy_iterator(), failed)


def _told(batches: Iterator[Any], failed: Sequence[UserError]) -> Iterator[Any]:
    """The batches; what kept one from being read is raised as it was."""
    try:
        yield from batches
    except require().errors.OpError:
        if failed:
            raise failed[0] from None
        raise


def apply(images: Any, p: augment.Parameters, settings: DataSettings) -> Any:
    """``augment.apply`` in TensorFlow, a whole batch at a time.

    Args:
      images: uint8 tensor [b, S, S, C].
      p: tensors or arrays.
      settings: what is off in ``settings.augment`` is left out of the graph.

    Returns:
      float32 tensor [b, S, S, C] in [0, 255].
    """
    tf = require()
    s = settings.augment
    size = images.shape[1]
    x = tf.cast(images, tf.float32)
    if augment.warps(s):
        affine = tf.reshape(tf.ensure_shape(p.matrix, (None, 2, 3)), (-1, 6))
        # The op's eight numbers are the rows of a homography from output to input (x, y, 1).
        transforms = tf.pad(affine, [[0, 0], [0, 2]])
        x = tf.raw_ops.ImageProjectiveTransformV3(
            images=x,
            transforms=transforms,
            output_shape=(size, size),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )
        x = tf.ensure_shape(x, images.shape)
    return tf.ensure_shape(augment.change_pixels(tf, x, p, s), images.shape)
