from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import ACTIVATIONS
from emotion_jax.models.residual import BasicBlock, Stem, Sum, drop_paths


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@partial(jax.jit, static_argnums=0)
def begin(module, x):
    """The result of a module in training as it begins, and its variables."""
    return module.init_with_output(jax.random.key(0), x, train=True)


def merge(squeeze=0, drop_path=0.0, pool=False, activation="none"):
    return Sum(squeeze, drop_path, pool, activation, jnp.float32)


def test_a_block_begins_as_its_shortcut():
    x = nn.relu(normal(0, 4, 6, 6, 8))
    y, _ = begin(BasicBlock(8), x)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(("stride", "pool"), [(1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("size", [4, 7])
def test_shape_of_a_block(stride, pool, size):
    block = BasicBlock(16, stride, pool=pool)
    x = normal(0, 2, size, size, 8)
    y, variables = jax.eval_shape(partial(begin, block), x)
    side = -(-size // stride) // (2 if pool else 1)
    assert y.shape == (2, side, side, 16)
    kernels = [variables["params"][f"Conv_{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(3, 3, 8, 16), (3, 3, 16, 16), (1, 1, 8, 16)]


def test_a_shortcut_has_no_convolution_where_the_shape_stays():
    _, variables = jax.eval_shape(partial(begin, BasicBlock(8)), normal(0, 2, 4, 4, 8))
    assert set(variables["params"]) == {"Conv_0", "Conv_1", "BatchNorm_0", "BatchNorm_1"}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_pool_is_that_of_the_activated_sum(activation):
    shortcut, branch = normal(0, 3, 7, 6, 5), normal(1, 3, 7, 6, 5)
    found = merge(pool=True, activation=activation).apply({}, shortcut, branch, False)
    wanted = nn.max_pool(ACTIVATIONS[activation](shortcut + branch), (2, 2), (2, 2))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_squeeze_and_excitation_weighs_channels_by_their_averages():
    shortcut, branch = normal(0, 3, 4, 4, 8), normal(1, 3, 4, 4, 8)
    module = merge(squeeze=4)
    found, variables = module.init_with_output(jax.random.key(0), shortcut, branch, False)
    first, second = (variables["params"][f"Dense_{i}"] for i in (0, 1))
    assert first["kernel"].shape == (8, 2)
    hidden = nn.relu(branch.mean((1, 2)) @ first["kernel"])  # biases begin at zero
    gate = nn.sigmoid(hidden @ second["kernel"])
    wanted = shortcut + branch * gate[:, None, None, :]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_drop_path_skips_images_in_training_and_keeps_the_mean():
    n, rate = 2000, 0.3
    shortcut, branch = jnp.zeros((n, 1, 1, 2)), jnp.ones((n, 1, 1, 2))
    module = merge(drop_path=rate)
    y = module.apply({}, shortcut, branch, True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(y[..., 0], y[..., 1])  # the image as a whole
    skipped = int((y[:, 0, 0, 0] == 0).sum())
    assert abs(skipped - n * rate) < 5 * np.sqrt(n * rate * (1 - rate))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_array_equal(module.apply({}, shortcut, branch, False), branch)


def test_rates_rise_to_the_last_block():
    settings = ModelSettings(convolutions=2, drop_path=0.3)
    np.testing.assert_allclose(drop_paths(settings, 2), [0.0, 0.1, 0.2, 0.3])
    assert drop_paths(ModelSettings(drop_path=0.3), 1) == [0.0]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_stem_halves(activation):
    y, variables = jax.eval_shape(partial(begin, Stem(16, activation)), normal(0, 2, 9, 8, 3))
    assert y.shape == (2, 4, 4, 16)
    assert variables["params"]["Conv_1"]["kernel"].shape == (3, 3, 16, 16)
