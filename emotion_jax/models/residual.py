"""What residual networks are made of.

Shape suffixes: N images, H height, W width, C channels, U hidden units.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models import lowering
from emotion_jax.models.layers import (
    ACTIVATIONS,
    Activation,
    BatchNorm,
    Dropout,
    conv,
    dense,
    pool_places,
)


class Stem(nn.Module):
    """Two 3x3 convolutions at full resolution, then a 2x2 max-pool.

    Attributes:
      width: channels of the result.
      activation: after each BatchNorm.
      dtype: of the computation.
    """

    width: int
    activation: Activation = "relu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """Float [N, H, W, C] to [N, H // 2, W // 2, width]."""
        norm = partial(BatchNorm, not train, activation=self.activation, dtype=self.dtype)
        x_NHWC = norm()(conv(self.width, 3, dtype=self.dtype)(x_NHWC))
        return norm(pool=True)(conv(self.width, 3, dtype=self.dtype)(x_NHWC))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385).

    The shortcut is a 1x1 convolution where the shape changes.

    Attributes:
      width: channels of the result.
      stride: of the first convolution and of the shortcut.
      squeeze: channels by hidden unit of squeeze-and-excitation; 0: none.
      drop_path: rate at which an image skips the branch in training.
      pool: whether the maximum of 2x2 pixels of the result is taken.
      activation: inside the branch and after the sum.
      branch_scale: what the last scale of the branch begins at; at 0 the block begins as its
        shortcut (Goyal et al. 2017, arXiv:1706.02677).
      dtype: of the computation.
    """

    width: int
    stride: int = 1
    squeeze: int = 0
    drop_path: float = 0.0
    pool: bool = False
    activation: Activation = "relu"
    branch_scale: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """Float [N, H, W, C] to [N, H', W', width], H' = ceil(H / stride), halved by ``pool``."""
        norm = partial(BatchNorm, not train, dtype=self.dtype)
        y_NHWC = conv(self.width, 3, self.stride, dtype=self.dtype)(x_NHWC)
        y_NHWC = norm(activation=self.activation)(y_NHWC)
        y_NHWC = conv(self.width, 3, dtype=self.dtype)(y_NHWC)
        scale_init = nn.initializers.constant(self.branch_scale)
        y_NHWC = norm(activation="none", scale_init=scale_init)(y_NHWC)
        if self.stride != 1 or x_NHWC.shape[-1] != self.width:
            x_NHWC = conv(self.width, 1, self.stride, dtype=self.dtype)(x_NHWC)
            x_NHWC = norm(activation="none")(x_NHWC)
        merge = Sum(self.squeeze, self.drop_path, self.pool, self.activation, self.dtype)
        return merge(x_NHWC, y_NHWC, train)


class Sum(nn.Module):
    """The end of a residual block: the branch, weighed, joins the shortcut.

    Attributes:
      squeeze: channels by hidden unit of squeeze-and-excitation (Hu et al. 2018,
        arXiv:1709.01507); 0: none.
      drop_path: rate at which an image skips the branch in training (stochastic depth: Huang et
        al. 2016, arXiv:1603.09382).
      pool: whether the maximum of 2x2 pixels of the result is taken.
      activation: after the sum.
      dtype: of the computation.
    """

    squeeze: int
    drop_path: float
    pool: bool
    activation: Activation
    dtype: Any

    @nn.compact
    def __call__(self, shortcut_NHWC: jax.Array, branch_NHWC: jax.Array, train: bool) -> jax.Array:
        """Float [N, H, W, C] twice to the same, or with ``pool`` to [N, H // 2, W // 2, C].

        With ``train`` and a ``drop_path`` it wants a "dropout" rng.
        """
        gate_N11C = jnp.ones((1, 1, 1, 1), self.dtype)
        if self.squeeze:
            channels = branch_NHWC.shape[-1]
            mean_NC = global_mean(branch_NHWC)
            hidden_NU = dense(max(channels // self.squeeze, 1), dtype=self.dtype)(mean_NC)
            gate_NC = nn.sigmoid(dense(channels, dtype=self.dtype)(nn.relu(hidden_NU)))
            gate_N11C = gate_NC.astype(self.dtype)[:, None, None, :]
        if self.drop_path and train:
            kept = 1.0 - self.drop_path
            shape = (len(branch_NHWC), 1, 1, 1)
            kept_N111 = jax.random.bernoulli(self.make_rng("dropout"), kept, shape)
            gate_N11C = gate_N11C * kept_N111.astype(self.dtype) / kept
        sum_NHWC = shortcut_NHWC + branch_NHWC * gate_N11C
        pool_first, pool_last = pool_places(self.pool, self.activation)
        if pool_first:
            sum_NHWC = lowering.max_pool_2x2(sum_NHWC)
        y_NHWC = ACTIVATIONS[self.activation](sum_NHWC)
        return lowering.max_pool_2x2(y_NHWC) if pool_last else y_NHWC


def global_mean(x_NHWC: jax.Array) -> jax.Array:
    """Average over the pixels, summed in float32: [N, C] of the type of the images."""
    return x_NHWC.astype(jnp.float32).mean((1, 2)).astype(x_NHWC.dtype)


def drop_paths(settings: ModelSettings, stages: int) -> list[float]:
    """The skip rate of each block: from 0 at the first to ``settings.drop_path`` at the last."""
    blocks = stages * settings.convolutions
    return [settings.drop_path * i / max(blocks - 1, 1) for i in range(blocks)]


def pooled_stages(
    block: Callable[..., nn.Module], x_NHWC: jax.Array, train: bool, settings: ModelSettings
) -> jax.Array:
    """A stem, then a stage of blocks a width; each but the last ends with a max-pool, and dropout.

    Called within a compact method, whose module the submodules belong to.

    Args:
      block: by ``width``, ``squeeze``, ``drop_path``, ``pool``, ``activation`` and ``dtype``.
      x_NHWC: normalised images.
      train: as in ``Backbone``.
      settings: ``widths`` of the stem and of each stage, ``convolutions`` blocks a stage, ...
    """
    stem, *widths = settings.widths
    dtype = jnp.dtype(settings.dtype)
    x_NHWC = Stem(stem, settings.activation, dtype)(x_NHWC, train)
    rates = iter(drop_paths(settings, len(widths)))
    for stage, width in enumerate(widths):
        for i in range(settings.convolutions):
            x_NHWC = block(
                width=width,
                squeeze=settings.squeeze,
                drop_path=next(rates),
                pool=i == settings.convolutions - 1 and stage < len(widths) - 1,
                activation=settings.activation,
                dtype=dtype,
            )(x_NHWC, train)
        x_NHWC = Dropout(settings.dropout)(x_NHWC, deterministic=not train)
    return x_NHWC
