"""Mean and variance by channel, alone and together with the max-pool that follows.

Shape suffixes: N images, H height, W width, C channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from emotion_jax.models import lowering

Moments = tuple[jax.Array, jax.Array]


def moments(x: jax.Array) -> Moments:
    """Mean and biased variance by channel from one pass, as Flax computes them: float32 [C]."""
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean_C, square_C = x.mean(axes), lax.square(x).mean(axes)
    return mean_C, jnp.maximum(0.0, square_C - lax.square(mean_C))


def signed_pool(x_NHWC: jax.Array, sign_C: jax.Array) -> jax.Array:
    """The largest pixel of each 2x2 window, or the smallest where the sign is -1.

    Args:
      x_NHWC: float [N, H, W, C].
      sign_C: 1 or -1, of the same type.

    Returns:
      [N, H // 2, W // 2, C]; gradients as with ``lowering.max_pool_2x2``.
    """
    sign = sign_C[None, None, None, :]
    return lowering.max_pool_2x2(x_NHWC * sign) * sign


def with_pool(x_NHWC: jax.Array, sign_C: jax.Array) -> tuple[Moments, jax.Array]:
    """``moments`` and ``signed_pool`` of the same pixels.

    Training is bound by memory on a TPU, and autodiff's form of this passes ten times over the
    pixels in a step: among others it stores those with the other sign, and the pool's gradient in
    its full size, twice what the two convolutions then read. There ``_together`` needs six passes.
    """

    def apart(x: jax.Array, sign: jax.Array) -> tuple[Moments, jax.Array]:
        return moments(x), signed_pool(x, sign)

    odd = x_NHWC.shape[1] % 2 or x_NHWC.shape[2] % 2
    if odd or lowering.is_plain():
        return apart(x_NHWC, sign_C)
    return lax.platform_dependent(x_NHWC, sign_C, tpu=_together, default=apart)


@jax.custom_vjp
def _together(x: jax.Array, sign: jax.Array) -> tuple[Moments, jax.Array]:
    return _forward(x, sign)[0]


def _forward(x: jax.Array, sign: jax.Array) -> tuple[tuple[Moments, jax.Array], Any]:
    mean, var = moments(x)
    # Everything in the six axes of the windows: XLA fuses nothing across a reshape on a TPU.
    pixels, signs = lowering.windows(x), _six(sign)
    corners = [pixels[:, :, i : i + 1, :, j : j + 1] * signs for i in (0, 1) for j in (0, 1)]
    largest, first = lowering.first_maximum(*corners)
    y, first = (each[:, :, 0, :, 0] for each in (largest * signs, first))
    return ((mean, var), y), (x, first, mean, sign)


def _backward(saved: Any, grads: tuple[Moments, jax.Array]) -> tuple[jax.Array, jax.Array]:
    x, first, mean, sign = saved
    (dmean, dvar), dy = grads
    n = x.size // x.shape[-1]
    # The variance's gradient is 2 (x - mean) / n.
    slope, offset = _six(2 * dvar / n), _six((dmean - 2 * dvar * mean) / n)
    dx = lowering.to_first(first, dy) + (slope * lowering.windows(x) + offset)
    # Or both convolutions that take it would compute it, from a stored gradient of the pool.
    dx = lax.optimization_barrier(dx.astype(x.dtype))
    return dx.reshape(x.shape), jnp.zeros_like(sign)


def _six(values_C: jax.Array) -> jax.Array:
    return values_C.reshape(1, 1, 1, 1, 1, -1)


_together.defvjp(_forward, _backward)
