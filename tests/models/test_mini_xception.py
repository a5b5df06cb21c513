import jax
import pytest

from emotion_jax.config import ModelSettings
from emotion_jax.errors import UserError

SETTINGS = ModelSettings(name="mini_xception", widths=(24, 48, 80, 112), convolutions=2)


def test_it_uses_its_budget_and_no_more(parameters, count):
    assert 90_000 < count(parameters()) < 100_000


def test_most_parameters_are_in_the_pointwise_convolutions(parameters, count):
    params = parameters()
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.shape[:2] == (1, 1)]
    assert len(kernels) == 12  # two in each of six blocks, none in a shortcut
    assert count(kernels) > 0.75 * count(params)


def test_size_of_the_image_does_not_change_the_parameters(parameters, count):
    assert count(parameters(size=24)) == count(parameters(size=224))


def test_widths_that_fall_are_refused(parameters):
    settings = SETTINGS.model_copy(update={"widths": (16, 32, 24)})
    with pytest.raises(UserError, match=r"model\.widths: those of mini_xception must not fall"):
        parameters(settings)
