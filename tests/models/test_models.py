import jax
import jax.numpy as jnp
import pytest

from emotion_jax import models
from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError
from emotion_jax.models.cnn import CNN


def build(image_size=16, **settings):
    return models.build(ModelSettings(**settings), 7, image_size, (0.5,), (0.25,))


def test_build_passes_everything_on():
    settings = ModelSettings(widths=(8,))
    module = models.build(settings, 5, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert isinstance(module, CNN)
    assert (module.classes, module.settings) == (5, settings)
    assert (module.mean, module.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_unknown_backbone_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"model\.name: 'alexnet' is not one of .*cnn"):
        build(name="alexnet")


def test_blocks_that_halve_the_image_to_nothing_are_refused():
    with pytest.raises(UserError, match=r"model\.widths: 4 blocks halve 15 pixels to nothing"):
        build(15, widths=(1, 1, 1, 1))


def test_smallest_image_that_four_blocks_take():
    module = build(16, widths=(1, 1, 1, 1), dense=())
    image = jnp.zeros((2, 16, 16, 1), jnp.uint8)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    assert jax.eval_shape(module.apply, variables, image).shape == (2, 7)
    assert variables["params"]["Dense_0"]["kernel"].shape == (1, 7)


@pytest.mark.parametrize("name", ["cnn", "vgg", "resnet", "mini_xception", "fernet"])
def test_every_backbone_refuses_images_that_its_blocks_halve_to_nothing(name):
    blocks = 4 if name in ("cnn", "vgg") else 5  # a last one that does not halve
    with pytest.raises(UserError, match=rf"model\.widths: {blocks} blocks halve 15 pixels"):
        build(15, name=name, widths=(1,) * blocks)
    assert build(16, name=name, widths=(1,) * blocks)
