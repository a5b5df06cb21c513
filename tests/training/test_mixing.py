import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emotion_jax.config import TrainingSettings
from emotion_jax.training.mixing import mixed

N, SIDE, CLASSES = 64, 12, 3


def batch():
    """Images whose every pixel is their number, so that a mix can be told from its pixels."""
    images = np.broadcast_to(
        np.arange(N, dtype=np.float32)[:, None, None, None], (N, SIDE, SIDE, 1)
    )
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(N) % CLASSES]
    return jnp.asarray(images), jnp.asarray(targets)


def mix(seed=0, **settings):
    images, targets = mixed(*batch(), jax.random.key(seed), TrainingSettings(**settings))
    return np.asarray(images)[..., 0], np.asarray(targets)


def shares(values, own):
    """How much of ``own`` is in a mean of it and of its partner, N - 1 - own."""
    return (values - (N - 1 - own)) / (2 * own - (N - 1))


def assert_targets_agree(share, targets):
    own = np.asarray(batch()[1])
    expected = share[:, None] * own + (1 - share[:, None]) * own[::-1]
    np.testing.assert_allclose(targets, expected, atol=1e-5)
    np.testing.assert_allclose(targets.sum(1), 1.0, rtol=1e-6)


def test_off_is_off():
    images, targets = batch()
    found = mixed(images, targets, jax.random.key(0), TrainingSettings())
    assert found[0] is images
    assert found[1] is targets


def test_mixup_takes_one_share_of_all_pixels_and_of_the_targets():
    images, targets = mix(mixup=0.4)
    share = shares(images, np.arange(N)[:, None, None])
    assert np.ptp(share, axis=(1, 2)).max() < 1e-4
    assert_targets_agree(share[:, 0, 0], targets)
    assert 0.1 < np.mean(np.abs(share[:, 0, 0] - 0.5) > 0.4) < 0.9  # Beta(0.4, 0.4) is a U


def test_cutmix_takes_a_rectangle_and_the_targets_by_its_area():
    images, targets = mix(cutmix=1.0)
    share = shares(images, np.arange(N)[:, None, None])
    is_own = np.isclose(share, 1.0)
    assert (is_own | np.isclose(share, 0.0)).all()
    for other in ~is_own:
        rows, columns = other.any(1), other.any(0)
        np.testing.assert_array_equal(other, rows[:, None] & columns[None, :])
    assert_targets_agree(is_own.mean((1, 2)), targets)
    assert np.ptp(is_own.mean((1, 2))) > 0.5


def test_with_both_each_image_takes_one_of_them():
    images, targets = mix(mixup=1.0, cutmix=1.0)
    share = shares(images, np.arange(N)[:, None, None])
    blended = np.ptp(share, axis=(1, 2)) < 1e-4
    cut = (np.isclose(share, 0, atol=1e-4) | np.isclose(share, 1, atol=1e-4)).all((1, 2))
    assert (blended | cut).all()
    assert 0.25 < np.mean(cut) < 0.75
    assert_targets_agree(share.mean((1, 2)), targets)


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0}])
def test_the_key_decides(settings):
    np.testing.assert_array_equal(mix(1, **settings)[0], mix(1, **settings)[0])
    assert (mix(1, **settings)[0] != mix(2, **settings)[0]).any()
