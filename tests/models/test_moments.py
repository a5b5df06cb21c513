from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_jax.models import lowering, moments
from emotion_jax.models.layers import BatchNorm


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def apart(x, sign):
    return moments.moments(x), moments.signed_pool(x, sign)


@partial(jax.jit, static_argnums=0)
def with_gradient(function, x, sign, cotangents):
    y, pull = jax.vjp(lambda x: function(x, sign), x)
    return y, pull(cotangents)[0]


@settings(max_examples=6, deadline=None)
@given(
    n=st.integers(1, 3),
    height=st.sampled_from([2, 6]),
    width=st.sampled_from([2, 4]),
    channels=st.integers(1, 3),
    levels=st.sampled_from([[0.0], [-1.0, 0.0, 1.0], np.linspace(-9, 9, 100)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_tpus_form_is_the_other_ties_included(n, height, width, channels, levels, seed):
    rng = np.random.default_rng(seed)
    x = rng.choice(np.asarray(levels, np.float32), (n, height, width, channels))
    sign = jnp.asarray(rng.choice([-1.0, 1.0], channels).astype(np.float32))
    dmoments = normal([seed, 0], channels), normal([seed, 1], channels)
    cotangents = dmoments, normal([seed, 2], n, height // 2, width // 2, channels)
    # By the variance's gradient at zero the forms differ: autodiff halves it.
    x = x + normal([seed, 3], n, 1, 1, 1)
    (found, y), dx = with_gradient(moments._together, x, sign, cotangents)
    (wanted, wanted_y), wanted_dx = with_gradient(apart, x, sign, cotangents)
    np.testing.assert_array_equal(y, wanted_y)
    for f, w in zip((*found, dx), (*wanted, wanted_dx), strict=True):
        np.testing.assert_allclose(f, w, rtol=0, atol=1e-5 * max(1.0, float(np.abs(w).max())))


def errors(found, exact):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    return [np.abs(np.asarray(f, np.float32) - e).mean() / np.abs(e).mean() for f, e in pairs]


def test_in_bfloat16_it_rounds_no_more_than_autodiff(monkeypatch):
    x, dy = normal(0, 8, 12, 12, 16), normal(1, 8, 6, 6, 16)
    x, dy = (a.astype(jnp.bfloat16).astype(jnp.float32) for a in (x, dy))
    params = {"scale": normal(2, 16), "bias": normal(3, 16)}

    def gradients(form, dtype):
        monkeypatch.setattr(moments, "with_pool", form)
        norm = BatchNorm(False, pool=True, dtype=dtype)
        stats = {"mean": jnp.zeros(16), "var": jnp.ones(16)}

        @jax.jit
        def apply(params, x, dy):
            def value(params, x):
                tree = {"params": params, "batch_stats": stats}
                return norm.apply(tree, x, mutable=["batch_stats"])[0]

            y, pull = jax.vjp(value, params, x)
            return y, pull(dy)

        return apply(params, x.astype(dtype), dy.astype(dtype))

    exact = gradients(apart, jnp.float32)
    assert max(errors(gradients(moments._together, jnp.float32), exact)) < 1e-6
    ours, autodiffs = (
        errors(gradients(form, jnp.bfloat16), exact) for form in (moments._together, apart)
    )
    assert max(ours) < 4e-3  # half a unit in the last place
    assert all(o < 1.01 * a + 1e-6 for o, a in zip(ours, autodiffs, strict=True))


def lowered(platform, x):
    def gradient(x, sign):
        return jax.grad(
            lambda x: sum(a.sum() for a in jax.tree.leaves(moments.with_pool(x, sign)))
        )(x)

    exported = jax.export.export(jax.jit(gradient), platforms=[platform])
    return exported(x, jnp.ones(x.shape[-1:], x.dtype)).mlir_module()


@pytest.mark.parametrize(
    ("platform", "side", "written_out"), [("tpu", 8, True), ("tpu", 9, False), ("cpu", 8, False)]
)
def test_only_a_tpu_takes_it_and_only_for_whole_windows(platform, side, written_out):
    text = lowered(platform, normal(0, 2, side, side, 4).astype(jnp.bfloat16))
    assert ("optimization_barrier" in text) == written_out
    assert ("select_and_scatter" in text) == (platform == "tpu" and not written_out)


def test_plain_is_autodiff_for_a_tpu_too():
    with lowering.plain():
        text = lowered("tpu", normal(0, 2, 8, 8, 4))
    assert "select_and_scatter" in text
    assert "optimization_barrier" not in text
