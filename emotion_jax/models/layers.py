"""What backbones share, above all layers that pass over memory less often than Flax's.

Those have the same parameters and results as Flax's.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from emotion_jax.config import ModelSettings
from emotion_jax.models import grey, lowering, mixed, moments

Activation = Literal["relu", "gelu", "none"]
ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": nn.gelu,  # by tanh
    "none": lambda x: x,
}


def pool_places(pool: bool, activation: Activation) -> tuple[bool, bool]:
    """Whether a max-pool that is asked for goes before or after the activation.

    What rises commutes with the maximum and then sees fewer pixels; GELU falls before it rises.
    """
    rises = activation != "gelu"
    return pool and rises, pool and not rises


class Backbone(nn.Module):
    """Pixels in, logits out; what lies between is ``features``.

    Attributes:
      classes: number of logits K.
      settings: of the network; each backbone says what it reads.
      mean, std: of the training images by channel, in units of [0, 1]; part of the module, so that
        training, serving and export cannot differ.
    """

    classes: int
    settings: ModelSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def dtype(self) -> Any:
        """Type of the computation."""
        return jnp.dtype(self.settings.dtype)

    @nn.compact
    def __call__(self, image_NHWC: jax.Array, train: bool = False) -> jax.Array:
        """Grey values in [0, 255] (uint8 or float) to float32 logits [N, K].

        With ``train`` it wants a "dropout" rng and updates the collection "batch_stats".
        """
        x_NHWC = normalise(image_NHWC, self.mean, self.std).astype(self.dtype)
        x_NF = self.features(x_NHWC, train)
        # The softmax and the loss want float32.
        logits = dense(self.classes, dtype=self.dtype, kernel_init=self.last_init)(x_NF)
        return logits.astype(jnp.float32)

    @property
    def last_init(self) -> nn.initializers.Initializer:
        """Of the last layer's kernel."""
        return nn.linear.default_kernel_init

    def features(self, x_NHWC: jax.Array, train: bool) -> jax.Array:
        """Normalised pixels to what the logits are made of: ``dtype`` [N, F]."""
        raise NotImplementedError


def normalise(image_NHWC: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Grey values in [0, 255] to float32 of zero mean and unit variance by channel."""
    mean_C, std_C = (jnp.asarray(v, jnp.float32)[None, None, None, :] for v in (mean, std))
    return (image_NHWC.astype(jnp.float32) / 255.0 - mean_C) / std_C


def conv(width: int, side: int, stride: int = 1, groups: int = 1, *, dtype: Any) -> nn.Conv:
    """A convolution without bias, padded by half the kernel's side, as BatchNorm follows."""
    return nn.Conv(
        width,
        (side, side),
        strides=stride,
        padding=side // 2,
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        promote_dtype=mixed.round_inputs,
        conv_general_dilated=lowering.conv,
    )


def dense(units: int, *, dtype: Any, **options: Any) -> nn.Dense:
    """``flax.linen.Dense`` whose weights have float32 gradients."""
    return nn.Dense(
        units,
        dtype=dtype,
        promote_dtype=mixed.round_inputs,
        dot_general=mixed.dot_general,
        **options,
    )


class BatchNorm(nn.Module):
    """``flax.linen.BatchNorm`` with the activation, and a 2x2 max-pool if asked, that follow it.

    Of a window's pixels, once normalised, the largest is that of the largest pixel, or of the
    smallest where the scale is negative: rounding keeps the order. So the pool comes first, and
    the rest runs on a quarter of the pixels, with the same values bit for bit. Not so with GELU
    (``pool_places``).

    Attributes:
      use_running_average: normalise by the statistics of past batches.
      pool: whether the maximum of 2x2 pixels is taken.
      activation: "relu", "gelu" or "none".
      scale_init: of the scale; zeros for the last one of a residual branch.
      momentum: of the running statistics.
      epsilon: added to the variance.
      dtype: of the result; statistics and normalisation are float32.
    """

    use_running_average: bool
    pool: bool = False
    activation: Activation = "relu"
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, source: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        """Float [..., C] to the same shape, or with ``pool`` [N, H, W, C] to [N, H/2, W/2, C].

        Args:
          source: the images and the 3x3 kernel that ``x`` is the convolution of, padded by one
            pixel and with stride 1. Training may then do without ``x`` (grey.py).
        """
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale_C = self.param("scale", self.scale_init, shape, jnp.float32)
        bias_C = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        pool_first, pool_last = pool_places(self.pool, self.activation)
        sign_C = jnp.where(scale_C < 0, -1, 1).astype(x.dtype)
        mean_C, var_C = mean.value, var.value
        if self.use_running_average:
            x = moments.signed_pool(x, sign_C) if pool_first else x
        else:
            if pool_first:
                if source is not None and grey.applies(*source):
                    (mean_C, var_C), x = grey.with_pool(*source, sign_C)
                else:
                    (mean_C, var_C), x = moments.with_pool(x, sign_C)
            else:
                mean_C, var_C = moments.moments(x)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * mean_C
                var.value = self.momentum * var.value + (1 - self.momentum) * var_C
        factor_C = lax.rsqrt(var_C + self.epsilon) * scale_C

        def by_channel(values_C: jax.Array) -> jax.Array:
            return values_C.reshape((1,) * (x.ndim - 1) + shape)

        normal = (x.astype(jnp.float32) - by_channel(mean_C)) * by_channel(factor_C)
        y = ACTIVATIONS[self.activation](normal + by_channel(bias_C)).astype(self.dtype)
        return lowering.max_pool_2x2(y) if pool_last else y


class Dropout(nn.Module):
    """``flax.linen.Dropout`` with a mask that costs no pass over memory.

    Attributes:
      rate: of elements that become zero.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Of any float ``x``; wants a "dropout" rng unless ``deterministic``."""
        if deterministic or self.rate == 0.0:
            return x
        kept = random_words(self.make_rng("dropout"), x.shape) >= np.uint32(self.rate * 2**32)
        return jnp.where(kept, x / (1.0 - self.rate), 0).astype(x.dtype)


def random_words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint32 of ``shape``: a hash of the element's number and of two words of ``key``.

    Threefry took a sixth of a step on the CPU. This mixes with two rounds of lowbias32 (C. Wellons,
    "Prospecting for hash functions", 2018), fit for masks; XLA computes it where it is used. It
    does not depend on how the result is split over devices.
    """
    words = jax.random.bits(key, (2, *[1] * len(shape)))
    number = lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)
    stride = shape[-1]
    for axis in reversed(range(len(shape) - 1)):
        number += lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return _mixed(_mixed(number + words[0]) ^ words[1])


def _mixed(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
