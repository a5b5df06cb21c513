"""One augmentation policy: a sampler of plain arrays, and its applier in JAX.

The sampler turns uniform numbers into matrices, gains and boxes in NumPy or JAX alike; the tf
applier is in tfdata.py. Transformations as in Keras' ImageDataGenerator: about the image's centre,
bilinear, the nearest pixel beyond the border.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emotion_jax.config import AugmentSettings
from emotion_jax.data import warp

UNIFORMS = 14  # random numbers an image takes; one column a use in ``parameters``
MID_GREY = 127.5
ERASE_ASPECT = 3.3  # of random erasing's rectangle (Zhong et al. 2017)


class Parameters(NamedTuple):
    """What is done to n images, as plain arrays.

    Attributes:
      matrix: float32 [n, 2, 3], from an output pixel (x, y, 1) to the input point (x, y).
      gain, bias: float32 [n]; grey values become gain * value + bias, clipped to [0, 255].
      box: float32 [n, 4], y0 x0 y1 x1 of the half-open rectangle that is greyed out.
    """

    matrix: Any
    gain: Any
    bias: Any
    box: Any


def warps(settings: AugmentSettings) -> bool:
    """Whether images are resampled."""
    s = settings
    return any((s.rotation, s.shift, s.shear, s.zoom))


def parameters(uniforms: Any, settings: AugmentSettings, size: int) -> Parameters:
    """The policy.

    Args:
      uniforms: float32 [n, UNIFORMS] in [0, 1), a NumPy or a JAX array; the result is of its kind.
      settings: the ranges.
      size: side of the images, pixels.
    """
    xp = uniforms.__array_namespace__()
    s = settings
    u = [uniforms[:, i] for i in range(UNIFORMS)]
    signed = [2.0 * column - 1.0 for column in u]

    angle = signed[0] * math.radians(s.rotation)
    shear = signed[1] * math.radians(s.shear)
    zoom_x, zoom_y = 1.0 + s.zoom * signed[2], 1.0 + s.zoom * signed[3]
    one = xp.ones_like(u[4])
    mirror = xp.where(u[4] < 0.5, -one, one) if s.flip else one
    shift_x, shift_y = s.shift * size * signed[5], s.shift * size * signed[6]
    # Rows of rotation @ shift @ shear @ zoom @ mirror, as in Keras' apply_affine_transform.
    xx, xy = mirror * zoom_x * xp.cos(angle), -zoom_y * xp.sin(angle + shear)
    yx, yy = mirror * zoom_x * xp.sin(angle), zoom_y * xp.cos(angle + shear)
    centre = (size - 1) / 2.0
    x0 = centre - (xx + xy) * centre + xp.cos(angle) * shift_x - xp.sin(angle) * shift_y
    y0 = centre - (yx + yy) * centre + xp.sin(angle) * shift_x + xp.cos(angle) * shift_y
    matrix = xp.stack([xp.stack([xx, xy, x0], 1), xp.stack([yx, yy, y0], 1)], 1)

    brightness, contrast = 1.0 + s.brightness * signed[7], 1.0 + s.contrast * signed[8]
    gain = brightness * contrast
    bias = brightness * (1.0 - contrast) * MID_GREY

    area = s.erase_area[0] + (s.erase_area[1] - s.erase_area[0]) * u[9]
    aspect = xp.exp(signed[10] * math.log(ERASE_ASPECT))
    height = xp.clip(xp.round(xp.sqrt(area * aspect) * size), 1.0, size)
    width = xp.clip(xp.round(xp.sqrt(area / aspect) * size), 1.0, size)
    # Any place is as likely; rounding can lift the product to the bound that it excludes.
    top = xp.minimum(xp.floor(u[11] * (size - height + 1.0)), size - height)
    left = xp.minimum(xp.floor(u[12] * (size - width + 1.0)), size - width)
    box = xp.stack([top, left, top + height, left + width], 1)
    box = xp.where((u[13] < s.erase)[:, None], box, xp.zeros_like(box))
    return Parameters(*(a.astype(xp.float32) for a in (matrix, gain, bias, box)))


def apply(images: jax.Array, p: Parameters, settings: AugmentSettings) -> jax.Array:
    """Apply the policy.

    Args:
      images: uint8 [n, S, S, C].
      p: from ``parameters``.
      settings: the same; what is off in them is left out of the program.

    Returns:
      float32 [n, S, S, C] in [0, 255].
    """
    x = images.astype(jnp.float32)
    if warps(settings):
        x = warp.warp(x, p.matrix)
    return change_pixels(jnp, x, p, settings)


def change_pixels(lib: Any, x: Any, p: Parameters, settings: AugmentSettings) -> Any:
    """All of the policy but the warp, in JAX and TensorFlow alike.

    Args:
      lib: jax.numpy or tensorflow, of which only what they have in common is used.
      x: float32 [n, S, S, C] in [0, 255], warped where ``warps(settings)``.
      p: from ``parameters``.
      settings: the same.

    Returns:
      Of the shape, type and range of ``x``.
    """
    size = x.shape[1]
    if settings.flip and not warps(settings):
        x = lib.where(p.matrix[:, 0, 0][:, None, None, None] < 0, x[:, :, ::-1], x)
    if settings.brightness or settings.contrast:
        gain, bias = (a[:, None, None, None] for a in (p.gain, p.bias))
        x = lib.minimum(lib.maximum(gain * x + bias, 0.0), 255.0)
    if settings.erase:
        at = np.arange(size, dtype=np.float32)[None, :]
        y0, x0, y1, x1 = (p.box[:, i, None] for i in range(4))
        rows, columns = (y0 <= at) & (y1 > at), (x0 <= at) & (x1 > at)
        inside = rows[:, :, None] & columns[:, None, :]
        x = lib.where(inside[..., None], MID_GREY, x)
    return x


def augment(images: jax.Array, key: jax.Array, settings: AugmentSettings) -> jax.Array:
    """Sample the policy with ``key`` and apply it: uint8 to float32 [n, S, S, C]."""
    n, size = images.shape[:2]
    uniforms = jax.random.uniform(key, (n, UNIFORMS), jnp.float32)
    return apply(images, parameters(uniforms, settings, size), settings)
