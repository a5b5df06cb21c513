import math

import jax
import jax.numpy as jnp
import pytest

from emotion_jax import models


@pytest.fixture
def parameters(request):
    """(settings, side) to the shapes of a network's parameters; the module's SETTINGS at 48."""

    def of(settings=request.module.SETTINGS, size=48):
        module = models.build(settings, 7, size, (0.5,), (0.25,))
        image = jax.ShapeDtypeStruct((2, size, size, 1), jnp.uint8)
        return jax.eval_shape(module.init, jax.random.key(0), image)["params"]

    return of


@pytest.fixture
def count():
    """Numbers in a tree of shapes."""
    return lambda params: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
