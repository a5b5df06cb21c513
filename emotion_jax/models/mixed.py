"""Products in bfloat16 whose weights have float32 gradients.

Flax rounds the weights first, so their gradients come out in bfloat16, and that is what devices
then sum over the batch. A TPU's matrix unit sums in float32 anyway: here it is asked for that.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

Product = Callable[[jax.Array, jax.Array], jax.Array]


def round_inputs(
    *arrays: jax.Array | None, dtype: Any = None, inexact: bool = True
) -> list[jax.Array | None]:
    """For ``promote_dtype`` of Flax's layers: of inputs, kernel and bias the inputs alone become
    ``dtype``.
    """
    inputs, *weights = arrays
    return [None if inputs is None else inputs.astype(dtype), *weights]


def rounded(product: Product) -> Product:
    """``product`` of inputs x and of weights that are rounded to the type of x.

    The gradient by the weights keeps their type; on a TPU it is not rounded on the way either.

    Args:
      product: bilinear, of two arrays of one type.
    """

    @jax.custom_vjp
    def apply(x: jax.Array, w: jax.Array) -> jax.Array:
        return product(x, w.astype(x.dtype))

    def backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, w = saved
        (dx,) = jax.vjp(lambda x: product(x, w.astype(x.dtype)), x)[1](dy)
        return dx, lax.platform_dependent(x, w, dy, tpu=wide, default=narrow)

    def narrow(x: jax.Array, w: jax.Array, dy: jax.Array) -> jax.Array:
        (dw,) = jax.vjp(lambda v: product(x, v), w.astype(x.dtype))[1](dy)
        return dw.astype(w.dtype)

    def wide(x: jax.Array, w: jax.Array, dy: jax.Array) -> jax.Array:
        # By default a TPU multiplies float32 in bfloat16, which is what x and dy were.
        (dw,) = jax.vjp(lambda v: product(x.astype(v.dtype), v), w)[1](dy.astype(w.dtype))
        return dw

    apply.defvjp(lambda x, w: (apply(x, w), (x, w)), backward)
    return apply


def dot_general(
    lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
    """``lax.dot_general`` for ``flax.linen.Dense(dot_general=...)``, ``rhs`` as in ``rounded``."""

    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.dot_general(x, w, dimension_numbers, **options)

    return product(lhs, rhs) if lhs.dtype == rhs.dtype else rounded(product)(lhs, rhs)
