"""The seed's network: blocks of convolution + BatchNorm + ReLU + max-pool + dropout, a dense head.

Shape suffixes: N images, H height, W width, C channels, F features.
"""

from functools import partial

import jax
import jax.numpy as jnp

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import Backbone, BatchNorm, Dropout, conv, dense


class CNN(Backbone):
    """Pixels in, logits out.

    Attributes:
      settings: ``widths`` (one a block), ``convolutions`` a block, ``dense``, dropouts, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        norm_relu = partial(BatchNorm, use_running_average=not train, dtype=self.dtype)
        x_NF = pooled_blocks(x_NHWC, train, s)
        for units in s.dense:
            x_NF = norm_relu()(dense(units, use_bias=False, dtype=self.dtype)(x_NF))
            x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        return x_NF


def pooled_blocks(x_NHWC: jax.Array, train: bool, settings: ModelSettings) -> jax.Array:
    """Convolution + BatchNorm + ReLU, so many a block, then max-pool and dropout: flat [N, F].

    Called within a compact method, whose module the submodules belong to.
    """
    dtype = jnp.dtype(settings.dtype)
    norm_relu = partial(BatchNorm, use_running_average=not train, dtype=dtype)
    for width in settings.widths:
        for i in range(settings.convolutions):
            convolution = conv(width, 3, dtype=dtype)
            z_NHWC = convolution(x_NHWC)
            source = (x_NHWC, convolution.variables["params"]["kernel"])
            x_NHWC = norm_relu(pool=i == settings.convolutions - 1)(z_NHWC, source)
        x_NHWC = Dropout(settings.dropout)(x_NHWC, deterministic=not train)
    return x_NHWC.reshape(x_NHWC.shape[0], -1)
