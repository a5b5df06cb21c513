import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.models import grey, lowering, moments


def by_lax(x, w, sign):
    with lowering.plain():
        z = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=lowering.LAYOUT)
        return moments.with_pool(z, sign)


@partial(jax.jit, static_argnums=0)
def with_gradients(function, x, w, sign, cotangents):
    y, pull = jax.vjp(lambda x, w: function(x, w, sign), x, w)
    return y, pull(cotangents)


@settings(max_examples=5, deadline=None)
@given(
    n=st.integers(1, 3),
    height=st.sampled_from([2, 6]),
    width=st.sampled_from([2, 4, 10]),
    channels=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_are_those_of_the_map(n, height, width, channels, seed):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    x, w = normal(n, height, width, 1), normal(3, 3, 1, channels)
    sign = rng.choice([-1.0, 1.0], channels).astype(np.float32)
    cotangents = (normal(channels), normal(channels)), normal(n, height // 2, width // 2, channels)
    found = jax.tree.leaves(with_gradients(grey.with_pool, x, w, sign, cotangents))
    wanted = jax.tree.leaves(with_gradients(by_lax, x, w, sign, cotangents))
    for f, e in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-5 * max(1.0, float(np.abs(e).max())))


def test_the_first_of_equal_pixels_takes_the_gradient():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0].set(1.0)
    w = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    dy = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    zero = jnp.zeros(1)
    dx, dw = with_gradients(grey.with_pool, x, w, jnp.ones(1), ((zero, zero), dy))[1]
    np.testing.assert_array_equal(
        dx[0, :, :, 0], [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(dw[:, :, 0, 0], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("images", "kernel", "dtype"),
    [
        ((2, 6, 6, 3), (3, 3, 3, 4), jnp.float32),
        ((2, 7, 6, 1), (3, 3, 1, 4), jnp.float32),
        ((2, 6, 6, 1), (5, 5, 1, 4), jnp.float32),
        ((2, 6, 6, 1), (3, 3, 1, 4), jnp.bfloat16),
    ],
)
def test_what_it_does_not_take(images, kernel, dtype):
    shapes = ((2, 6, 6, 1), (3, 3, 1, 4)), (images, kernel)
    taken, other = (
        grey.applies(*(jnp.zeros(shape, t) for shape in pair))
        for pair, t in zip(shapes, (jnp.float32, dtype), strict=True)
    )
    assert taken
    assert not other
    with lowering.plain():
        assert not grey.applies(*(jnp.zeros(shape) for shape in shapes[0]))


def test_the_networks_training_pass_stores_no_map_of_its_first_block():
    module = models.build(ModelSettings(widths=(5, 8), dense=(6,)), 3, 32, (0.5,), (0.25,))
    x = np.zeros((7, 32, 32, 1), np.uint8)
    variables = jax.jit(module.init)(jax.random.key(0), x)

    def loss(params, train):
        tree = {**variables, "params": params}
        rngs = {"dropout": jax.random.key(1)}
        logits, _ = module.apply(tree, x, train=train, mutable=["batch_stats"], rngs=rngs)
        return jnp.square(logits).sum()

    def text():
        gradient = jax.jit(jax.grad(partial(loss, train=True)))
        return gradient.lower(variables["params"]).compile().as_text()

    def sizes():
        """Of what is in memory: results of instructions outside of fusions, elements."""
        entry = text().split("ENTRY")[1]
        shapes = re.findall(r"= f32\[([\d,]+)\]", entry)
        return {math.prod(map(int, shape.split(","))) for shape in shapes}

    full = 7 * 32 * 32 * 5
    assert full not in sizes()
    with lowering.plain():
        assert full in sizes()
