import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from emotion_jax import models
from emotion_jax.data.dataset import Split
from emotion_jax.evaluation import explain

MODELS = {
    "cnn": {"widths": [4, 6], "dense": [8]},
    "vgg": {"widths": [4, 6], "convolutions": 2, "dense": [8, 8]},
    "resnet": {"widths": [4, 6], "convolutions": 2},
    "mini_xception": {"widths": [4, 6], "convolutions": 1},
    "fernet": {"widths": [4, 6, 8], "convolutions": 1, "squeeze": 2, "activation": "gelu"},
}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8)
ASKED = np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize("name", models.MODELS)
def test_the_map_is_the_last_and_its_gradient_that_of_finite_differences(make_trained, name):
    trained = make_trained(name=name, **MODELS[name])
    at = explain.last_map(trained, IMAGES[:1])
    features = np.asarray(explain._map_of(trained, IMAGES, at))
    assert features.shape[0] == 5
    assert features.shape[-1] == MODELS[name]["widths"][-1]

    def logit(delta):
        def shift(module, y):
            return y + delta if module.path == at else y

        return explain._apply(trained, IMAGES, shift)[np.arange(5), ASKED].sum()

    gradient = np.asarray(jax.grad(logit)(jnp.zeros_like(features)))
    direction = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    step = 1e-3
    slope = (logit(step * direction) - logit(-step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float((gradient * direction).sum()), rel=0.05, abs=0.02)
    weights = gradient.mean((1, 2), keepdims=True)
    cam = np.maximum((weights * features).sum(-1), 0)
    expected = jax.image.resize(jnp.asarray(cam), (5, 16, 16), "linear")
    expected /= np.maximum(np.asarray(expected).max((1, 2), keepdims=True), 1e-12)
    found = explain.grad_cam(trained, IMAGES, ASKED)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert (found >= 0).all()
    assert found.max() <= 1 + 1e-6


def test_occlusion_by_hand(make_trained):
    trained = make_trained(**MODELS["cnn"])

    def probability(images):
        logits = trained.module.apply(trained.variables, images) / trained.temperature
        return np.asarray(nn.softmax(logits))[np.arange(len(images)), ASKED]

    whole = probability(IMAGES)
    total, covers = np.zeros((2, 5, 16, 16))
    for top in range(0, 13, 2):
        for left in range(0, 13, 2):
            covered = IMAGES.copy()
            place = np.s_[:, top : top + 4, left : left + 4]
            covered[place] = 127
            total[place] += (whole - probability(covered))[:, None, None]
            covers[place] += 1
    np.testing.assert_allclose(explain.occlusion(trained, IMAGES, ASKED), total / covers, atol=1e-5)


def test_what_covers_the_telling_place_is_found(make_trained):
    """A network that sees one corner alone."""
    trained = make_trained(name="cnn", widths=[4], dense=[])
    kernel = trained.variables["params"]["Dense_0"]["kernel"].reshape(8, 8, 4, 3)
    seeing = np.zeros_like(kernel)
    seeing[:3, :3] = kernel[:3, :3]
    trained.variables["params"]["Dense_0"]["kernel"] = seeing.reshape(-1, 3)
    heat = np.abs(explain.occlusion(trained, IMAGES, ASKED)).mean(0)
    assert heat[:6, :6].mean() > 20 * heat[11:, 11:].mean()


def test_figures(make_trained):
    trained = make_trained(**MODELS["cnn"])
    split = Split("test", IMAGES, np.arange(5), ASKED, np.arange(5, dtype=np.uint64), ("",) * 5)
    probs = np.eye(3)[[1, 1, 0, 0, 1]] * 0.9 + 0.1 / 3
    drawn = explain.figures(trained, split, probs)
    assert list(drawn) == ["explain", "mistakes"]
    for picture in drawn.values():
        assert Image.open(io.BytesIO(picture)).width > 400
    right = explain.figures(trained, split, np.eye(3)[ASKED])
    assert list(right) == ["explain"]
