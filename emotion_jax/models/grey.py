"""The first block of a network of grey images, for the CPU, without its map.

A 3x3 convolution of one channel makes K channels of each pixel, of which BatchNorm wants two
moments and a 2x2 max-pool a quarter. Both follow from the 4x4 pixels that a window of the pool
sees: writing the map, its gradient and reading both again takes longer than the sums.

Shape suffixes: N images, H height, W width, K channels; M windows of the pool (N * H/2 * W/2),
P the 16 pixels of a window, Q its four corners, T the nine taps of the kernel, row by row all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emotion_jax.models import lowering, moments, products
from emotion_jax.models.moments import Moments

SIDE, CORNERS, TAPS = 4, 4, 9


def applies(x: jax.Array, w: jax.Array) -> bool:
    """Whether ``with_pool`` takes these images [N, H, W, C] and this kernel."""
    return (
        x.dtype == w.dtype == jnp.float32
        and w.shape[:3] == (3, 3, 1)
        and not any(side % 2 for side in x.shape[1:3])
        and not lowering.is_plain()
    )


def with_pool(x_NHW1: jax.Array, w_331K: jax.Array, sign_K: jax.Array) -> tuple[Moments, jax.Array]:
    """``moments.with_pool`` of the convolution padded by one pixel: on a CPU without its map."""

    def by_map(x: jax.Array, w: jax.Array, sign: jax.Array) -> tuple[Moments, jax.Array]:
        return moments.with_pool(_conv(x, w), sign)

    return lax.platform_dependent(x_NHW1, w_331K, sign_K, cpu=moments_and_pool, default=by_map)


def _conv(x: jax.Array, w: jax.Array) -> jax.Array:
    return lowering.conv(x, w, (1, 1), "SAME", dimension_numbers=lowering.LAYOUT)


def _taps() -> np.ndarray:
    """[P, Q, T]: 1 where the tap of the kernel that lies on the corner sees the pixel."""
    place_PQT = np.zeros((SIDE * SIDE, CORNERS, TAPS), np.float32)
    for corner in range(CORNERS):
        for tap in range(TAPS):
            row, column = corner // 2 + tap // 3, corner % 2 + tap % 3
            place_PQT[SIDE * row + column, corner, tap] = 1.0
    return place_PQT


@jax.custom_vjp
def moments_and_pool(
    x_NHW1: jax.Array, w_331K: jax.Array, sign_K: jax.Array
) -> tuple[Moments, jax.Array]:
    """``moments.moments`` and ``moments.signed_pool`` of the convolution padded by one pixel.

    Args:
      x_NHW1: float32 images of even sides.
      w_331K: float32 kernel.
      sign_K: 1, or -1 where the smallest pixel of a window is wanted, float32.

    Returns:
      (mean, biased variance), each [K], and the pooled map [N, H/2, W/2, K].
    """
    return _forward(x_NHW1, w_331K, sign_K)[0]


def _forward(
    x: jax.Array, w: jax.Array, sign: jax.Array
) -> tuple[tuple[Moments, jax.Array], tuple[jax.Array, ...]]:
    w_TK = w.reshape(TAPS, -1)
    window_MP = _windows(x)
    mean_T, covariance_TT = _patch_moments(window_MP)
    spread_TK = covariance_TT @ w_TK
    mean_K, var_K = mean_T @ w_TK, jnp.maximum(0.0, (w_TK * spread_TK).sum(0))
    y, first = lowering.first_maximum(*_corners(x, w * sign[None, None, None]))
    saved = (x, w, sign, window_MP, first, mean_T, spread_TK)
    return ((mean_K, var_K), y * sign[None, None, None]), saved


def _backward(
    saved: tuple[jax.Array, ...], grads: tuple[Moments, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, w, sign, window_MP, first, mean_T, spread_TK = saved
    (dmean_K, dvar_K), dy = grads
    dy_MK, first_MK = (each.reshape(-1, each.shape[-1]) for each in (dy, first))
    # One product of all four would write a map as large as the one that is not stored.
    seen_PQK = jnp.stack(
        [window_MP.T @ jnp.where(first_MK == corner, dy_MK, 0) for corner in range(CORNERS)], 1
    )
    pool_TK = jnp.einsum("pqt,pqk->tk", _taps(), seen_PQK)
    dw = pool_TK + mean_T[:, None] * dmean_K[None] + 2 * spread_TK * dvar_K[None]
    return _image_gradient(x, w, first, grads), dw.reshape(w.shape), jnp.zeros_like(sign)


def _image_gradient(
    x: jax.Array, w: jax.Array, first: jax.Array, grads: tuple[Moments, jax.Array]
) -> jax.Array:
    """By the map after all; XLA drops this where nobody asks for it, as in training."""
    (dmean_K, dvar_K), dy = (jax.tree.map(lambda g: g[None, None, None], grads[0]), grads[1])
    z, pull = jax.vjp(lambda image: _conv(image, w), x)
    n = z.size // z.shape[-1]
    centred = z - z.mean((0, 1, 2), keepdims=True)
    dz: Any = lowering.to_first(first, dy).reshape(z.shape)
    return pull(dz + (dmean_K + 2 * dvar_K * centred) / n)[0]


def _windows(x_NHW1: jax.Array) -> jax.Array:
    """[M, P]: what each window of the pool sees through the kernel."""
    pixels = [pixel[..., 0] for row in _pixels(x_NHW1) for pixel in row]
    return jnp.stack(pixels, axis=-1).reshape(-1, SIDE * SIDE)


def _pixels(x_NHW1: jax.Array) -> list[list[jax.Array]]:
    """The 4x4 pixels of all windows, by row and column: each [N, H/2, W/2, 1]."""
    height, width = x_NHW1.shape[1:3]
    padded = jnp.pad(x_NHW1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        [padded[:, i : i + height - 1 : 2, j : j + width - 1 : 2] for j in range(SIDE)]
        for i in range(SIDE)
    ]


def _patch_moments(window_MP: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean [T] and covariance [T, T] of the pixels under the taps, over all patches."""
    n, taps_PQT = CORNERS * window_MP.shape[0], _taps()
    mean_T = jnp.einsum("p,pqt->t", window_MP.sum(0), taps_PQT) / n
    products_PP = window_MP.T @ window_MP
    square_TT = jnp.einsum("ab,aqt,bqu->tu", products_PP, taps_PQT, taps_PQT) / n
    return mean_T, square_TT - mean_T[:, None] * mean_T[None]


def _corners(x_NHW1: jax.Array, w_331K: jax.Array) -> list[jax.Array]:
    """The convolution at each corner of the windows."""
    pixels = _pixels(x_NHW1)
    corners = []
    for row in (0, 1):
        for column in (0, 1):
            seen = [pixels[row + t // 3][column + t % 3] for t in range(TAPS)]
            corners.append(products.weighted_sum(seen, w_331K))
    return corners


moments_and_pool.defvjp(_forward, _backward)
