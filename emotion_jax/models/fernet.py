"""FerNet: shaped for training on a few CPU cores.

Shape suffixes: N images, H height, W width, C channels, K classes, F features.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import Dropout, normalise
from emotion_jax.models.residual import BasicBlock, Stem, drop_paths, global_mean


class FerNet(nn.Module):
    """Pixels in, logits out: a stem, stages of residual blocks, two global pools, the logits.

    Every 3x3 convolution has stride 1, the cheapest per product on a CPU (``models/winograd.py``);
    max-pools between stages halve the image. The pixels of full resolution cost most in memory
    traffic, so only the stem sees them. Its shape is ``widths`` 32, 64, 128, 256,
    ``convolutions`` 2 and ``squeeze`` 8.

    Attributes:
      classes: number of logits K.
      settings: ``widths`` (of the stem, then one a stage), ``convolutions`` (blocks a stage),
        ``squeeze``, ``drop_path``, ``activation``, ``dropout``, ``dense_dropout``, dtype.
      mean, std: of the training images by channel, in units of [0, 1].
    """

    classes: int
    settings: ModelSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @nn.compact
    def __call__(self, image_NHWC: jax.Array, train: bool = False) -> jax.Array:
        """Grey values in [0, 255] (uint8 or float) to float32 logits [N, K].

        With ``train`` it wants a "dropout" rng and updates the collection "batch_stats".
        """
        s = self.settings
        dtype = jnp.dtype(s.dtype)
        stem, *widths = s.widths
        x_NHWC = normalise(image_NHWC, self.mean, self.std).astype(dtype)
        x_NHWC = Stem(stem, s.activation, dtype)(x_NHWC, train)
        rates = iter(drop_paths(s, len(widths)))
        for stage, width in enumerate(widths):
            for i in range(s.convolutions):
                pool = i == s.convolutions - 1 and stage < len(widths) - 1
                block = BasicBlock(width, 1, s.squeeze, next(rates), pool, s.activation, dtype)
                x_NHWC = block(x_NHWC, train)
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NF = jnp.concatenate([global_mean(x_NHWC), x_NHWC.max((1, 2))], axis=-1)
        x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        return nn.Dense(self.classes, dtype=dtype)(x_NF).astype(jnp.float32)
