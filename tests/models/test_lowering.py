from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from emotion_jax.models import lowering

LAYOUT = {"dimension_numbers": lowering.LAYOUT}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def ours(x, w):
    return lowering.conv(x, w, (1, 1), "SAME", **LAYOUT)


def plain(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", **LAYOUT)


def plain_pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def with_gradients(function, dy, *args):
    y, pull = jax.vjp(function, *args)
    return y, *pull(dy)


def differences(found, wanted):
    pairs = zip(found, wanted, strict=True)
    return [float(np.abs(f - w).max() / np.abs(w).max()) for f, w in pairs]


@jax.jit
def both_convolutions(x, w, dy):
    return with_gradients(ours, dy, x, w), with_gradients(plain, dy, x, w)


@jax.jit
def both_pools(x, dy):
    return with_gradients(lowering.max_pool_2x2, dy, x), with_gradients(plain_pool, dy, x)


@settings(max_examples=5, deadline=None)
@given(
    n=st.integers(1, 3),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    channels=st.sampled_from([1, 3, 16, 17]),
    outputs=st.integers(4, 6),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=1, height=1, width=1, channels=16, outputs=4, seed=0)  # im2col for want of tiles
@example(n=1, height=1, width=6, channels=3, outputs=4, seed=0)
@example(n=2, height=12, width=12, channels=64, outputs=32, seed=0)  # Winograd
def test_convolution_is_lax_in_values_and_gradients(n, height, width, channels, outputs, seed):
    x = normal([seed, 0], n, height, width, channels)
    w = normal([seed, 1], 3, 3, channels, outputs)
    dy = normal([seed, 2], n, height, width, outputs)
    assert max(differences(*both_convolutions(x, w, dy))) < 1e-5


@partial(jax.jit, static_argnames=("strides", "padding", "groups"))
def both(x, w, strides, padding, groups, dy):
    def each(function):
        options = {"feature_group_count": groups, **LAYOUT}
        return with_gradients(lambda x, w: function(x, w, strides, padding, **options), dy, x, w)

    return each(lowering.conv), each(lax.conv_general_dilated)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["pointwise", "strided", "depthwise"]),
    n=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 6),
    strides=st.sampled_from([(1, 1), (2, 2), (2, 1), (3, 2)]),
    padding=st.sampled_from(["SAME", ((1, 1), (1, 1))]),
    seed=st.integers(0, 2**32 - 1),
)
@example("strided", 1, 1, 1, 3, (2, 2), ((1, 1), (1, 1)), 0)
@example("strided", 2, 24, 24, 64, (2, 2), ((1, 1), (1, 1)), 0)
@example("pointwise", 2, 7, 5, 64, (2, 2), "SAME", 0)
@example("depthwise", 2, 9, 6, 48, (1, 1), "SAME", 0)
@example("depthwise", 1, 1, 1, 1, (1, 1), "SAME", 0)
def test_products_are_lax_in_values_and_gradients(
    kind, n, height, width, channels, strides, padding, seed
):
    side, groups, outputs = {
        "pointwise": (1, 1, 5),
        "strided": (3, 1, 5),
        "depthwise": (3, channels, channels),
    }[kind]
    strides = (1, 1) if kind == "depthwise" else strides
    padding = padding if side == 3 else "SAME"
    x = normal([seed, 0], n, height, width, channels)
    w = normal([seed, 1], side, side, channels // groups, outputs)
    dy = normal([seed, 2], n, -(-height // strides[0]), -(-width // strides[1]), outputs)
    assert max(differences(*both(x, w, strides, padding, groups, dy))) < 1e-5


@pytest.mark.parametrize(
    ("kernel", "strides", "groups", "wanted"),
    [
        ((1, 1, 16, 4), (1, 1), 1, {"dot_general"}),
        ((1, 1, 16, 4), (2, 2), 1, {"dot_general"}),
        ((3, 3, 16, 4), (2, 2), 1, {"dot_general"}),
        ((3, 3, 1, 16), (1, 1), 16, set()),
    ],
)
def test_what_else_is_lowered_for_the_cpu(kernel, strides, groups, wanted):
    x, w = normal(0, 2, 8, 8, 16), normal(1, *kernel)

    def gradients(x, w):
        def total(x, w):
            y = lowering.conv(x, w, strides, "SAME", feature_group_count=groups, **LAYOUT)
            return jnp.square(y).sum()

        return jax.grad(total, (0, 1))(x, w)

    assert counts(gradients, x, w, platform="cpu") == wanted
    assert counts(gradients, x, w, platform="tpu") == {"convolution"}


@settings(max_examples=5, deadline=None)
@given(
    n=st.integers(1, 2),
    height=st.integers(2, 7),
    width=st.integers(2, 7),
    channels=st.integers(1, 3),
    levels=st.sampled_from([[0.0], [-1.0, 0.0, 1.0], [-np.inf, -1.0], np.linspace(-9, 9, 100)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pool_is_lax_bit_for_bit_ties_included(n, height, width, channels, levels, seed):
    rng = np.random.default_rng(seed)
    x = rng.choice(np.asarray(levels, np.float32), (n, height, width, channels))
    dy = normal(seed, n, height // 2, width // 2, channels)
    for found, wanted in zip(*both_pools(x, dy), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 9, 6, 1)])
def test_grey_images_take_no_product_in_inference(shape):
    x, w = normal(0, *shape), normal(1, 3, 3, 1, 5)
    assert counts(ours, x, w, platform="cpu") == set()
    assert max(differences([ours(x, w)], [plain(x, w)])) < 1e-6


def test_first_of_equal_maxima_takes_the_gradient():
    x = jnp.asarray([[0.0, 5.0, 1.0], [5.0, 5.0, 1.0], [9.0, 9.0, 9.0]])[None, :, :, None]
    dx = jax.grad(lambda x: lowering.max_pool_2x2(x).sum())(x)
    assert dx[0, :, :, 0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_pool_in_bfloat16():
    x = normal(0, 2, 6, 6, 3).astype(jnp.bfloat16)
    (y, dx), (plain_y, plain_dx) = both_pools(x, jnp.ones((2, 3, 3, 3), jnp.bfloat16))
    assert y.dtype == dx.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, plain_y)
    np.testing.assert_array_equal(dx, plain_dx)


def block(x, w):
    return lowering.max_pool_2x2(nn.relu(ours(x, w)))


def plain_block(x, w):
    return plain_pool(nn.relu(plain(x, w)))


def counts(function, *args, platform):
    text = jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    names = ("convolution", "dot_general", "reduce_window", "select_and_scatter")
    return {name for name in names if f"stablehlo.{name}" in text}


@pytest.mark.parametrize("channels", [1, 16])
def test_target_platform_chooses_the_lowering(channels):
    x, w = normal(0, 2, 8, 8, channels), normal(1, 3, 3, channels, 4)

    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.square(block(x, w)).sum(), (0, 1))(x, w)

    wanted = {"convolution", "reduce_window", "select_and_scatter"}
    assert counts(gradients, x, w, platform="cpu") == {"dot_general"}
    assert counts(gradients, x, w, platform="tpu") == wanted
    assert counts(gradients, x, w, platform="cuda") == wanted


def test_one_export_serves_several_platforms():
    x, w = normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 4)
    exported = export.export(jax.jit(block), platforms=("cpu", "tpu"))(x, w)
    found = export.deserialize(exported.serialize()).call(x, w)
    assert max(differences([found], [plain_block(x, w)])) < 1e-5


def test_plain_is_lax_on_every_platform():
    x, w = normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 4)

    def gradients(x, w):
        with lowering.plain():
            return jax.grad(lambda x, w: jnp.square(block(x, w)).sum(), (0, 1))(x, w)

    wanted = {"convolution", "reduce_window", "select_and_scatter"}
    assert counts(gradients, x, w, platform="cpu") == wanted
    assert counts(block, x, w, platform="cpu") == {"dot_general"}  # and only within


@pytest.mark.parametrize(("n", "products"), [(1, 1), (4, 3)])
def test_few_tiles_take_one_product_of_patches(n, products):
    # Winograd's are of the kernel, of the tiles with it, and of the result.
    x, w = normal(0, n, 8, 8, 16), normal(1, 3, 3, 16, 4)
    text = jax.jit(ours).trace(x, w).lower(lowering_platforms=("cpu",)).as_text()
    assert text.count("stablehlo.dot_general") == products


@pytest.mark.parametrize(
    ("n", "side", "products"),
    [(1, 8, 2), (1, 6, 2), (2, 3, 1), (4, 3, 2), (1, 1, 1)],
)
def test_frozen_kernels_are_transformed_beforehand(n, side, products):
    # Of Winograd's the tiles' with the kernel and that of the result; few tiles: of patches.
    x, w = normal(0, n, side, side, 16), np.asarray(normal(1, 3, 3, 16, 4))

    def known(x):
        with lowering.frozen():
            return ours(x, w)

    lowered = jax.jit(known).trace(x).lower(lowering_platforms=("cpu",))
    assert lowered.as_text().count("stablehlo.dot_general") == products
    assert counts(known, x, platform="tpu") == {"convolution"}
    found = with_gradients(known, jnp.ones((n, side, side, 4)), x)
    wanted = with_gradients(lambda x: plain(x, w), jnp.ones((n, side, side, 4)), x)
    assert max(differences(found, wanted)) < 1e-5


def test_frozen_leaves_arguments_alone():
    x, w = normal(0, 1, 6, 6, 16), normal(1, 3, 3, 16, 4)
    assert jax.jit(ours).trace(x, w).lower().as_text().count("stablehlo.dot_general") == 1
    with lowering.frozen():
        text = jax.jit(lambda x, w: ours(x, w)).trace(x, w).lower().as_text()
    assert text.count("stablehlo.dot_general") == 1


SAME = {"window_strides": (1, 1), "padding": "SAME", **LAYOUT}


@pytest.mark.parametrize(
    ("image", "kernel", "options"),
    [
        pytest.param(
            (2, 8, 8, 16), (3, 3, 16, 4), {**SAME, "padding": [(2, 2), (0, 0)]}, id="pads"
        ),
        pytest.param((2, 8, 8, 16), (3, 3, 16, 4), {**SAME, "padding": "VALID"}, id="valid"),
        pytest.param((2, 8, 8, 16), (3, 3, 16, 4), {**SAME, "rhs_dilation": (2, 2)}, id="atrous"),
        pytest.param(
            (2, 8, 8, 16),
            (3, 3, 16, 4),
            {**SAME, "padding": [(1, 1), (1, 1)], "lhs_dilation": (2, 2)},
            id="transposed",
        ),
        pytest.param(
            (2, 8, 8, 16), (3, 3, 1, 32), {**SAME, "feature_group_count": 16}, id="multiplier"
        ),
        pytest.param(
            (2, 8, 8, 16), (3, 3, 8, 16), {**SAME, "feature_group_count": 2}, id="two groups"
        ),
        pytest.param(
            (2, 8, 8, 16),
            (3, 3, 1, 16),
            {**SAME, "feature_group_count": 16, "window_strides": (2, 2)},
            id="depthwise stride",
        ),
        pytest.param(
            (2, 2, 8, 16),
            (3, 3, 16, 4),
            {**SAME, "padding": "VALID", "window_strides": (2, 2)},
            id="no place",
        ),
        pytest.param((2, 8, 8, 16), (3, 3, 16, 4), {**SAME, "batch_group_count": 2}, id="groups"),
        pytest.param(
            (2, 8, 8, 16), (1, 1, 16, 4), {**SAME, "padding": [(1, 1), (1, 1)]}, id="1x1 padded"
        ),
        pytest.param((2, 8, 8, 16), (5, 5, 16, 4), SAME, id="5x5"),
        pytest.param((2, 16, 8, 8), (4, 16, 3, 3), {**SAME, "dimension_numbers": None}, id="NCHW"),
        pytest.param((3, 3, 3, 3), (3, 3, 3, 3), {**SAME, "dimension_numbers": None}, id="threes"),
        pytest.param(
            (2, 9, 3),
            (3, 3, 3),
            {**SAME, "window_strides": (1,), "dimension_numbers": ("NWC", "WIO", "NWC")},
            id="1-D",
        ),
        pytest.param(
            (1, 4, 4, 4, 3),
            (3, 3, 3, 3, 2),
            {
                **SAME,
                "window_strides": (1, 1, 1),
                "dimension_numbers": ("NDHWC", "DHWIO", "NDHWC"),
            },
            id="3-D",
        ),
    ],
)
def test_other_convolutions_are_lax(image, kernel, options):
    x, w = normal(0, *image), normal(1, *kernel)
    assert counts(lambda x, w: lowering.conv(x, w, **options), x, w, platform="cpu") == {
        "convolution"
    }
    found, wanted = lowering.conv(x, w, **options), lax.conv_general_dilated(x, w, **options)
    np.testing.assert_array_equal(found, wanted)


def test_bfloat16_is_lax():
    x, w = (a.astype(jnp.bfloat16) for a in (normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 4)))
    assert ours(x, w).dtype == jnp.bfloat16
    assert counts(ours, x, w, platform="cpu") == {"convolution"}


@pytest.mark.parametrize("padding", ["SAME", [(1, 1), (1, 1)], ((1, 1), (1, 1))])
def test_every_way_to_say_same(padding):
    x, w = normal(0, 1, 5, 5, 16), normal(1, 3, 3, 16, 4)
    assert counts(
        lambda x, w: lowering.conv(x, w, (1, 1), padding, **LAYOUT), x, w, platform="cpu"
    ) == {"dot_general"}


def test_flax_takes_it_in():
    x = normal(0, 2, 8, 8, 16)
    fast, slow = nn.Conv(4, (3, 3), conv_general_dilated=lowering.conv), nn.Conv(4, (3, 3))
    variables = slow.init(jax.random.key(0), x)
    assert counts(fast.apply, variables, x, platform="cpu") == {"dot_general"}
    found, wanted = fast.apply(variables, x), slow.apply(variables, x)
    assert max(differences([found], [wanted])) < 1e-5


def test_vmap_gives_the_gradient_of_each_example():
    x, w = normal(0, 3, 1, 6, 5, 16), normal(1, 3, 3, 16, 4)

    def each(function):
        gradient = jax.grad(lambda w, x: jnp.square(function(x, w)).sum())
        return jax.jit(jax.vmap(gradient, (None, 0)))(w, x)

    assert max(differences([each(block)], [each(plain_block)])) < 1e-5


def test_batches_stay_split_over_the_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x, w = normal(0, 16, 6, 6, 16), normal(1, 3, 3, 16, 4)
    dy = normal(2, 16, 3, 3, 4)
    split = NamedSharding(mesh, PartitionSpec("data"))
    args = jax.device_put(x, split), jax.device_put(w, NamedSharding(mesh, PartitionSpec()))

    def gradients(x, w, dy):
        return with_gradients(block, dy, x, w)

    compiled = jax.jit(gradients).lower(*args, jax.device_put(dy, split)).compile()
    text = compiled.as_text()
    assert "all-reduce" in text  # of the kernel's gradient
    assert "all-gather" not in text
    assert "all-to-all" not in text
    y, dx, dw = compiled(*args, jax.device_put(dy, split))
    assert y.sharding.is_equivalent_to(split, 4)
    assert dx.sharding.is_equivalent_to(split, 4)
    assert max(differences((y, dx, dw), with_gradients(plain_block, dy, x, w))) < 1e-5
