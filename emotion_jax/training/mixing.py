"""Mixup and CutMix: each image with another of its batch, and their labels likewise.

Shape suffixes: N images, H height, W width, C channels, K classes.
"""

import jax
import jax.numpy as jnp

from emotion_jax.config import TrainingSettings


def mixed(
    images_NHWC: jax.Array, targets_NK: jax.Array, key: jax.Array, settings: TrainingSettings
) -> tuple[jax.Array, jax.Array]:
    """Mix a batch with itself in reverse order: batches are drawn at random, so any order will do.

    Args:
      images_NHWC: float in [0, 255].
      targets_NK: float32, probabilities of the classes.
      key: of this step.
      settings: ``mixup`` (Zhang et al. 2018) and ``cutmix`` (Yun et al. 2019) are the parameters
        of the Beta distribution that an image's share is drawn from; 0: off. With both on, each
        image takes one or the other with equal chance.

    Returns:
      Of the same shapes.
    """
    if not (settings.mixup or settings.cutmix):
        return images_NHWC, targets_NK
    coin_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    n, height, width, _ = images_NHWC.shape
    share_N = jnp.ones(n)
    shape = (n, height, width)
    keep_NHW = jnp.ones(shape)
    if settings.mixup:
        share_N = jax.random.beta(mixup_key, settings.mixup, settings.mixup, (n,))
        keep_NHW = jnp.broadcast_to(share_N[:, None, None], shape)
    if settings.cutmix:
        cut_NHW = 1.0 - _boxes(cutmix_key, settings.cutmix, shape)
        cut = jax.random.bernoulli(coin_key, 0.5 if settings.mixup else 1.0, (n,))
        keep_NHW = jnp.where(cut[:, None, None], cut_NHW, keep_NHW)
        share_N = jnp.where(cut, cut_NHW.mean((1, 2)), share_N)
    keep, share = keep_NHW[..., None], share_N[:, None]
    return (
        keep * images_NHWC + (1.0 - keep) * images_NHWC[::-1],
        share * targets_NK + (1.0 - share) * targets_NK[::-1],
    )


def _boxes(key: jax.Array, alpha: float, shape: tuple[int, ...]) -> jax.Array:
    """1 within a box of area 1 - Beta(alpha, alpha) about a random centre, 0 outside: [N, H, W]."""
    n, height, width = shape
    area_key, place_key = jax.random.split(key)
    side = jnp.sqrt(1.0 - jax.random.beta(area_key, alpha, alpha, (n,)))
    centre_2N = jax.random.uniform(place_key, (2, n))

    def within(size: int, centre: jax.Array) -> jax.Array:
        at = jnp.arange(size, dtype=jnp.float32)[None, :] + 0.5
        distance = jnp.abs(at - size * centre[:, None])
        return distance < 0.5 * size * side[:, None]

    rows, columns = within(height, centre_2N[0]), within(width, centre_2N[1])
    return (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)
