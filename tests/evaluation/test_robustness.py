import io

import numpy as np
import pytest
from PIL import Image

from emotion_jax.data.dataset import Split
from emotion_jax.evaluation import robustness, robustness_plots
from emotion_jax.evaluation.robustness import CORRUPTIONS, corrupted


def split(n=6, size=16, channels=1):
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (n, size, size, channels), np.uint8)
    labels = np.arange(n, dtype=np.int32) % 3
    return Split("test", images, np.arange(n), labels, np.arange(n, dtype=np.uint64), ("",) * n)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_is_further_from_the_picture(name, channels):
    given = split(channels=channels)
    clean = given.images(np.arange(6)).astype(float)
    strengths = CORRUPTIONS[name].strengths
    if name == "resolution":  # of small pictures only the last ones are smaller still
        strengths = strengths[-2:]
    distances = []
    for strength in strengths:
        worse = corrupted(given, name, strength)
        assert worse.source.dtype == np.uint8
        assert worse.source.shape == clean.shape
        np.testing.assert_array_equal(worse.source, corrupted(given, name, strength).source)
        distances.append(np.abs(worse.images(np.arange(6)) - clean).mean())
    assert (np.diff(distances) > 0).all()
    np.testing.assert_array_equal(given.images(np.arange(6)), clean)


def test_known_values():
    given = split()
    clean = given.images(np.arange(6)).astype(float)
    np.testing.assert_array_equal(corrupted(given, "darkness", 0.5).source, np.rint(clean * 0.5))
    covered = corrupted(given, "occlusion", 0.5).source != clean
    assert covered.sum((1, 2, 3)).max() <= 64
    noise = corrupted(given, "noise", 10).source - clean
    assert noise.std() == pytest.approx(10, rel=0.1)


def test_curves_are_of_the_model(make_trained):
    trained = make_trained(widths=[4], dense=[])
    given = split()
    logits = np.asarray(trained.module.apply(trained.variables, given.images(np.arange(6))))
    content = robustness.compute(trained, given)
    assert content["clean"] == np.mean(logits.argmax(1) == given.labels)
    dark = corrupted(given, "darkness", 0.1).source
    logits = np.asarray(trained.module.apply(trained.variables, dark))
    last = content["curves"]["darkness"]["points"][-1]
    assert last["accuracy"] == np.mean(logits.argmax(1) == given.labels)
    assert last["interval"][0] <= last["accuracy"] <= last["interval"][1]
    picture = Image.open(io.BytesIO(robustness_plots.curves(content, 3)))
    assert picture.width > 1500
