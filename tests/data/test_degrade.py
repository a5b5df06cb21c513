from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import ndimage

from emotion_jax.config import AugmentSettings
from emotion_jax.data import degrade


def faces(n, size, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size, size, channels), np.uint8)


def degraded(images, seed=0, **ranges):
    return degrade.degraded(jnp.asarray(images), jax.random.key(seed), AugmentSettings(**ranges))


@settings(max_examples=50, deadline=None)
@given(blur=st.floats(0, 8), noise=st.floats(0, 128), seed=st.integers(0, 2**32))
def test_half_of_the_images_are_made_worse_by_up_to_the_setting(blur, noise, seed):
    u = np.random.default_rng(seed).random((400, 2), np.float32)
    sigmas = degrade.sigmas(jnp.asarray(u), AugmentSettings(blur=blur, noise=noise))
    for sigma, largest, column in zip(sigmas, (blur, noise), u.T, strict=True):
        assert sigma.dtype == np.float32
        assert (sigma >= 0).all()
        assert (sigma <= largest * (1 + 1e-6)).all()
        assert (np.asarray(sigma)[column <= 0.5] == 0).all()
        if largest > 1e-3:
            assert (np.asarray(sigma)[column > 0.51] > 0).all()


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_the_blur_is_that_of_scipy_away_from_the_border(sigma):
    x = faces(3, 40, 2).astype(np.float32)
    ours = degrade.blurred(jnp.asarray(x), jnp.full(3, sigma, jnp.float32))
    theirs = ndimage.gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0), truncate=8)
    inside = slice(12, -12)
    np.testing.assert_allclose(
        ours[:, inside, inside], theirs[:, inside, inside], rtol=0, atol=2e-3
    )


def test_a_blur_keeps_flat_images_and_one_of_zero_keeps_all():
    flat = jnp.full((1, 9, 9, 1), 200.0)
    np.testing.assert_allclose(degrade.blurred(flat, jnp.array([3.0])), flat, rtol=1e-6)
    x = jnp.asarray(faces(2, 11, 3), jnp.float32)
    np.testing.assert_array_equal(degrade.blurred(x, jnp.zeros(2)), x)


def test_noise_is_normal_and_of_half_of_the_images():
    images = np.full((200, 24, 24, 1), 128, np.uint8)
    added = np.asarray(degraded(images, noise=30.0)) - 128.0
    spread = added.std(axis=(1, 2, 3))
    assert 0.35 < (spread == 0).mean() < 0.65
    assert 25 < spread.max() < 1.15 * 30
    worst = added[spread.argmax()] / spread.max()
    assert 0.60 < (np.abs(worst) < 1).mean() < 0.76


@pytest.mark.parametrize("value", [0, 255])
def test_grey_values_stay_grey_values(value):
    x = degraded(np.full((20, 8, 8, 3), value, np.uint8), noise=128.0, blur=8.0)
    assert x.dtype == jnp.float32
    assert x.min() >= 0
    assert x.max() <= 255
    assert (x != value).any()


def test_a_key_fixes_the_images_and_neither_depends_on_the_other():
    images = faces(64, 16, 1)
    first, again, other = (degraded(images, seed, blur=2.0, noise=9.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    noise = degraded(images, 1, noise=9.0)
    with_blur = degraded(images, 1, noise=9.0, blur=1e-6)
    np.testing.assert_array_equal(noise, with_blur)


def test_eight_devices_make_the_images_of_one():
    images = faces(16, 12, 1)
    s = AugmentSettings(blur=1.5, noise=20.0)
    mesh = Mesh(np.array(jax.devices()), "batch")
    sharded = jax.device_put(images, NamedSharding(mesh, P("batch")))
    program = jax.jit(partial(degrade.degraded, settings=s))
    one, eight = (program(x, jax.random.key(3)) for x in (jnp.asarray(images), sharded))
    np.testing.assert_allclose(one, eight, rtol=0, atol=0.01)
    assert eight.sharding.shard_shape(eight.shape)[0] == 2  # nothing was gathered


def test_whether_anything_is_made_worse():
    assert degrade.degrades(AugmentSettings(blur=1.0))
    assert degrade.degrades(AugmentSettings(noise=5.0))
    assert not degrade.degrades(AugmentSettings(erase=1.0, brightness=0.5))


def test_no_device_rounds_grey_values_in_its_products():
    text = str(jax.make_jaxpr(partial(degraded, blur=1.0))(faces(2, 8, 1)))
    products = text.count("dot_general[")
    assert products == 2
    assert text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products
