import itertools

from emotion_jax.config import ModelSettings

SETTINGS = ModelSettings(name="vgg", convolutions=2, dense=(4096, 4096))


def test_parameters_of_khaireddin_and_chen(parameters, count):
    # Eight convolutions with BatchNorm, then 40 / 16 = 2 pixels by side into the dense layers.
    widths = [1, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    features = [4 * 512, 4096, 4096, 7]
    dense = sum(a * b + b for a, b in itertools.pairwise(features))
    assert count(parameters(size=40)) == convolutions + dense


def test_the_head_has_biases_and_no_batch_norm(parameters):
    params = parameters()
    assert set(params["Dense_0"]) == {"kernel", "bias"}
    assert sum(name.startswith("BatchNorm") for name in params) == 8
