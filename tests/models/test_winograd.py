import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from emotion_jax.models import winograd


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def plain(x, w):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.jit
def differences(x, w, dy):
    """Of the value and both gradients, relative to the largest."""
    results = []
    for function in (winograd.conv, plain):
        y, pull = jax.vjp(function, x, w)
        results.append((y, *pull(dy)))
    pairs = zip(*results, strict=True)
    return [jnp.abs(found - wanted).max() / jnp.abs(wanted).max() for found, wanted in pairs]


@pytest.mark.parametrize("m", winograd.POINTS)
def test_the_algorithm_is_exact(m):
    output, kernel, inputs = winograd.transforms(m)
    rng = np.random.default_rng(m)
    d, g = rng.normal(size=m + 2), rng.normal(size=3)
    wanted = [d[i : i + 3] @ g for i in range(m)]
    np.testing.assert_allclose(output @ ((kernel @ g) * (inputs @ d)), wanted, rtol=0, atol=1e-13)


@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    channels=st.integers(1, 20),
    outputs=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=1, height=1, width=1, channels=1, outputs=1, seed=0)
@example(n=2, height=24, width=24, channels=64, outputs=32, seed=0)
@example(n=2, height=12, width=12, channels=128, outputs=16, seed=0)
@example(n=4, height=6, width=6, channels=256, outputs=16, seed=0)
@example(n=2, height=3, width=3, channels=512, outputs=16, seed=0)
@example(n=2, height=4, width=8, channels=512, outputs=16, seed=0)
def test_it_is_lax_in_values_and_gradients(n, height, width, channels, outputs, seed):
    x = normal([seed, 0], n, height, width, channels)
    w = normal([seed, 1], 3, 3, channels, outputs)
    dy = normal([seed, 2], n, height, width, outputs)
    assert max(map(float, differences(x, w, dy))) < 1e-5


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("x64")
def test_float64_shows_no_error_but_rounding():
    x, w, dy = (
        jnp.asarray(np.random.default_rng(i).normal(size=shape))
        for i, shape in enumerate([(2, 11, 8, 5), (3, 3, 5, 4), (2, 11, 8, 4)])
    )
    assert max(map(float, differences(x, w, dy))) < 1e-13


@pytest.mark.parametrize(("side", "m"), [(1, 2), (2, 2), (3, 3), (6, 3), (12, 4), (24, 4), (48, 4)])
def test_the_tile_that_takes_the_fewest_products(side, m):
    assert winograd.tile_size(side, side) == m

    def tiles(k):
        return math.ceil(side / k) ** 2

    assert winograd.tiles((5, side, side, 7), m) == 5 * tiles(m)
    assert all((m + 2) ** 2 * tiles(m) <= (k + 2) ** 2 * tiles(k) for k in winograd.POINTS)


@pytest.mark.parametrize(
    ("n", "side", "m"),
    [
        (1, 24, 4),
        (1, 12, 3),
        (1, 6, 2),
        (8, 6, 3),
        (8, 12, 4),
        (1, 3, None),
        (4, 3, 3),
        (64, 1, None),
    ],
)
def test_few_images_take_smaller_tiles_of_a_frozen_kernel(n, side, m):
    # Smaller tiles have fewer points, so less of the transformed kernel is read.
    assert winograd.frozen_tile_size((n, side, side, 16)) == m


@pytest.mark.parametrize("m", winograd.POINTS)
def test_frozen_kernels_of_every_tile_size(m):
    x, w = normal(0, 2, 7, 5, 20), normal(1, 3, 3, 20, 6)
    found = jax.jit(winograd.frozen(np.asarray(w), m))(x, None)
    wanted = plain(x, w)
    assert jnp.abs(found - wanted).max() / jnp.abs(wanted).max() < 1e-5
