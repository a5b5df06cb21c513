from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from emotion_jax.config import AugmentSettings
from emotion_jax.data import augment, resident
from emotion_jax.errors import UserError

EVERYTHING = AugmentSettings(
    rotation=20, shift=0.1, zoom=0.2, shear=5, flip=True, brightness=0.2, contrast=0.2, erase=0.5
)


@dataclass
class Faces:
    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    @property
    def targets(self):
        return self.labels

    def images(self, indices):
        return self.pixels[indices]


@pytest.fixture(scope="module")
def faces():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)
    return Faces(pixels, np.arange(40, dtype=np.int64))


def shardings(devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def batch(faces, indices, devices, settings):
    replicated, split = shardings(devices)
    data = resident.put(faces, replicated)
    step = jax.jit(lambda data, at, key: resident.make_batch(data, at, key, settings))
    return step(data, jax.device_put(indices, split), jax.random.key(3))


def test_put_copies_all_to_every_device(faces, monkeypatch):
    monkeypatch.setattr(resident, "CHUNK", 7)
    images, labels = resident.put(faces, shardings(8)[0])
    assert (images.dtype, labels.dtype) == (jnp.uint8, jnp.int32)
    for array, expected in ((images, faces.pixels), (labels, faces.labels)):
        assert len(array.addressable_shards) == 8
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected)


def test_a_batch_is_a_gather_and_an_augmentation(faces):
    indices = np.array([3, 3, 39, 0, 17, 5, 8, 1], np.int32)
    images, labels = batch(faces, indices, 1, EVERYTHING)
    u = jax.random.uniform(jax.random.key(3), (8, augment.UNIFORMS))
    p = augment.parameters(u, EVERYTHING, 12)
    expected = augment.apply(jnp.asarray(faces.pixels[indices]), p, EVERYTHING)
    np.testing.assert_allclose(images, expected, rtol=0, atol=0.01)
    np.testing.assert_array_equal(labels, indices)
    assert (images.dtype, labels.dtype) == (jnp.float32, jnp.int32)


def test_eight_devices_make_the_batch_of_one(faces):
    indices = np.random.default_rng(1).integers(0, 40, 16).astype(np.int32)
    one, eight = (batch(faces, indices, devices, EVERYTHING) for devices in (1, 8))
    np.testing.assert_allclose(one[0], eight[0], rtol=0, atol=0.01)
    np.testing.assert_array_equal(one[1], eight[1])
    assert eight[0].sharding.shard_shape(eight[0].shape)[0] == 2  # nothing was gathered


def test_random_numbers_do_not_hang_on_the_sharding():
    assert jax.config.jax_threefry_partitionable


class Device:
    def __init__(self, stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats

    def __str__(self):
        return "TPU_0"


def test_what_does_not_fit_is_refused_with_both_sizes():
    device = Device({"bytes_limit": 16 * 2**30, "bytes_in_use": 6 * 2**30})
    resident.check_fits(6 * 2**30, [device])
    with pytest.raises(UserError, match=r"takes 6\.50 GiB and TPU_0 has 10\.00 GiB free.*tfdata"):
        resident.check_fits(int(6.5 * 2**30), [device])


def test_the_fullest_device_decides():
    devices = [Device({"bytes_limit": 100}), Device({"bytes_limit": 100, "bytes_in_use": 95})]
    with pytest.raises(UserError):
        resident.check_fits(10, devices)


@pytest.mark.parametrize("stats", [None, {}, {"bytes_in_use": 5}])
def test_a_device_that_does_not_tell_is_taken_at_its_word(stats):
    resident.check_fits(2**60, [Device(stats)])


def test_soft_targets_are_gathered_by_row(faces):
    soft = np.random.default_rng(0).dirichlet(np.ones(3), len(faces)).astype(np.float32)
    data = (jnp.asarray(faces.pixels), jnp.asarray(soft))
    at = np.array([3, 0, 39], np.int32)
    _, targets = resident.make_batch(data, jnp.asarray(at), jax.random.key(0), AugmentSettings())
    np.testing.assert_array_equal(targets, soft[at])
