"""Convolution and pooling, lowered for the backend at hand.

XLA's CPU backend runs matrix products near the machine's peak, but weight gradients of convolutions
and max-pool's backward pass (select-and-scatter) far below it. So on CPU a 3x3 convolution becomes
Winograd's (winograd.py), or one product of its patches (products.py, which has the 1x1 and the
depthwise ones too), and the pool a maximum of slices. On GPU and TPU plain lax is right. The target
platform decides, not the machine that traces: ahead-of-time compilation and export trace on CPU for
other devices.

Shape suffixes: N images, H height, W width, C input and K output channels.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emotion_jax.models import mixed, products, winograd

# Below this many input channels or tiles the products are too thin for Winograd, and im2col wins:
# python tests/benchmark/convolutions.py. Few tiles are not worth the transform of the kernel.
WINOGRAD_CHANNELS = 16
WINOGRAD_TILES = 16
Conv = Callable[[jax.Array, jax.Array], jax.Array]
LAYOUT = ("NHWC", "HWIO", "NHWC")
_PLAIN = ContextVar("plain", default=False)
_FROZEN = ContextVar("frozen", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within, functions are traced as lax has them, for every backend: to count or compare."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_plain() -> bool:
    """Whether this is traced within ``plain``."""
    return _PLAIN.get()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Within, kernels that are arrays when a program is traced are transformed there and then.

    For the CPU and programs that run often on few images; they hold up to four times the bytes of
    the kernels. Of a function whose parameters are arguments nothing changes.
    """
    token = _FROZEN.set(True)
    try:
        yield
    finally:
        _FROZEN.reset(token)


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

    Args and result are those of lax. Lowered anew for the CPU are, in float32 of images
    [N, H, W, C]: 3x3 convolutions padded by one pixel (dense ones, and depthwise ones with stride
    1), and 1x1 convolutions without padding. A kernel of another type than the images is rounded
    to theirs (``mixed.rounded``).
    """

    def as_lax(x: jax.Array, w: jax.Array) -> jax.Array:
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

    if lhs.dtype != rhs.dtype:
        return mixed.rounded(as_lax)(lhs, rhs)
    dilated = any(d is not None and set(d) != {1} for d in (lhs_dilation, rhs_dilation))
    usual = (
        lhs.ndim == rhs.ndim == 4
        and lhs.dtype == jnp.float32
        and _in_layout(lhs, rhs, dimension_numbers)
        and not dilated
        and not any(value is not None and value != 1 for value in options.values())
    )
    if not usual or _PLAIN.get():
        return as_lax(lhs, rhs)
    known = np.asarray(rhs) if _FROZEN.get() and not isinstance(rhs, jax.core.Tracer) else None
    fast = _for_cpu(
        lhs.shape, rhs.shape, tuple(window_strides), padding, feature_group_count, known
    )
    if fast is None:
        return as_lax(lhs, rhs)
    return lax.platform_dependent(lhs, rhs, cpu=fast, default=as_lax)


def _for_cpu(
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Any,
    groups: int,
    known: np.ndarray | None,
) -> Conv | None:
    """What computes the convolution faster than lax does, if anything.

    Args:
      known: the kernel if it is to be transformed now.
    """
    sides = kernel[:2]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images[1:3], sides, strides, padding)
    pads = tuple(map(tuple, padding))
    if sides == (1, 1) and groups == 1 and pads == ((0, 0), (0, 0)):
        return partial(products.pointwise, strides=strides)
    if sides != (3, 3) or not all(pad in (0, 1) for pair in pads for pad in pair):
        return None
    if any(size + sum(pair) < 3 for size, pair in zip(images[1:3], pads, strict=True)):
        return None  # no place for the kernel
    if groups == 1 and strides != (1, 1):
        return partial(products.im2col, strides=strides, pads=pads)
    if strides != (1, 1) or pads != ((1, 1), (1, 1)):
        return None
    if groups == 1:
        few = products.one_channel if kernel[2] == 1 else products.im2col
        # Of a batch whose size is not known yet (export) there may be any number of tiles.
        any_size = not isinstance(images[0], int)
        if kernel[2] < WINOGRAD_CHANNELS:
            return few
        if known is not None and not any_size:
            m = winograd.frozen_tile_size(images)
            return winograd.frozen(known, m) if m else few
        m = winograd.tile_size(*images[1:3])
        return winograd.conv if any_size or winograd.tiles(images, m) >= WINOGRAD_TILES else few
    return products.depthwise if groups == images[-1] == kernel[-1] else None


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
    if _PLAIN.get():
        return _pool_window(x_NHWC)
    return lax.platform_dependent(x_NHWC, cpu=_pool_slices, default=_pool_window)


def _pool_window(x: jax.Array) -> jax.Array:
    # Only a concrete initial value lets lax see a max-pool, whose gradient it knows.
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def windows(x: jax.Array) -> jax.Array:
    """[N, h, 2, w, 2, C]; an odd last row or column is left out."""
    n, height, width, c = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, c)


def first_maximum(*corners: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest of four pixels a window, and which is the first one that large (uint8)."""
    a, b, c, d = corners
    y = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    first = jnp.where(a == y, 0, jnp.where(b == y, 1, jnp.where(c == y, 2, 3)))
    return y, first.astype(jnp.uint8)


def to_first(first: jax.Array, dy: jax.Array) -> jax.Array:
    """``dy`` where each window's first maximum is: [N, h, w, C] to [N, h, 2, w, 2, C]."""
    # One expression over the six axes, so that XLA computes it inside whatever takes it.
    place = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    return jnp.where(first[:, :, None, :, None] == place, dy[:, :, None, :, None], 0)


@jax.custom_vjp
def _pool_slices(x: jax.Array) -> jax.Array:
    return first_maximum(*_corners(x))[0]


def _corners(x: jax.Array) -> list[jax.Array]:
    """The four pixels of each window, row by row."""
    pixels = windows(x)
    return [pixels[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]


def _pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y, first = first_maximum(*_corners(x))
    # An empty array carries the shape of x.
    return y, (first, jnp.zeros((0, *x.shape[1:3], 0)))


def _pool_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    first, like = saved
    n, h, w, c = dy.shape
    missing = [(0, like.shape[1] - 2 * h), (0, like.shape[2] - 2 * w)]
    dx = to_first(first, dy).reshape(n, 2 * h, 2 * w, c)
    return (jnp.pad(dx, ((0, 0), *missing, (0, 0))),)


_pool_slices.defvjp(_pool_forward, _pool_backward)
