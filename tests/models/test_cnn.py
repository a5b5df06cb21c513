import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.models.layers import normalise

TINY = {"widths": (4, 6), "dense": (8,), "dropout": 0.5, "dense_dropout": 0.5}


def build(channels=1, mean=0.5, std=0.25, classes=7, image_size=9, **settings):
    return models.build(
        ModelSettings(**{**TINY, **settings}),
        classes,
        image_size,
        tuple(np.broadcast_to(mean, channels).tolist()),
        tuple(np.broadcast_to(std, channels).tolist()),
    )


def images(n=32, size=9, channels=1, seed=0):
    shape = (n, size, size, channels)
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def train_pass(module):
    """Compile (variables, images, dropout key) -> (logits, updated statistics)."""
    return jax.jit(
        lambda variables, x, key: module.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
    )


class Tiny:
    """One module, compiled once for all tests."""

    def __init__(self):
        self.module = build(3, (0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
        self.x = images(channels=3)
        self.variables = jax.jit(self.module.init)(jax.random.key(0), self.x)
        self.apply = jax.jit(self.module.apply)
        self.train = train_pass(self.module)


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_baseline(dtype):
    module = models.build(ModelSettings(dtype=dtype), 7, 48, (0.5,), (0.25,))
    x = jax.ShapeDtypeStruct((64, 48, 48, 1), jnp.uint8)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == 2_732_743
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.eval_shape(module.apply, variables, x)
    assert (logits.shape, logits.dtype) == ((64, 7), jnp.float32)


def test_settings_shape_the_network():
    module = build(3, widths=(4, 6, 8), convolutions=2, dense=(10, 12), classes=5)
    variables = jax.eval_shape(module.init, jax.random.key(0), images(channels=3))
    params = variables["params"]
    convolutions = [params[f"Conv_{i}"]["kernel"].shape[2:] for i in range(6)]
    assert convolutions == [(3, 4), (4, 4), (4, 6), (6, 6), (6, 8), (8, 8)]
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(3)] == [(8, 10), (10, 12), (12, 5)]
    assert len(params) == 6 + 3 + 8  # a BatchNorm after each but the last


def test_uint8_and_float_images_agree(tiny):
    found, wanted = (tiny.apply(tiny.variables, x) for x in (tiny.x, tiny.x.astype(jnp.float32)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_normalise_by_channel(tiny):
    mean, std = tiny.module.mean, tiny.module.std
    wanted = (np.asarray(tiny.x, np.float64) / 255 - mean) / std
    np.testing.assert_allclose(normalise(tiny.x, mean, std), wanted, rtol=0, atol=1e-5)


def test_mean_and_std_sit_inside_the_module(tiny):
    bare = jax.jit(build(3, 0.0, 1.0).apply)
    ready = 255.0 * normalise(tiny.x, tiny.module.mean, tiny.module.std)
    found = tiny.apply(tiny.variables, tiny.x)
    np.testing.assert_allclose(found, bare(tiny.variables, ready), rtol=0, atol=1e-5)
    assert np.abs(found - bare(tiny.variables, tiny.x.astype(jnp.float32))).max() > 1e-2


def test_statistics_move_by_a_tenth_in_training(tiny):
    _, updated = tiny.train(tiny.variables, tiny.x, jax.random.key(0))
    features = jax.lax.conv_general_dilated(
        normalise(tiny.x, tiny.module.mean, tiny.module.std),
        tiny.variables["params"]["Conv_0"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    first = updated["batch_stats"]["BatchNorm_0"]
    mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
    np.testing.assert_allclose(first["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first["var"], 0.9 + 0.1 * variance, rtol=1e-4)


def test_statistics_rest_in_evaluation(tiny):
    apply = jax.jit(lambda variables, x: tiny.module.apply(variables, x, mutable=["batch_stats"]))
    _, updated = apply(tiny.variables, tiny.x)
    wanted = {"batch_stats": tiny.variables["batch_stats"]}
    assert jax.tree.all(jax.tree.map(np.array_equal, updated, wanted))


def test_evaluation_takes_examples_one_by_one(tiny):
    together = tiny.apply(tiny.variables, tiny.x)
    alone = [tiny.apply(tiny.variables, tiny.x[i : i + 1])[0] for i in range(len(tiny.x))]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_dropout_in_training_alone(tiny):
    first, again, other = (
        tiny.train(tiny.variables, tiny.x, jax.random.key(key))[0] for key in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    # Evaluation takes no key, so it cannot drop anything.
    found, wanted = (tiny.apply(tiny.variables, tiny.x) for _ in range(2))
    np.testing.assert_array_equal(found, wanted)


def test_bfloat16_computes_low_and_keeps_high(tiny):
    settings = {"dropout": 0.0, "dense_dropout": 0.0}
    mean, std = tiny.module.mean, tiny.module.std
    low, high = (build(3, mean, std, dtype=d, **settings) for d in ("bfloat16", "float32"))
    (logits, updated), (wanted, wanted_updated) = (
        train_pass(module)(tiny.variables, tiny.x, jax.random.key(0)) for module in (low, high)
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    scale = float(jnp.abs(wanted).max())
    assert 1e-5 * scale < np.abs(logits - wanted).max() < 0.05 * scale
    for found, exact in zip(*map(jax.tree.leaves, (updated, wanted_updated)), strict=True):
        np.testing.assert_allclose(found, exact, rtol=0.02, atol=0.01)


def test_first_loss_is_near_that_of_a_guess(tiny):
    logits, _ = tiny.train(tiny.variables, tiny.x, jax.random.key(0))
    losses = -jax.nn.log_softmax(logits)  # of every label there could be
    assert math.log(7) < losses.mean() < math.log(7) + 0.7


def test_training_is_lowered_for_each_platform():
    module, x = build(image_size=8), images(n=2, size=8)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)

    def loss(params, x):
        logits, _ = module.apply(
            {**variables, "params": params, "batch_stats": stats},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return logits.sum()

    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables["batch_stats"])
    traced = jax.jit(jax.grad(loss)).trace(variables["params"], x)
    cpu, tpu, gpu = (
        traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu", "cuda")
    )
    found = {
        name: [text.count(f"stablehlo.{name}") > 0 for text in (cpu, tpu, gpu)]
        for name in ("convolution", "select_and_scatter", "optimization_barrier")
    }
    assert found == {
        "convolution": [False, True, True],
        "select_and_scatter": [False, False, True],
        "optimization_barrier": [False, True, False],  # moments.with_pool
    }
