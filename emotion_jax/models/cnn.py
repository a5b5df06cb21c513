"""The seed's network: blocks of convolution + BatchNorm + ReLU + max-pool + dropout, a dense head.

Shape suffixes: N images, H height, W width, C channels, K classes, F features.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models import lowering
from emotion_jax.models.layers import BatchNorm, Dropout, normalise


class CNN(nn.Module):
    """Pixels in, logits out.

    Attributes:
      classes: number of logits K.
      settings: ``widths`` (one a block), ``convolutions`` a block, ``dense``, dropouts, dtype.
      mean, std: of the training images by channel, in units of [0, 1]; part of the module, so that
        training, serving and export cannot differ.
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
        conv = partial(
            nn.Conv,
            kernel_size=(3, 3),
            use_bias=False,  # BatchNorm's bias follows
            dtype=dtype,
            conv_general_dilated=lowering.conv,
        )
        norm_relu = partial(BatchNorm, use_running_average=not train, dtype=dtype)
        x_NHWC = normalise(image_NHWC, self.mean, self.std).astype(dtype)
        for width in s.widths:
            for _ in range(s.convolutions - 1):
                x_NHWC = norm_relu()(conv(width)(x_NHWC))
            x_NHWC = norm_relu(pool=True)(conv(width)(x_NHWC))
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NF = x_NHWC.reshape(x_NHWC.shape[0], -1)
        for units in s.dense:
            x_NF = norm_relu()(nn.Dense(units, use_bias=False, dtype=dtype)(x_NF))
            x_NF = Dropout(s.dense_dropout)(x_NF, deterministic=not train)
        # The softmax and the loss want float32.
        return nn.Dense(self.classes, dtype=dtype)(x_NF).astype(jnp.float32)
