"""The seed's network: blocks of convolution + BatchNorm + ReLU + max-pool + dropout, a dense head.

Shape suffixes: N images, H height, W width, C channels, F features.
"""

from functools import partial

import jax
from flax import linen as nn

from emotion_jax.models.layers import Backbone, BatchNorm, Dropout, conv


class CNN(Backbone):
    """Pixels in, logits out.

    Attributes:
      settings: ``widths`` (one a block), ``convolutions`` a block, ``dense``, dropouts, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        dtype = self.dtype
        norm_relu = partial(BatchNorm, use_running_average=not train, dtype=dtype)
        for width in s.widths:
            for _ in range(s.convolutions - 1):
                x_NHWC = norm_relu()(conv(width, 3, dtype=dtype)(x_NHWC))
            x_NHWC = norm_relu(pool=True)(conv(width, 3, dtype=dtype)(x_NHWC))
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NF = x_NHWC.reshape(x_NHWC.shape[0], -1)
        for units in s.dense:
            x_NF = norm_relu()(nn.Dense(units, use_bias=False, dtype=dtype)(x_NF))
            x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        return x_NF
