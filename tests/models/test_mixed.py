import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emotion_jax.models import mixed
from emotion_jax.models.layers import conv, dense

RNG = np.random.default_rng(0)


def images(shape=(16, 9, 9, 8)):
    return jnp.asarray(RNG.normal(size=shape), jnp.bfloat16)


@pytest.mark.parametrize("layer", [
    lambda dtype: conv(12, 3, dtype=dtype),
    lambda dtype: conv(12, 3, 2, dtype=dtype),
    lambda dtype: conv(8, 3, groups=8, dtype=dtype),
    lambda dtype: dense(5, dtype=dtype),
])  # fmt: skip
def test_gradients_are_float32_and_those_of_rounded_weights(layer):
    x = images()
    module = layer(jnp.bfloat16)
    params = jax.tree.map(lambda a: a + 0.1, module.init(jax.random.key(0), x))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))

    def loss(module, params, x):
        return (module.apply(params, x).astype(jnp.float32) ** 2).sum()

    found = jax.jit(jax.grad(lambda p, x: loss(module, p, x), (0, 1)))(params, x)
    whole = layer(jnp.float32)
    wide = jax.grad(lambda p, x: loss(whole, p, x), (0, 1))(params, x.astype(jnp.float32))
    for ours, exact in zip(jax.tree.leaves(found), jax.tree.leaves(wide), strict=True):
        scale = np.abs(exact).max()
        np.testing.assert_allclose(np.asarray(ours, np.float32), exact, atol=2e-2 * scale)
    assert {leaf.dtype for leaf in jax.tree.leaves(found[0])} == {jnp.dtype(jnp.float32)}
    assert found[1].dtype == jnp.bfloat16


def test_the_values_are_those_of_rounded_weights():
    x = images((4, 6, 6, 8))
    module = conv(8, 3, dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0), x)
    kernel = params["params"]["kernel"].astype(jnp.bfloat16)
    expected = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = module.apply(params, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32))


def test_a_tpu_sums_weight_gradients_in_float32():
    x, w = images((4, 6, 6, 8)), jnp.ones((3, 3, 8, 8), jnp.float32)

    def product(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def gradient(x, w):
        return jax.grad(lambda w: mixed.rounded(product)(x, w).astype(jnp.float32).sum())(w)

    text = {
        platform: jax.export.export(jax.jit(gradient), platforms=[platform])(x, w).mlir_module()
        for platform in ("tpu", "cpu")
    }
    assert "xf32>" in _last_convolution(text["tpu"])
    assert "xbf16>" in _last_convolution(text["cpu"])


def _last_convolution(text):
    return [line for line in text.splitlines() if "stablehlo.convolution" in line][-1].split("->")[
        1
    ]
