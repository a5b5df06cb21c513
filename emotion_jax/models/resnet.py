"""ResNet with the stem for small images (He et al. 2016, arXiv:1512.03385, section 4.2).

Shape suffixes: N images, H height, W width, C channels, K classes.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import BatchNorm, Dropout, normalise
from emotion_jax.models.residual import BasicBlock, conv, drop_paths, global_mean


class ResNet(nn.Module):
    """Pixels in, logits out: a 3x3 convolution, stages of basic blocks, the average, the logits.

    ResNet-18 is ``widths`` 64, 128, 256, 512 and ``convolutions`` 2.

    Attributes:
      classes: number of logits K.
      settings: ``widths`` (one a stage; all stages but the first halve the image),
        ``convolutions`` (blocks a stage), ``squeeze``, ``drop_path``, ``activation``, ``dropout``,
        ``dense_dropout``, dtype.
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
        x_NHWC = normalise(image_NHWC, self.mean, self.std).astype(dtype)
        x_NHWC = conv(s.widths[0], 3, dtype=dtype)(x_NHWC)
        x_NHWC = BatchNorm(not train, activation=s.activation, dtype=dtype)(x_NHWC)
        rates = iter(drop_paths(s, len(s.widths)))
        for stage, width in enumerate(s.widths):
            for i in range(s.convolutions):
                stride = 2 if stage and not i else 1
                block = BasicBlock(
                    width, stride, s.squeeze, next(rates), activation=s.activation, dtype=dtype
                )
                x_NHWC = block(x_NHWC, train)
            x_NHWC = Dropout(s.dropout)(x_NHWC, deterministic=not train)
        x_NC = Dropout(s.dense_dropout)(global_mean(x_NHWC), deterministic=not train)
        return nn.Dense(self.classes, dtype=dtype)(x_NC).astype(jnp.float32)
