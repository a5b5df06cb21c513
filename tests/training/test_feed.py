import sys

import jax
import numpy as np
import pytest

from emotion_jax.config import Config, DataSettings, TrainingSettings
from emotion_jax.data import tfdata
from emotion_jax.data.split import Split
from emotion_jax.errors import UserError
from emotion_jax.training import feed as feed_lib
from emotion_jax.training import mesh as mesh_lib

N, SIZE, BATCH = 37, 8, 8
PIPELINES = pytest.mark.parametrize("pipeline", ["tfdata", "resident"])


def split(n=N):
    """Image i is full of the grey value i, but for its left column."""
    images = np.tile(np.arange(n, dtype=np.uint8)[:, None, None, None], (1, SIZE, SIZE, 1))
    images[:, :, 0] = 255
    labels = (np.arange(n) % 5).astype(np.int32)
    return Split("train", images, np.arange(n), labels, np.arange(n, dtype=np.uint64), ("",) * n)


def make(pipeline, batch_size=BATCH, seed=0, n=N, **augment):
    config = Config(
        data=DataSettings(image_size=SIZE, pipeline=pipeline, augment=augment),
        training=TrainingSettings(batch_size=batch_size, seed=seed),
    )
    return feed_lib.make(config, split(n), mesh_lib.make())


def prepared(feed, start, stop, key=0):
    """Batches as the step sees them."""
    prepare = jax.jit(feed.prepare)
    found = []
    for step, fed in enumerate(feed.fed(start, stop), start):
        batch = prepare(fed, jax.random.fold_in(jax.random.key(key), step))
        found.append(jax.device_get(batch))
    return found


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@PIPELINES
def test_an_epoch_holds_every_example_at_most_once(pipeline):
    feed = make(pipeline)
    assert feed.steps_per_epoch == N // BATCH == 4
    epochs = [prepared(feed, 0, 4), prepared(feed, 4, 8)]
    for batches in epochs:
        seen = np.concatenate([images[:, 0, -1, 0] for images, _ in batches]).astype(int)
        labels = np.concatenate([labels for _, labels in batches])
        assert len(set(seen)) == 4 * BATCH
        np.testing.assert_array_equal(labels, seen % 5)
        assert batches[0][0].shape == (BATCH, SIZE, SIZE, 1)
        assert (batches[0][0].dtype, batches[0][1].dtype) == (np.float32, np.int32)
    assert not same(*epochs)


def test_pipelines_agree_bit_for_bit_without_augmentation():
    assert same(prepared(make("tfdata"), 0, 9), prepared(make("resident"), 0, 9))


@PIPELINES
def test_a_batch_depends_on_seed_and_step_alone(pipeline):
    augment = {"rotation": 20.0, "flip": True, "erase": 0.5, "brightness": 0.2}
    feed = make(pipeline, **augment)
    whole = prepared(feed, 0, 9)
    assert same(whole[5:8], prepared(make(pipeline, **augment), 5, 8))
    assert same(whole, prepared(feed, 0, 9))
    assert not same(whole, prepared(make(pipeline, seed=1, **augment), 0, 9))
    assert min(images.min() for images, _ in whole) >= 0
    assert max(images.max() for images, _ in whole) <= 255


@PIPELINES
def test_augmentation_changes_images_and_not_labels(pipeline):
    plain, flipped = prepared(make(pipeline), 0, 4), prepared(make(pipeline, flip=True), 0, 4)
    for (images, labels), (wanted, wanted_labels) in zip(flipped, plain, strict=True):
        np.testing.assert_array_equal(labels, wanted_labels)
        for image, original in zip(images, wanted, strict=True):
            assert np.array_equal(image, original) or np.array_equal(image, original[:, ::-1])
    mirrored = np.concatenate([images[:, 0, 0, 0] != 255 for images, _ in flipped])
    assert 0 < mirrored.sum() < len(mirrored)


@PIPELINES
def test_batches_come_split_over_the_devices(pipeline):
    fed = next(iter(make(pipeline, 16).fed(0, 1)))
    indices_or_labels = fed[1]
    assert indices_or_labels.shape == (16,)
    assert [shard.data.shape for shard in indices_or_labels.addressable_shards] == [(2,)] * 8


def test_resident_images_are_on_every_device_once():
    feed = make("resident")
    (images, labels), _ = next(iter(feed.fed(0, 1)))
    assert images.sharding.is_fully_replicated
    assert labels.sharding.is_fully_replicated
    (again, _), _ = next(iter(feed.fed(3, 4)))
    assert again is images


@PIPELINES
def test_batches_that_cannot_be(pipeline):
    with pytest.raises(UserError, match="20 images do not divide by 8 devices"):
        make(pipeline, 20)
    with pytest.raises(UserError, match="40 images do not fit the 37 of the train split"):
        make(pipeline, 40)


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    tfdata.require.cache_clear()
    try:
        with pytest.raises(UserError, match=r"needs TensorFlow: pip install .*resident"):
            make("tfdata")
        assert len(prepared(make("resident"), 0, 1)) == 1
    finally:
        tfdata.require.cache_clear()
