"""3x3 convolution as a few matrix products: Winograd's F(m x m, 3 x 3).

A tile of m x m results costs (m + 2)^2 products where the definition takes 9 m^2 (Lavin & Gray
2015, arXiv:1509.09308). All three steps are matrix products: the transforms are linear maps of the
(m + 2)^2 points of a tile, the same for every tile and channel. The gradients are the transposed
maps in turn, so the transformed images and the transformed gradient each serve twice.

Shape suffixes: N images, H height, W width, C input and K output channels; P points of a tile, T
tiles of all images, Q pixels of a tile, h and w of the kernel.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KERNEL = 3
# Where the polynomials are evaluated, beside infinity. Of all sets of small fractions these lose
# least in float32, about 1e-6 of the largest value; the textbook's 0, +-1, +-2 lose 6e-6.
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    3: (Fraction(1, 2), Fraction(-1, 2), Fraction(5, 4), Fraction(-5, 4)),
    4: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
# A product takes two cores 4 ps (490 GFLOP/s), a number out of the cache that they share 50 ps.
READ = 12


class Transforms(NamedTuple):
    """The algorithm y = A^T [(G g) * (B^T d)] in one dimension.

    Attributes:
      output: A^T, float64 [m, m + 2].
      kernel: G, float64 [m + 2, 3].
      input: B^T, float64 [m + 2, m + 2].
    """

    output: np.ndarray
    kernel: np.ndarray
    input: np.ndarray


@lru_cache
def transforms(m: int) -> Transforms:
    """Toom and Cook's construction from ``POINTS[m]`` and infinity, exact until the last."""
    points = POINTS[m]
    last = [Fraction(int(i == m - 1)) for i in range(m)]
    output = [[*(p**i for p in points), last[i]] for i in range(m)]
    kernel, inputs = [], []
    for point in points:
        others = [p for p in points if p != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        kernel.append([point**k / scale for k in range(KERNEL)])
        inputs.append([*_coefficients(others), Fraction(0)])
    kernel.append([Fraction(int(k == KERNEL - 1)) for k in range(KERNEL)])
    inputs.append(_coefficients(points))
    return Transforms(*(np.array(matrix, np.float64) for matrix in (output, kernel, inputs)))


def _coefficients(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """Of the polynomial with these roots, from the constant up."""
    found = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        found = [a - root * b for a, b in zip(shifted, [*found, Fraction(0)], strict=True)]
    return found


def tile_size(height: int, width: int) -> int:
    """The m in ``POINTS`` that takes the fewest products for images of this size."""
    return min(POINTS, key=lambda m: math.prod(_grid(height, width, m)) * (m + KERNEL - 1) ** 2)


def frozen_tile_size(shape: tuple[int, ...]) -> int | None:
    """The m for ``frozen`` and images of this shape, or None if the definition is faster.

    What counts: products with a number of the kernel, and the time to read it, as long as that of
    ``READ`` products. The definition has 9 numbers of it and N H W pixels that each is used for.
    """
    n, height, width, _ = shape
    costs = {m: (m + KERNEL - 1) ** 2 * (tiles(shape, m) + READ) for m in POINTS}
    best = min(costs, key=costs.__getitem__)
    return best if costs[best] < KERNEL**2 * (n * height * width + READ) else None


def tiles(shape: tuple[int, ...], m: int) -> int:
    """Tiles of m x m that images of this shape [N, H, W, C] are cut into."""
    n, height, width, _ = shape
    return n * math.prod(_grid(height, width, m))


def _grid(height: int, width: int, m: int) -> tuple[int, int]:
    """Tiles down and across an image."""
    return -(-height // m), -(-width // m)


def _both_axes(matrix: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    """The map of a tile's points, row by row, whose rows and columns ``matrix`` maps."""
    return jnp.asarray(np.kron(matrix, matrix), dtype)


@jax.custom_vjp
def conv(x_NHWC: jax.Array, w_hwCK: jax.Array) -> jax.Array:
    """The 3x3 convolution with stride 1 and SAME padding: float [N, H, W, K]."""
    return _forward(x_NHWC, w_hwCK)[0]


def frozen(w_hwCK: np.ndarray, m: int) -> Callable[[jax.Array, Any], jax.Array]:
    """``conv`` with tiles of ``m`` and this kernel, transformed now: its argument is not used."""
    w_PCK = _kernel(w_hwCK, m)

    def frozen_conv(x_NHWC: jax.Array, w_hwCK: Any) -> jax.Array:
        del w_hwCK
        return _pixels(_tiles(x_NHWC, m) @ w_PCK, x_NHWC.shape, m)

    return frozen_conv


def _forward(
    x_NHWC: jax.Array, w_hwCK: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    height, width = x_NHWC.shape[1:3]
    m = tile_size(height, width)
    x_PTC = _tiles(x_NHWC, m)
    w_PCK = _kernel(w_hwCK, m)
    # An empty array carries the shape of the images.
    saved = (x_PTC, w_PCK, jnp.zeros((0, height, width, 0)))
    return _pixels(x_PTC @ w_PCK, x_NHWC.shape, m), saved


def _kernel(w_hwCK: Any, m: int) -> Any:
    """G g G^T, by NumPy or by JAX: [P, C, K]."""
    kernel_PQ = np.kron(transforms(m).kernel, transforms(m).kernel).astype(w_hwCK.dtype)
    return (kernel_PQ @ w_hwCK.reshape(KERNEL**2, -1)).reshape(-1, *w_hwCK.shape[2:])


def _pixels(y_PTK: jax.Array, shape: tuple[int, ...], m: int) -> jax.Array:
    """A^T y A of the tiles of images [N, H, W, C] of this shape: [N, H, W, K]."""
    n, height, width, _ = shape
    y_QTK = _both_axes(transforms(m).output, y_PTK.dtype) @ y_PTK.reshape(len(y_PTK), -1)
    down, across = _grid(height, width, m)
    y = y_QTK.reshape(m, m, n, down, across, -1).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(n, down * m, across * m, -1)[:, :height, :width]


def _backward(
    saved: tuple[jax.Array, jax.Array, jax.Array], dy_NHWK: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_PTC, w_PCK, like = saved
    n, (height, width) = len(dy_NHWK), like.shape[1:3]
    m = tile_size(height, width)
    algorithm = transforms(m)
    dy_PTK = _spread(dy_NHWK, m)
    dw_PCK = x_PTC.swapaxes(1, 2) @ dy_PTK
    kernel_QP = _both_axes(algorithm.kernel, dw_PCK.dtype).T
    dw = (kernel_QP @ dw_PCK.reshape(len(dw_PCK), -1)).reshape(KERNEL, KERNEL, *w_PCK.shape[1:])
    dx_PTC = dy_PTK @ w_PCK.swapaxes(1, 2)
    dx = _both_axes(algorithm.input, dw_PCK.dtype).T @ dx_PTC.reshape(len(dx_PTC), -1)
    down, across = _grid(height, width, m)
    tiles = dx.reshape(m + 2, m + 2, n, down, across, -1)
    return _overlap_add(tiles)[:, :height, :width], dw


conv.defvjp(_forward, _backward)


def _combined(matrix: np.ndarray, arrays: list[jax.Array]) -> list[jax.Array]:
    """``matrix @ arrays`` for a list of arrays, without its zeros."""
    rows = []
    for row in matrix:
        terms = [float(a) * x if a != 1 else x for a, x in zip(row, arrays, strict=True) if a]
        rows.append(sum(terms[1:], terms[0]))
    return rows


def _tiles(x_NHWC: jax.Array, m: int) -> jax.Array:
    """B^T d B of the tiles, which overlap by two pixels: [P, T, C]."""
    return _points(x_NHWC, transforms(m).input, m, before=1)


def _spread(dy_NHWK: jax.Array, m: int) -> jax.Array:
    """A dy A^T of the tiles: [P, T, K]."""
    return _points(dy_NHWK, transforms(m).output.T, m, before=0)


def _points(x_NHWC: jax.Array, matrix: np.ndarray, m: int, before: int) -> jax.Array:
    """``matrix`` along both axes of the tiles that begin ``before`` pixels before every m-th."""
    n, height, width, c = x_NHWC.shape
    down, across = _grid(height, width, m)
    size = matrix.shape[1]
    after = [m * (tiles - 1) + size - before for tiles in (down, across)]
    pads = [(before, after[0] - height), (before, after[1] - width)]
    padded = jnp.pad(x_NHWC, ((0, 0), *pads, (0, 0)))
    rows = [padded[:, i : i + m * (down - 1) + 1 : m] for i in range(size)]
    halfway = jnp.stack(_combined(matrix, rows))
    columns = [halfway[:, :, :, j : j + m * (across - 1) + 1 : m] for j in range(size)]
    return jnp.stack(_combined(matrix, columns), axis=1).reshape(-1, n * down * across, c)


def _overlap_add(tiles: jax.Array) -> jax.Array:
    """Sum tiles [m + 2, m + 2, N, down, across, C] that overlap by two pixels: [N, H, W, C]."""
    m = len(tiles) - 2
    n, down, across, c = tiles.shape[2:]
    columns = [_joined([tiles[i, j] for j in range(m + 2)], axis=2) for i in range(m + 2)]
    rows = [_joined([column[j] for column in columns], axis=1) for j in range(m)]
    pixels = [jnp.stack([row[i] for row in rows], axis=3) for i in range(m)]
    return jnp.stack(pixels, axis=2).reshape(n, down * m, across * m, c)


def _joined(parts: list[jax.Array], axis: int) -> list[jax.Array]:
    """The m own pixels of each tile, with what its two neighbours along ``axis`` add at the ends.

    Tiles begin one pixel before their own first and end one after their own last.
    """
    before, *own, after = parts
    own[0] = own[0] + _shifted(after, 1, axis)
    own[-1] = own[-1] + _shifted(before, -1, axis)
    return own


def _shifted(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Each tile's neighbour: the one before (``by`` 1) or after (-1); zeros beyond the ends."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (by, 0) if by > 0 else (0, -by)
    start = 0 if by > 0 else -by
    return jax.lax.slice_in_dim(jnp.pad(x, pads), start, start + x.shape[axis], axis=axis)
