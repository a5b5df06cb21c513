from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from emotion_jax.models import layers
from emotion_jax.models.layers import BatchNorm, Dropout


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


class Flax(nn.Module):
    """What ``BatchNorm`` stands for."""

    use_running_average: bool
    pool: bool
    activation: str = "relu"
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        norm = nn.BatchNorm(self.use_running_average, momentum=0.9, dtype=self.dtype, name="norm")
        x = {"relu": nn.relu, "gelu": nn.gelu, "none": lambda x: x}[self.activation](norm(x))
        return nn.max_pool(x, (2, 2), (2, 2)) if self.pool else x


def variables(seed, channels):
    rng = np.random.default_rng(seed)
    params = {"scale": normal([seed, 1], channels), "bias": normal([seed, 2], channels)}
    variance = jnp.asarray(rng.uniform(0.5, 2.0, channels), jnp.float32)
    return params, {"mean": normal([seed, 3], channels), "var": variance}


@partial(jax.jit, static_argnames=("module", "nested"))
def trained(module, params, stats, x, dy, nested):
    """Value, gradients by parameters and x, and the updated statistics."""

    def apply(params, x):
        tree = {"params": params, "batch_stats": stats}
        if nested:
            tree = {name: {"norm": leaves} for name, leaves in tree.items()}
        y, updated = module.apply(tree, x, mutable=["batch_stats"])
        return y, updated["batch_stats"]["norm"] if nested else updated["batch_stats"]

    y, pull, updated = jax.vjp(apply, params, x, has_aux=True)
    return y, pull(dy), updated


@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(1, 5),
    height=st.integers(2, 7),
    width=st.integers(2, 7),
    channels=st.integers(1, 9),
    pool=st.booleans(),
    activation=st.sampled_from(["relu", "gelu", "none"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_training_is_as_with_flax(n, height, width, channels, pool, activation, seed):
    params, stats = variables(seed, channels)
    x = normal([seed, 4], n, height, width, channels)
    shape = (n, height // 2, width // 2, channels) if pool else x.shape
    dy = normal([seed, 5], *shape)
    found = trained(BatchNorm(False, pool, activation), params, stats, x, dy, nested=False)
    wanted = trained(Flax(False, pool, activation), params, stats, x, dy, nested=True)
    assert found[0].shape == shape
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(f, w, rtol=0, atol=2e-5 * max(1.0, float(np.abs(w).max())))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_evaluation_is_flax_bit_for_bit(activation, pool, dtype):
    params, stats = variables(0, 8)
    assert (params["scale"] < 0).any()
    x = normal(1, 3, 7, 6, 8).astype(dtype)
    tree = {"params": params, "batch_stats": stats}
    found = BatchNorm(True, pool, activation, dtype=jnp.dtype(dtype)).apply(tree, x)
    nested = {name: {"norm": leaves} for name, leaves in tree.items()}
    wanted = Flax(True, pool, activation, jnp.dtype(dtype)).apply(nested, x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted)


def test_statistics_do_not_move_at_the_start():
    start = BatchNorm(False).init(jax.random.key(0), 5.0 + normal(0, 4, 3))["batch_stats"]
    np.testing.assert_array_equal(start["mean"], np.zeros(3))
    np.testing.assert_array_equal(start["var"], np.ones(3))


def drop(key, x, rate=0.25):
    return Dropout(rate).apply({}, x, deterministic=False, rngs={"dropout": key})


@pytest.mark.parametrize("rate", [0.0001, 0.1, 0.25, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    n = 400_000
    y = np.asarray(drop(jax.random.key(1), jnp.ones((n,)), rate))
    dropped = (y == 0).sum()
    assert abs(dropped - n * rate) < 5 * np.sqrt(n * rate * (1 - rate))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_rests_in_evaluation_and_at_rate_zero():
    x = normal(0, 5, 4)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, deterministic=True), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, deterministic=False), x)


def test_dropout_lets_the_gradient_through_where_it_kept():
    x = normal(0, 50, 4)
    y, pull = jax.vjp(lambda x: drop(jax.random.key(0), x), x)
    (dx,) = pull(jnp.ones_like(y))
    np.testing.assert_allclose(dx, np.where(y == 0, 0, 1 / 0.75), rtol=1e-6)


def test_random_words_are_uniform_and_independent():
    words = np.asarray(layers.random_words(jax.random.key(3), (64, 24, 24, 8)))
    assert words.dtype == np.uint32
    n = words.size
    bits = np.unpackbits(words.reshape(-1).view(np.uint8)).reshape(n, 32)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    counts = np.bincount(words.reshape(-1) >> 24, minlength=256)
    chi_square = ((counts - n / 256) ** 2 / (n / 256)).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)
    unit = words / 2**32 - 0.5
    for axis, step in [(0, 1), (1, 1), (2, 1), (3, 1), (3, 4)]:
        there = np.roll(unit, step, axis)
        assert abs((unit * there).mean() * 12) < 5 / np.sqrt(n)


def test_random_words_of_other_keys_are_others():
    words = [
        np.asarray(layers.random_words(jax.random.fold_in(jax.random.key(0), i), (100, 1000)))
        for i in range(3)
    ]
    for i in range(3):
        unit, other = words[i] / 2**32 - 0.5, words[i - 1] / 2**32 - 0.5
        assert abs((unit * other).mean() * 12) < 5 / np.sqrt(unit.size)
        assert (words[i] == words[i - 1]).sum() < 10


def test_random_words_do_not_depend_on_the_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    make = jax.jit(lambda key: layers.random_words(key, (16, 5)), out_shardings=split)
    key = jax.random.key(0)
    np.testing.assert_array_equal(make(key), layers.random_words(key, (16, 5)))
