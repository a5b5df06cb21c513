import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError
from emotion_jax.models import lowering

SETTINGS = ModelSettings(name="fernet", widths=(32, 64, 128, 256), convolutions=2, squeeze=8)


def test_parameters_at_any_size(parameters, count):
    assert 2_000_000 < count(parameters()) < 4_000_000
    assert count(parameters(size=24)) == count(parameters(size=224)) == count(parameters())


def test_forward_flops_at_44_pixels():
    module = models.build(SETTINGS, 7, 44, (0.5,), (0.25,))
    image = jax.ShapeDtypeStruct((1, 44, 44, 1), jnp.uint8)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    with lowering.plain():
        cost = jax.jit(module.apply).lower(variables, image).cost_analysis()
    assert 0.3e9 < cost["flops"] < 0.36e9


def test_branches_begin_at_full_scale_and_logits_at_zero():
    small = ModelSettings(name="fernet", widths=(4, 6, 8), convolutions=1)
    module = models.build(small, 7, 16, (0.5,), (0.25,))
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8)
    logits, variables = module.init_with_output(jax.random.key(0), image)
    np.testing.assert_array_equal(logits, 0)
    for stage in (0, 1):
        scale = variables["params"][f"BasicBlock_{stage}"]["BatchNorm_1"]["scale"]
        np.testing.assert_array_equal(scale, 1)


def test_every_3x3_convolution_but_the_first_suits_winograd(parameters):
    params = parameters()
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.shape[:2] == (3, 3)]
    assert len(kernels) == 14
    assert sorted(shape[2] for shape in kernels)[:2] == [1, 32]


def test_the_stem_alone_is_no_network(parameters):
    with pytest.raises(UserError, match=r"model\.widths: fernet needs two or more"):
        parameters(SETTINGS.model_copy(update={"widths": (32,)}))
