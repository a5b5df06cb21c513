"""VGG, as Khaireddin & Chen (2021, arXiv:2105.03588) trained it to 73.3% on FER2013.

Shape suffixes: N images, H height, W width, C channels, K classes, F features.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import BatchNorm, Dropout, normalise
from emotion_jax.models.residual import conv


class VGG(nn.Module):
    """Pixels in, logits out.

    Theirs is ``widths`` 64, 128, 256, 512, ``convolutions`` 2, ``dense`` 4096, 4096, ``dropout`` 0
    and ``dense_dropout`` 0.2. It differs from ``CNN`` in its head: dense layers with a bias and
    without BatchNorm.

    Attributes:
      classes: number of logits K.
      settings: ``widths`` (one a block), ``convolutions`` a block, ``dense``, dropouts, dtype.
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
        norm_relu = partial(BatchNorm, use_running_average=not train, dtype=dtype)
        x_NHWC = normalise(image_NHWC, self.mean, self.std).astype(dtype)
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
        return nn.Dense(self.classes, dtype=dtype)(x_NF).astype(jnp.float32)
