"""FerNet: shaped for training on a few CPU cores.

Shape suffixes: N images, H height, W width, C channels, F features.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.models.layers import Backbone, Dropout
from emotion_jax.models.residual import BasicBlock, global_mean, pooled_stages


class FerNet(Backbone):
    """Pixels in, logits out: a stem, stages of residual blocks, two global pools, the logits.

    Every 3x3 convolution has stride 1, the cheapest per product on a CPU (``models/winograd.py``);
    max-pools between stages halve the image. The pixels of full resolution cost most in memory
    traffic, so only the stem sees them. Branches begin at full scale and logits at zero: the usual
    way round the first epochs learn little (docs/accuracy.md). Its shape is ``widths`` 32, 64, 128,
    256, ``convolutions`` 2 and ``squeeze`` 8.

    Attributes:
      settings: ``widths`` (of the stem, then one a stage), ``convolutions`` (blocks a stage),
        ``squeeze``, ``drop_path``, ``activation``, ``dropout``, ``dense_dropout``, dtype.
    """

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """As in ``Backbone``."""
        s = self.settings
        block = partial(BasicBlock, branch_scale=1.0)
        x_NHWC = pooled_stages(block, x_NHWC, train, s)
        x_NF = jnp.concatenate([global_mean(x_NHWC), x_NHWC.max((1, 2))], axis=-1)
        return Dropout(s.dense_dropout)(x_NF, deterministic=not train)

    @property
    def last_init(self) -> nn.initializers.Initializer:
        """Zeros: maxima are large, and what they make of random weights is first to be unlearnt."""
        return nn.initializers.zeros
