"""Affine resampling of images, lowered to what each platform does fast."""

import jax
import jax.numpy as jnp
from jax import lax


def warp(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Bilinear resampling, the nearest pixel beyond the border.

    Args:
      x: float32 [n, S, S, C].
      matrix: float32 [n, 2, 3], from an output pixel (x, y, 1) to the input point (x, y).
    """
    return lax.platform_dependent(x, matrix, tpu=_by_products, default=_by_gathers)


def _coordinates(matrix: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Where each output pixel comes from, x and y: float32 [n, S, S] within the image."""
    at = jnp.arange(size, dtype=jnp.float32)
    column, row = at[None, None, :], at[None, :, None]

    def coordinate(i: int) -> jax.Array:
        a, b, c = (matrix[:, i, j][:, None, None] for j in range(3))
        return jnp.clip(a * column + b * row + c, 0.0, size - 1.0)

    return coordinate(0), coordinate(1)


def _by_gathers(x: jax.Array, matrix: jax.Array) -> jax.Array:
    n, size, _, channels = x.shape
    across, down = _coordinates(matrix, size)
    left, top = jnp.floor(across), jnp.floor(down)
    weight_x, weight_y = (across - left)[..., None], (down - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, size - 1), jnp.minimum(top + 1, size - 1)
    flat = x.reshape(n, size * size, channels)

    def tap(y: jax.Array, z: jax.Array) -> jax.Array:
        index = (y * size + z).reshape(n, size * size, 1)
        taken = jnp.take_along_axis(flat, index, axis=1, mode="promise_in_bounds")
        return taken.reshape(n, size, size, channels)

    upper = tap(top, left) * (1.0 - weight_x) + tap(top, right) * weight_x
    lower = tap(bottom, left) * (1.0 - weight_x) + tap(bottom, right) * weight_x
    return upper * (1.0 - weight_y) + lower * weight_y


def _by_products(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """For a TPU, which gathers single pixels one by one but multiplies matrices at no cost."""
    n, size, _, channels = x.shape
    at = jnp.arange(size, dtype=jnp.float32)[None, None, :]

    def weights(coordinate: jax.Array) -> jax.Array:
        """Of the two pixels beside a coordinate, all others 0: [n, S * S, S]."""
        return jnp.maximum(1.0 - jnp.abs(coordinate.reshape(n, -1, 1) - at), 0.0)

    across, down = (weights(coordinate) for coordinate in _coordinates(matrix, size))
    # A grey value is exact in bfloat16, a weight is not.
    lines = jnp.einsum("npy,nyxc->npxc", down, x, precision="highest")
    return (across[..., None] * lines).sum(2).reshape(n, size, size, channels)
