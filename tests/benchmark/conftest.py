import jax
import numpy as np
import pytest

from emotion_jax import config, models
from emotion_jax.benchmark import network


def make(classes=3, size=13, seed=0, **model):
    """A module with parameters and statistics that are nowhere 0 or 1, and its network."""
    settings = config.from_mapping({"data": {"image_size": size}, "model": model}, "tests")
    module = models.build(settings.model, classes, size, (0.4,), (0.3,))
    images = np.zeros((1, size, size, 1), np.uint8)
    variables = module.init(jax.random.key(seed), images)
    rng = np.random.default_rng(seed)

    def disturb(path, array):
        low, high = {"scale": (-1.5, 1.5), "var": (0.5, 1.5)}.get(path[-1].key, (-0.2, 0.2))
        noise = rng.uniform(low, high, array.shape).astype(np.float32)
        return noise if path[-1].key != "kernel" else np.asarray(array)

    variables = jax.tree_util.tree_map_with_path(disturb, variables)
    return (
        module,
        variables,
        network.of(settings, classes, (0.4,), (0.3,), module, variables, "cpu"),
    )


@pytest.fixture
def build():
    """``make``, for tests that want other shapes."""
    return make


@pytest.fixture(scope="package")
def built():
    """Two blocks of two convolutions, odd sides, one hidden layer."""
    return make(widths=[4, 6], convolutions=2, dense=[8])


@pytest.fixture(scope="package")
def logits(built):
    """What the module makes of the sample: float32 [16, 3]."""
    module, variables, net = built
    return np.asarray(module.apply(variables, net.sample(network.SAMPLE)[0]))
