"""A network of less than 100,000 parameters, after mini-Xception (Arriaga et al. 2017).

arXiv:1710.07557 has 58,000 in depthwise-separable residual blocks. Here no parameter is spent where
there is a free way: shortcuts widen by zeros instead of by 1x1 convolutions, the image is halved by
max-pools, and the head is one average. What is left goes into the 1x1 convolutions of the stages.

Shape suffixes: N images, H height, W width, C channels.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.models.layers import Activation, Backbone, BatchNorm, Dropout, conv
from emotion_jax.models.residual import Sum, global_mean, pooled_stages


class MiniXception(Backbone):
    """Pixels in, logits out: a stem, stages of separable residual blocks, the average, the logits.

    Its shape is ``widths`` 24, 48, 80, 112 and ``convolutions`` 2.

    Attributes:
      settings: ``widths`` (of the stem, then one a stage), ``convolutions`` (blocks a stage),
        ``squeeze``, ``drop_path``, ``activation``, ``dropout``, ``dense_dropout``, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        x_NHWC = pooled_stages(SeparableBlock, x_NHWC, train, s)
        return Dropout(s.dense_dropout)(global_mean(x_NHWC), deterministic=not train)


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
