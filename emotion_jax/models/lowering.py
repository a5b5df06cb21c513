"""Convolution and pooling, lowered for the backend at hand.

XLA's CPU backend runs matrix products near the machine's peak, but weight gradients of convolutions
and max-pool's backward pass (select-and-scatter) far below it. So on CPU a 3x3 convolution becomes
Winograd's F(2x2, 3x3), sixteen matrix products (Lavin & Gray 2015, arXiv:1509.09308), and the pool
a maximum of strided slices. On GPU and TPU plain lax is right. The target platform decides, not
the machine that traces: ahead-of-time compilation and export trace on CPU for other devices.

Shape suffixes: N images, H height, W width, C input and K output channels; T tiles, P their points.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Below this many input channels the products are too thin for Winograd, and im2col wins.
WINOGRAD_CHANNELS = 16
LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **options: Any,
) -> jax.Array:
    """``lax.conv_general_dilated`` for ``flax.linen.Conv(conv_general_dilated=conv)``.

    Args and result are those of lax. A dense 3x3 convolution of images [N, H, W, C] by a kernel
    [h, w, C, K] in float32 with stride 1 and SAME padding is lowered anew for the CPU.
    """

    def plain(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            w,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            precision=precision,
            **options,
        )

    dilated = any(d is not None and set(d) != {1} for d in (lhs_dilation, rhs_dilation))
    ours = (
        lhs.dtype == rhs.dtype == jnp.float32
        and rhs.shape[:-2] == (3, 3)
        and _in_layout(lhs, rhs, dimension_numbers)
        and rhs.shape[2] == lhs.shape[-1]
        and set(window_strides) == {1}
        and padding in ("SAME", [(1, 1), (1, 1)], ((1, 1), (1, 1)))
        and not dilated
        and not any(value is not None and value != 1 for value in options.values())
    )
    if not ours:
        return plain(lhs, rhs)
    fast = _winograd if rhs.shape[2] >= WINOGRAD_CHANNELS else _im2col
    return lax.platform_dependent(lhs, rhs, cpu=fast, default=plain)


def _in_layout(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> bool:
    given, ours = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
        for numbers in (dimension_numbers, LAYOUT)
    )
    return given == ours


def max_pool_2x2(x_NHWC: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows with stride 2; an odd last row or column is dropped.

    The first maximum of a window, row by row, takes the gradient, on every backend.

    Args:
      x_NHWC: float [N, H, W, C].

    Returns:
      [N, H // 2, W // 2, C].
    """
    return lax.platform_dependent(x_NHWC, cpu=_pool_slices, default=_pool_window)


def _pool_window(x: jax.Array) -> jax.Array:
    # Only a concrete initial value lets lax see a max-pool, whose gradient it knows.
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _corners(x: jax.Array) -> list[jax.Array]:
    """The four pixels of each 2x2 window, row by row."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


@jax.custom_vjp
def _pool_slices(x: jax.Array) -> jax.Array:
    a, b, c, d = _corners(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _pool_slices(x)
    return y, (x, y)


def _pool_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    x, y = saved
    taken = jnp.zeros(y.shape, bool)
    parts = []
    for corner in _corners(x):
        first = (corner == y) & ~taken
        parts.append(jnp.where(first, dy, 0))
        taken |= first
    return (_interleave(parts, x.shape),)


_pool_slices.defvjp(_pool_forward, _pool_backward)


def _interleave(parts: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """The inverse of ``_corners``: four [N, h, w, C] to [N, 2h, 2w, C], then cut or padded."""
    n, h, w, c = parts[0].shape
    rows = [jnp.stack(parts[i : i + 2], axis=3) for i in (0, 2)]  # [N, h, w, 2, C]
    whole = jnp.stack(rows, axis=2).reshape(n, 2 * h, 2 * w, c)
    missing = [(0, max(0, want - have)) for want, have in zip(shape, whole.shape, strict=True)]
    return jnp.pad(whole, missing)[:, : shape[1], : shape[2]]


def _im2col(x_NHWC: jax.Array, w_hwCK: jax.Array) -> jax.Array:
    n, height, width, c = x_NHWC.shape
    padded = jnp.pad(x_NHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(shifts, axis=-1).reshape(-1, 9 * c)
    return (patches @ w_hwCK.reshape(9 * c, -1)).reshape(n, height, width, -1)


# Winograd's transforms along one axis, as sums: B^T d, A^T m, their transposes, and G g.


def _input_1d(d: list[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output_1d(m: list[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_transposed_1d(y: list[jax.Array]) -> list[jax.Array]:
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def _both_axes(transform: Any, grid: list[list[jax.Array]]) -> list[list[jax.Array]]:
    """Apply a transform to the columns of a grid of arrays, then to its rows."""
    columns = [transform([row[j] for row in grid]) for j in range(len(grid[0]))]
    return [transform([column[i] for column in columns]) for i in range(len(columns[0]))]


def _tiles(x: jax.Array) -> jax.Array:
    """B^T d B of the overlapping 4x4 tiles: [16, N * tiles, C]."""
    n, height, width, c = x.shape
    down, across = -(-height // 2), -(-width // 2)
    padded = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    grid = [
        [padded[:, i : i + 2 * down - 1 : 2, j : j + 2 * across - 1 : 2] for j in range(4)]
        for i in range(4)
    ]
    points = [point for row in _both_axes(_input_1d, grid) for point in row]
    return jnp.stack(points).reshape(16, n * down * across, c)


def _kernel_points(w_hwCK: jax.Array) -> jax.Array:
    """G g G^T: [16, C, K]."""
    g = jnp.asarray(G, w_hwCK.dtype)
    points = jnp.einsum("ph,qw,hwck->pqck", g, g, w_hwCK, precision="highest")
    return points.reshape(16, *w_hwCK.shape[2:])


@jax.custom_vjp
def _winograd(x_NHWC: jax.Array, w_hwCK: jax.Array) -> jax.Array:
    return _winograd_forward(x_NHWC, w_hwCK)[0]


def _winograd_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, Any]:
    tiles_PTC = _tiles(x)
    n, height, width, _ = x.shape
    shape = (n, -(-height // 2), -(-width // 2), w.shape[-1])
    products = jnp.matmul(tiles_PTC, _kernel_points(w)).reshape(4, 4, *shape)
    grid = [[products[i, j] for j in range(4)] for i in range(4)]
    parts = [part for row in _both_axes(_output_1d, grid) for part in row]
    return _interleave(parts, (n, height, width, w.shape[-1])), (tiles_PTC, w)


def _winograd_backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    tiles_PTC, w = saved
    # The gradient of a SAME convolution by its input is one by the turned, transposed kernel.
    dx = _winograd_forward(dy, w[::-1, ::-1].swapaxes(2, 3))[0]
    odd = ((0, 0), (0, dy.shape[1] % 2), (0, dy.shape[2] % 2), (0, 0))
    a, b, c, d = _corners(jnp.pad(dy, odd))
    grid = _both_axes(_output_transposed_1d, [[a, b], [c, d]])
    points_PTK = jnp.stack([p for row in grid for p in row]).reshape(16, -1, dy.shape[-1])
    products = jnp.matmul(tiles_PTC.swapaxes(1, 2), points_PTK)
    g = jnp.asarray(G, w.dtype)
    products = products.reshape(4, 4, *w.shape[2:])
    dw = jnp.einsum("ph,qw,pqck->hwck", g, g, products, precision="highest")
    return dx, dw


_winograd.defvjp(_winograd_forward, _winograd_backward)
