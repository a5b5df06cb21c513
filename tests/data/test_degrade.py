import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emotion_jax.config import AugmentSettings, DataSettings
from emotion_jax.data import augment, degrade, tfdata

SETTINGS = AugmentSettings(blur=2.0, noise=20.0)


def faces(n, size, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size, size, channels), np.uint8)


def drawn(s, images, seed=0):
    rng = np.random.default_rng(seed)
    n, size = images.shape[:2]
    p = augment.parameters(rng.random((n, augment.UNIFORMS), np.float32), s, size)
    uniforms = rng.random((n, degrade.UNIFORMS), np.float32)
    return augment.degraded(p, uniforms, rng.standard_normal(images.shape, np.float32), s)


@settings(max_examples=50, deadline=None)
@given(blur=st.floats(0, 8), noise=st.floats(0, 128), seed=st.integers(0, 2**32))
def test_half_of_the_images_are_made_worse_by_up_to_the_setting(blur, noise, seed):
    u = np.random.default_rng(seed).random((400, 2), np.float32)
    for uniforms in (u, jnp.asarray(u)):
        sigmas = degrade.sigmas(uniforms, AugmentSettings(blur=blur, noise=noise))
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
    ours = degrade.blurred(jnp, jnp.asarray(x), jnp.full(3, sigma, jnp.float32))
    theirs = ndimage.gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0), truncate=8)
    inside = slice(12, -12)
    np.testing.assert_allclose(
        ours[:, inside, inside], theirs[:, inside, inside], rtol=0, atol=2e-3
    )


def test_a_blur_keeps_flat_images_and_one_of_zero_keeps_all():
    flat = jnp.full((1, 9, 9, 1), 200.0)
    np.testing.assert_allclose(degrade.blurred(jnp, flat, jnp.array([3.0])), flat, rtol=1e-6)
    x = jnp.asarray(faces(2, 11, 3), jnp.float32)
    np.testing.assert_array_equal(degrade.blurred(jnp, x, jnp.zeros(2)), x)


def test_noise_is_added_last_but_for_the_erased_rectangle():
    s = AugmentSettings(noise=30.0, erase=1.0)
    images = np.full((64, 12, 12, 1), 128, np.uint8)
    p = drawn(s, images)
    changed = np.asarray(augment.apply(jnp.asarray(images), p, s))
    expected = np.clip(images + p.noise, 0, 255)
    for after, before, (y0, x0, y1, x1) in zip(changed, expected, p.box.astype(int), strict=True):
        before[y0:y1, x0:x1] = 127.5
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)
    spread = p.noise.std(axis=(1, 2, 3))
    assert 0.35 < (spread == 0).mean() < 0.65
    assert spread.max() < 1.3 * 30


@pytest.mark.parametrize(("size", "channels"), [(48, 1), (17, 3)])
@pytest.mark.parametrize("ranges", [{"blur": 2.0}, {"noise": 20.0}, {"blur": 3.0, "noise": 9.0,
                                    "rotation": 20.0, "contrast": 0.3, "erase": 0.5}])  # fmt: skip
def test_both_appliers_give_the_same_pixels(size, channels, ranges):
    s = AugmentSettings(**ranges)
    images = faces(16, size, channels)
    p = drawn(s, images)
    ours = np.asarray(augment.apply(jnp.asarray(images), p, s))
    tf = tfdata.require()
    parts = {name: tf.constant(getattr(p, name)) for name in augment.fields(s)}
    data = DataSettings(augment=s)
    theirs = tfdata.apply(tf.constant(images), augment.Parameters(**parts), data).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)
    assert (ours != images).any()
    assert ours.min() >= 0
    assert ours.max() <= 255


def test_a_key_fixes_the_images_and_the_other_numbers_are_those_of_a_run_without():
    images = jnp.asarray(faces(64, 16, 1))
    first, again, other = (augment.augment(images, jax.random.key(k), SETTINGS) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    turned = {"rotation": 20.0, "erase": 0.5}
    worse = augment.augment(images, jax.random.key(1), AugmentSettings(noise=9.0, **turned))
    clean = augment.augment(images, jax.random.key(1), AugmentSettings(**turned))
    untouched = np.asarray((worse == clean).all((1, 2, 3)))
    assert 0.25 < untouched.mean() < 0.75


@pytest.mark.parametrize("ranges", [{"blur": 1.0}, {"noise": 5.0}])
def test_either_alone(ranges):
    s = AugmentSettings(**ranges)
    assert degrade.degrades(s)
    assert set(augment.fields(s)) - set(augment.fields(AugmentSettings())) == set(ranges)
    assert not degrade.degrades(AugmentSettings())


def test_no_device_rounds_grey_values_in_its_products():
    s = AugmentSettings(blur=1.0)
    images = faces(2, 8, 1)
    text = str(jax.make_jaxpr(lambda x: augment.apply(x, drawn(s, images), s))(images))
    products = text.count("dot_general[")
    assert products >= 2
    assert text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products
