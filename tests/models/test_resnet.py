import jax
import jax.numpy as jnp

from emotion_jax import models
from emotion_jax.config import ModelSettings

SETTINGS = ModelSettings(name="resnet", convolutions=2)


def test_parameters_of_resnet_18(parameters, count):
    # torchvision's has 11,689,512; less are its 7x7 stem of 3 colours and its 1,000 classes.
    stem, head = 9 * 64 - 49 * 3 * 64, 512 * 7 + 7 - (512 * 1000 + 1000)
    assert count(parameters()) == 11_689_512 + stem + head


def test_stages_but_the_first_halve_the_image():
    module = models.build(SETTINGS, 7, 48, (0.5,), (0.25,))
    image = jax.ShapeDtypeStruct((2, 45, 45, 1), jnp.uint8)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    _, state = jax.eval_shape(
        lambda v, x: module.apply(v, x, capture_intermediates=True), variables, image
    )
    blocks = [state["intermediates"][f"BasicBlock_{i}"]["__call__"][0] for i in range(8)]
    assert [block.shape[1] for block in blocks] == [45, 45, 23, 23, 12, 12, 6, 6]
    assert [block.shape[3] for block in blocks] == [64, 64, 128, 128, 256, 256, 512, 512]
