import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emotion_jax.data import near


class Examples:
    """Images in memory."""

    def __init__(self, images):
        self.pixels = np.asarray(images, np.uint8)
        self.labels = np.zeros(len(images), np.int32)

    def __len__(self):
        return len(self.pixels)

    def images(self, indices):
        return self.pixels[indices]


def picture(seed, channels=1, size=48):
    """Smooth random blobs, as different from each other as strangers' faces."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), np.uint8)
    layers = [
        np.asarray(Image.fromarray(noise[..., c]).resize((size, size), Image.Resampling.BICUBIC))
        for c in range(channels)
    ]
    return np.stack(layers, axis=-1)


def compressed(image):
    buffer = io.BytesIO()
    Image.fromarray(np.squeeze(image)).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer)).reshape(image.shape)


def scaled(image):
    smaller = Image.fromarray(np.squeeze(image)).resize((37, 37))
    return np.asarray(smaller.resize((48, 48))).reshape(image.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "change",
    [
        np.copy,
        compressed,
        scaled,
        lambda image: image // 2 + 30,  # less contrast
        lambda image: (image * 0.8).astype(np.uint8),  # darker
    ],
)
def test_copies_are_found_and_strangers_are_not(change, channels):
    images = [picture(seed, channels) for seed in range(12)]
    images += [change(image) for image in images[:4]]
    pairs = near.near_pairs(Examples(images))
    assert pairs.tolist() == [[i, 12 + i] for i in range(4)]


def test_blank_images_are_near_to_nothing():
    images = np.zeros((4, 48, 48, 1), np.uint8) + np.array([0, 0, 9, 255])[:, None, None, None]
    assert near.near_pairs(Examples(images)).shape == (0, 2)


def test_both_limits_count():
    first = picture(0)
    images = Examples([first, 255 - first, picture(1)])
    # A negative has every bit turned but for rounding; correlation alone must refuse it.
    assert near.near_pairs(images, distance=64, correlation=0.85).tolist() == []
    assert near.near_pairs(images, distance=64, correlation=-1.1).tolist() == [
        [0, 1],
        [0, 2],
        [1, 2],
    ]
    assert near.near_pairs(images, distance=0, correlation=-1.1).tolist() == []


def test_distances_are_those_of_imagehash():
    import imagehash

    images = np.stack([picture(seed) for seed in range(9)])
    hashes = near.perceptual_hashes(images.__getitem__, len(images))
    theirs = [imagehash.phash(Image.fromarray(image[..., 0])) for image in images]
    for i in range(9):
        assert f"{hashes[i]:016x}" == str(theirs[i])
        for j in range(9):
            assert int(hashes[i] ^ hashes[j]).bit_count() == theirs[i] - theirs[j]


@settings(max_examples=60)
@given(
    hashes=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), min_size=1, max_size=40),
    distance=st.integers(0, 64),
    cells=st.integers(1, 100),
)
def test_every_pair_within_the_distance_once(hashes, distance, cells):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "CELLS", cells)
        found = [
            pair for part in near._within(np.array(hashes, np.uint64), distance) for pair in part
        ]
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert [tuple(pair.tolist()) for pair in found] == expected


@settings(max_examples=80)
@given(st.data())
def test_joined_is_the_finest_partition_that_keeps_pairs_and_labels_together(data):
    n = data.draw(st.integers(1, 25))
    place = st.integers(0, n - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(place, place), max_size=12)), int).reshape(-1, 2)
    labels = np.array(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)))
    group = near.joined(n, pairs, labels)
    # By hand: spread the smallest number until nothing changes.
    expected = list(range(n))
    links = [
        *pairs.tolist(),
        *((i, j) for i in range(n) for j in range(i) if labels[i] == labels[j]),
    ]
    for _ in range(n):
        for i, j in links:
            expected[i] = expected[j] = min(expected[i], expected[j])
    order = {number: place for place, number in enumerate(dict.fromkeys(expected))}
    assert group.tolist() == [order[number] for number in expected]
