"""VGG, as Khaireddin & Chen (2021, arXiv:2105.03588) trained it to 73.3% on FER2013.

Shape suffixes: N images, H height, W width, C channels, F features.
"""

from functools import partial

import jax
from flax import linen as nn

from emotion_jax.models.layers import Backbone, BatchNorm, Dropout, conv


class VGG(Backbone):
    """Pixels in, logits out.

    Theirs is ``widths`` 64, 128, 256, 512, ``convolutions`` 2, ``dense`` 4096, 4096, ``dropout`` 0
    and ``dense_dropout`` 0.2. It differs from ``CNN`` in its head: dense layers with a bias and
    without BatchNorm.

    Attributes:
      settings: ``widths`` (one a block), ``convolutions`` a block, ``dense``, dropouts, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        dtype = self.dtype
        norm_relu = partial(BatchNorm, use_running_average=not train, dtype=dtype)
        for width in s.widths:
            for i in range(s.convolutions):
                x_NHWC = conv(width, 3, dtype=dtype)(x_NHWC)
                x_NHWC = norm_relu(pool=i == s.convolutions - 1)(x_NHWC)
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NF = x_NHWC.reshape(x_NHWC.shape[0], -1)
        for units in s.dense:
            # Without BatchNorm the initial scale is all that keeps the variance through a ReLU.
            x_NF = nn.relu(
                nn.Dense(units, kernel_init=nn.initializers.he_normal(), dtype=dtype)(x_NF)
            )
            x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        return x_NF
