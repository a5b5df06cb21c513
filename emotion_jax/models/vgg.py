"""VGG, as Khaireddin & Chen (2021, arXiv:2105.03588) trained it to 73.3% on FER2013.

Shape suffixes: N images, H height, W width, C channels, F features.
"""

import jax
from flax import linen as nn

from emotion_jax.models.cnn import pooled_blocks
from emotion_jax.models.layers import Backbone, Dropout, dense


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
        x_NF = pooled_blocks(x_NHWC, train, s)
        for units in s.dense:
            # Without BatchNorm the initial scale is all that keeps the variance through a ReLU.
            x_NF = nn.relu(
                dense(units, kernel_init=nn.initializers.he_normal(), dtype=self.dtype)(x_NF)
            )
            x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        return x_NF
