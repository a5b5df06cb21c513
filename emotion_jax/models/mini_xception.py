"""A network of less than 100,000 parameters, after mini-Xception (Arriaga et al. 2017).

arXiv:1710.07557 has 58,000 in depthwise-separable residual blocks. Here no parameter is spent where
there is a free way: shortcuts widen by zeros instead of by 1x1 convolutions, the image is halved by
max-pools, and the head is one average. What is left goes into the 1x1 convolutions of the stages.

Shape suffixes: N images, H height, W width, C channels, K classes.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import Activation, BatchNorm, Dropout, normalise
from emotion_jax.models.residual import Stem, Sum, conv, drop_paths, global_mean


class MiniXception(nn.Module):
    """Pixels in, logits out: a stem, stages of separable residual blocks, the average, the logits.

    Its shape is ``widths`` 24, 48, 80, 112 and ``convolutions`` 2.

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
                block = SeparableBlock(width, s.squeeze, next(rates), pool, s.activation, dtype)
                x_NHWC = block(x_NHWC, train)
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NC = Dropout(s.dense_dropout)(global_mean(x_NHWC), deterministic=not train)
        return nn.Dense(self.classes, dtype=dtype)(x_NC).astype(jnp.float32)


class SeparableBlock(nn.Module):
    """Two depthwise-separable convolutions beside a shortcut that widens by channels of zeros.

    Attributes:
      width: channels of the result, no fewer than of the images.
      squeeze, drop_path, pool, activation, dtype: as in ``BasicBlock``.
    """

    width: int
    squeeze: int = 0
    drop_path: float = 0.0
    pool: bool = False
    activation: Activation = "relu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """Float [N, H, W, C] to [N, H, W, width], or with ``pool`` [N, H // 2, W // 2, width]."""
        norm = partial(BatchNorm, not train, dtype=self.dtype)
        y_NHWC = norm(activation=self.activation)(self._separable(x_NHWC))
        y_NHWC = self._separable(y_NHWC)
        y_NHWC = norm(activation="none", scale_init=nn.initializers.zeros)(y_NHWC)
        wider = [(0, 0)] * 3 + [(0, self.width - x_NHWC.shape[-1])]
        shortcut_NHWC = jnp.pad(x_NHWC, wider)
        merge = Sum(self.squeeze, self.drop_path, self.pool, self.activation, self.dtype)
        return merge(shortcut_NHWC, y_NHWC, train)

    def _separable(self, x_NHWC: jax.Array) -> jax.Array:
        channels = x_NHWC.shape[-1]
        x_NHWC = conv(channels, 3, groups=channels, dtype=self.dtype)(x_NHWC)
        return conv(self.width, 1, dtype=self.dtype)(x_NHWC)
