"""Pictures made worse, so that a network learns to read such as well: blur, then noise.

The sharp images of a data set teach a network to look at edges that a webcam does not show. It
happens within the training step, after all that the pipelines do, so that teachers can see the
images as they were.
"""

import jax
import jax.numpy as jnp

from emotion_jax.config import AugmentSettings

UNIFORMS = 2  # random numbers an image takes


def degrades(settings: AugmentSettings) -> bool:
    """Whether anything is made worse."""
    return bool(settings.blur or settings.noise)


def degraded(images: jax.Array, key: jax.Array, settings: AugmentSettings) -> jax.Array:
    """Draw how much by ``key``, and do it.

    Args:
      images: [n, S, S, C] in [0, 255].
      settings: ``blur`` and ``noise``.

    Returns:
      float32 [n, S, S, C] in [0, 255].
    """
    extents, pixels = jax.random.split(key)
    blur, noise = sigmas(jax.random.uniform(extents, (len(images), UNIFORMS)), settings)
    x = images.astype(jnp.float32)
    if settings.blur:
        x = blurred(x, blur)
    if settings.noise:
        added = noise[:, None, None, None] * jax.random.normal(pixels, x.shape)
        x = jnp.clip(x + added, 0.0, 255.0)
    return x


def sigmas(uniforms: jax.Array, settings: AugmentSettings) -> tuple[jax.Array, jax.Array]:
    """How much, for each image: nothing for half of them, else anything up to the setting.

    Args:
      uniforms: float32 [n, UNIFORMS] in [0, 1).
      settings: ``blur`` and ``noise``.

    Returns:
      Standard deviations, float32 [n]: of the blur, pixels, and of the noise, grey levels.
    """
    share = jnp.maximum(2.0 * uniforms - 1.0, 0.0)
    return settings.blur * share[:, 0], settings.noise * share[:, 1]


def blurred(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """A Gaussian blur of each image.

    The kernel is cut and scaled at the border, so that flat images stay as they are.

    Args:
      x: float32 [n, S, S, C].
      sigma: float32 [n], pixels; 0 changes nothing.

    Returns:
      Of the shape and type of ``x``.
    """
    at = jnp.arange(x.shape[1], dtype=jnp.float32)
    squares = jnp.square(at[:, None] - at[None, :])[None]
    # A product with a matrix costs less than the sum of as many shifted images.
    variance = jnp.square(jnp.maximum(sigma, 1e-3))[:, None, None]
    weights = jnp.exp(-squares / (2.0 * variance))
    weights = weights / weights.sum(-1, keepdims=True)
    # TPUs and GPUs round the factors of a product, here grey values, unless told not to.
    x = jnp.einsum("nij,njkc->nikc", weights, x, precision="highest")
    return jnp.einsum("nkl,nilc->nikc", weights, x, precision="highest")
