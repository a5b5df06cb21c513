"""Pictures made worse, so that a network learns to read such as well: blur, then noise.

The sharp images of a data set teach a network to look at edges that a webcam does not show.
"""

from typing import Any

import numpy as np

from emotion_jax.config import AugmentSettings

UNIFORMS = 2  # random numbers an image takes


def degrades(settings: AugmentSettings) -> bool:
    """Whether anything is made worse."""
    return bool(settings.blur or settings.noise)


def sigmas(uniforms: Any, settings: AugmentSettings) -> tuple[Any, Any]:
    """How much, for each image: nothing for half of them, else anything up to the setting.

    Args:
      uniforms: float32 [n, UNIFORMS] in [0, 1), a NumPy or a JAX array; the result is of its kind.
      settings: ``blur`` and ``noise``.

    Returns:
      Standard deviations, float32 [n]: of the blur, pixels, and of the noise, grey levels.
    """
    xp = uniforms.__array_namespace__()
    share = xp.maximum(2.0 * uniforms - 1.0, 0.0).astype(xp.float32)
    return settings.blur * share[:, 0], settings.noise * share[:, 1]


def blurred(lib: Any, x: Any, sigma: Any) -> Any:
    """A Gaussian blur of each image, in JAX and TensorFlow alike.

    The kernel is cut and scaled at the border, so that flat images stay as they are.

    Args:
      lib: jax.numpy or tensorflow.
      x: float32 [n, S, S, C].
      sigma: float32 [n], pixels; 0 changes nothing.

    Returns:
      Of the shape and type of ``x``.
    """
    at = np.arange(x.shape[1], dtype=np.float32)
    squares = np.square(at[:, None] - at[None, :])[None]
    # A product with a matrix costs less than the sum of as many shifted images.
    variance = lib.maximum(sigma, 1e-3)[:, None, None] ** 2
    weights = lib.exp(-squares / (2.0 * variance))
    weights = weights / lib.einsum("nij->ni", weights)[..., None]
    x = lib.einsum("nij,njkc->nikc", weights, x)
    return lib.einsum("nkl,nilc->nikc", weights, x)
