import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from emotion_jax.config import AugmentSettings, DataSettings
from emotion_jax.data import augment, stream, tfdata
from emotion_jax.data.split import Split
from emotion_jax.errors import UserError

SIZE, N, BATCH = 12, 37, 8  # four steps an epoch, five images left over


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


class OnDisk:
    """As ArrayRecord's random access."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __getitems__(self, rows):
        return [{"image": self.pixels[row]} for row in rows]


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, SIZE, SIZE, 1), np.uint8)
    return Faces(pixels, np.arange(N, dtype=np.int32))


@pytest.fixture(scope="module")
def settings():
    ranges = AugmentSettings(
        rotation=20,
        shift=0.1,
        zoom=0.2,
        shear=5,
        flip=True,
        brightness=0.2,
        contrast=0.2,
        erase=0.5,
    )
    return DataSettings(augment=ranges)


def run(faces, settings, start=0, stop=10, seed=7, rows=slice(None)):
    batches = tfdata.batches(
        faces,
        settings,
        seed=seed,
        batch_size=BATCH,
        start=start,
        stop=stop,
        rows=rows,
        image_shape=(SIZE, SIZE, 1),
    )
    return list(batches)


@pytest.fixture(scope="module")
def whole(faces, settings):
    return run(faces, settings)


def assert_same(some, others):
    assert len(some) == len(others)
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_shapes_types_and_the_stream_of_indices(whole):
    assert len(whole) == 10
    for step, (images, labels) in enumerate(whole):
        assert (images.shape, images.dtype) == ((BATCH, SIZE, SIZE, 1), np.float32)
        assert labels.dtype == np.int32
        assert images.min() >= 0
        assert images.max() <= 255
        np.testing.assert_array_equal(labels, stream.batch_indices(7, step, N, BATCH))


def test_unaugmented_batches_are_the_images_of_their_labels(faces):
    for images, labels in run(faces, DataSettings()):
        np.testing.assert_array_equal(images, faces.pixels[labels])


def test_an_image_is_augmented_as_the_jax_applier_does(faces, settings, whole):
    images, labels = whole[3]
    u = np.random.default_rng([7, 3, 1]).random((BATCH, augment.UNIFORMS), np.float32)
    p = augment.parameters(u, settings.augment, SIZE)
    ours = augment.apply(faces.pixels[labels], p, settings.augment)
    np.testing.assert_allclose(images, ours, rtol=0, atol=0.01)


@pytest.mark.parametrize("start", [1, 4, 9, 10])
def test_a_run_that_starts_later_sees_the_same_batches(faces, settings, whole, start):
    assert_same(run(faces, settings, start=start), whole[start:])


def test_the_rows_of_two_processes_make_up_the_batch(faces, settings, whole):
    halves = [run(faces, settings, rows=slice(4 * i, 4 * i + 4)) for i in range(2)]
    joined = [
        tuple(map(np.concatenate, zip(*pair, strict=True))) for pair in zip(*halves, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("source", [np.asarray, OnDisk])
def test_a_split_is_read_a_batch_at_a_time_wherever_it_lies(
    faces, settings, whole, source, monkeypatch
):
    asked, images = [], Split.images

    def counted(split, indices):
        asked.append(len(indices))  # to hold all of them here would take the memory twice
        return images(split, indices)

    monkeypatch.setattr(Split, "images", counted)
    numbers = np.arange(N)
    hashes = numbers.astype(np.uint64)
    # Backwards, so that rows and numbers differ.
    source = source(faces.pixels[::-1])
    split = Split("train", source, numbers[::-1], faces.labels, hashes, ())
    assert_same(run(split, settings), whole)
    assert asked == [BATCH] * 10


def test_an_image_that_cannot_be_read_is_the_sentence_of_its_reader(faces, settings):
    @dataclass
    class Damaged(Faces):
        def images(self, indices):
            raise UserError("The cache is damaged.")

    damaged = Damaged(faces.pixels, faces.labels)
    with pytest.raises(UserError, match=r"^The cache is damaged\.$"):
        run(damaged, settings)


def test_another_seed_or_step_is_another_augmentation(faces, settings, whole):
    other = run(faces, settings, seed=8)
    assert all(not np.array_equal(a[0], b[0]) for a, b in zip(whole, other, strict=True))
    one = Faces(faces.pixels[:1].repeat(N, 0), faces.labels)
    firsts = [images[0] for images, _ in run(one, settings)]
    assert len({image.tobytes() for image in firsts}) == len(firsts)


def test_without_tensorflow_it_is_one_sentence(monkeypatch):
    tfdata.require.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what import takes for "not there"
    with pytest.raises(UserError, match=r"pip install .emotion-jax\[tfdata\].*resident"):
        tfdata.require()
    monkeypatch.undo()
    assert tfdata.require().__name__ == "tensorflow"


def test_no_module_of_ours_imports_tensorflow():
    program = """
import importlib, pkgutil, sys
import emotion_jax
for module in pkgutil.walk_packages(emotion_jax.__path__, "emotion_jax."):
    if module.name.startswith("emotion_jax.benchmark.peers."):
        continue  # other frameworks, each in a process of its own
    importlib.import_module(module.name)
assert "emotion_jax.data.tfdata" in sys.modules
print("tensorflow" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["False"], result.stderr
