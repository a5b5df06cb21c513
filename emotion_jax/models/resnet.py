"""ResNet with the stem for small images (He et al. 2016, arXiv:1512.03385, section 4.2).

Shape suffixes: N images, H height, W width, C channels.
"""

import jax

from emotion_jax.models.layers import Backbone, BatchNorm, Dropout, conv
from emotion_jax.models.residual import BasicBlock, drop_paths, global_mean


class ResNet(Backbone):
    """Pixels in, logits out: a 3x3 convolution, stages of basic blocks, the average, the logits.

    ResNet-18 is ``widths`` 64, 128, 256, 512 and ``convolutions`` 2.

    Attributes:
      settings: ``widths`` (one a stage; all stages but the first halve the image),
        ``convolutions`` (blocks a stage), ``squeeze``, ``drop_path``, ``activation``, ``dropout``,
        ``dense_dropout``, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        dtype = self.dtype
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
        return Dropout(s.dense_dropout)(global_mean(x_NHWC), deterministic=not train)
