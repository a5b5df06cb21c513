import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emotion_jax.config import AugmentSettings
from emotion_jax.data import augment, warp

ALL = {"rotation": 180.0, "shift": 0.5, "shear": 45.0, "zoom": 0.5, "flip": True}


@pytest.mark.parametrize(("size", "channels"), [(48, 1), (17, 3)])
@pytest.mark.parametrize("ranges", [{"zoom": 0.3, "flip": True}, ALL], ids=["zoom", "*"])
def test_a_tpu_resamples_by_products_to_the_same_pixels(size, channels, ranges):
    rng = np.random.default_rng(0)
    uniforms = rng.random((16, augment.UNIFORMS), np.float32)
    matrix = augment.parameters(uniforms, AugmentSettings(**ranges), size).matrix
    images = jnp.asarray(rng.integers(0, 256, (16, size, size, channels)), jnp.float32)
    ours, theirs = (
        np.asarray(jax.jit(way)(images, matrix)) for way in (warp._by_products, warp._by_gathers)
    )
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)


@pytest.mark.parametrize(("platform", "gathers"), [("cpu", True), ("cuda", True), ("tpu", False)])
def test_the_target_decides_how_it_is_resampled(platform, gathers):
    s = AugmentSettings(rotation=10.0)
    traced = jax.jit(lambda images, key: augment.augment(images, key, s)).trace(
        jnp.zeros((4, 12, 12, 1), jnp.uint8), jax.random.key(0)
    )
    assert ("gather" in traced.lower(lowering_platforms=(platform,)).as_text()) == gathers
