"""Convolutions by matrix products and by shifted sums, for the CPU.

Where XLA's CPU backend runs convolutions well it is forwards; their weight gradients and whatever
is depthwise take several times as long as the same sums written out.

Shape suffixes: N images, H height, W width, C input and K output channels; h and w of the kernel.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Pads = tuple[tuple[int, int], ...]
ONE_PIXEL = ((1, 1), (1, 1))


def pointwise(x_NHWC: jax.Array, w_11CK: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The 1x1 convolution without padding: one product of the pixels that it looks at."""
    x_NHWC = x_NHWC[:, :: strides[0], :: strides[1]]
    n, height, width, c = x_NHWC.shape
    return (x_NHWC.reshape(-1, c) @ w_11CK.reshape(c, -1)).reshape(n, height, width, -1)


def im2col(
    x_NHWC: jax.Array,
    w_33CK: jax.Array,
    strides: tuple[int, ...] = (1, 1),
    pads: Pads = ONE_PIXEL,
) -> jax.Array:
    """The 3x3 convolution as one product of all patches."""
    shifts = _shifts(x_NHWC, strides, pads)
    n, height, width, c = shifts[0].shape
    patches = jnp.concatenate(shifts, axis=-1).reshape(-1, 9 * c)
    return (patches @ w_33CK.reshape(9 * c, -1)).reshape(n, height, width, -1)


def depthwise(x_NHWC: jax.Array, w_331C: jax.Array) -> jax.Array:
    """The depthwise 3x3 convolution with stride 1, padded by a pixel: nine multiply-adds."""
    return weighted_sum(_shifts(x_NHWC, (1, 1), ONE_PIXEL), w_331C)


def weighted_sum(seen: Sequence[jax.Array], w_331K: jax.Array) -> jax.Array:
    """The nine multiply-adds of what each tap sees, row by row: [N, H, W, 1 or K]."""
    taps = w_331K.reshape(9, 1, 1, 1, -1)
    terms = [pixels * tap for pixels, tap in zip(seen, taps, strict=True)]
    return sum(terms[1:], terms[0])


@jax.custom_vjp
def one_channel(x_NHW1: jax.Array, w_331K: jax.Array) -> jax.Array:
    """The 3x3 convolution of grey images, padded by a pixel: nine multiply-adds.

    In inference they run inside the loop that takes them. In training one product of the patches
    is faster: its result is needed several times, and the patches again for the gradient.
    """
    return weighted_sum(_shifts(x_NHW1, (1, 1), ONE_PIXEL), w_331K)


def _one_channel_forward(
    x: jax.Array, w: jax.Array
) -> tuple[jax.Array, Callable[[jax.Array], tuple[jax.Array, jax.Array]]]:
    return jax.vjp(im2col, x, w)


def _one_channel_backward(
    pull: Callable[[jax.Array], tuple[jax.Array, jax.Array]], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return pull(dy)


one_channel.defvjp(_one_channel_forward, _one_channel_backward)


def _shifts(x_NHWC: jax.Array, strides: tuple[int, ...], pads: Pads) -> list[jax.Array]:
    """The pixel under each of the kernel's nine taps, row by row: each [N, H', W', C]."""
    padded = jnp.pad(x_NHWC, ((0, 0), *pads, (0, 0)))
    down, across = ((size - 3) // s + 1 for size, s in zip(padded.shape[1:3], strides, strict=True))
    rows, columns = strides
    return [
        padded[
            :, i : i + rows * (down - 1) + 1 : rows, j : j + columns * (across - 1) + 1 : columns
        ]
        for i in range(3)
        for j in range(3)
    ]
