import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emotion_jax.data import synthetic
from emotion_jax.data.near import perceptual_hashes
from emotion_jax.evaluation.doctor import near

FACES = [Image.fromarray(synthetic.draw(i % 7, np.random.default_rng([9, i]))) for i in range(60)]
faces = st.sampled_from(FACES)


def thumb(image):
    return np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))


THUMBS = np.stack([thumb(face) for face in FACES])


def bits(a, b):
    return int(np.bitwise_count(hash_of(a) ^ hash_of(b)))


def hash_of(image):
    return perceptual_hashes(thumb(image)[None].__getitem__, 1)[0]


def likeness(a, b, mirrored=False):
    pair = np.array([[0, 1]])
    return float(near.correlations(np.stack([thumb(a), thumb(b)]), pair, mirrored)[0])


@settings(max_examples=40)
@given(faces, st.floats(0.5, 1.0), st.integers(-20, 20))
def test_brightness_changes_neither_hash_nor_likeness(face, gain, offset):
    values = np.asarray(face, np.float32) * 0.6 + 40  # room on both sides: nothing is clipped
    face = Image.fromarray(np.rint(values).astype(np.uint8))
    other = face.point(lambda v: v * gain + offset)
    assert bits(face, other) <= 4
    assert likeness(face, other) > 0.95


@settings(max_examples=40)
@given(faces, st.integers(-1, 1), st.integers(-1, 1))
def test_a_small_shift_stays_alike(face, down, right):
    pixels = np.pad(np.asarray(face), 1, mode="edge")
    other = Image.fromarray(pixels[1 + down :, 1 + right :][:48, :48])
    assert likeness(face, other) > near.CORRELATION
    assert bits(face, other) <= 24  # of 64; strangers differ in 32


@settings(max_examples=40)
@given(faces)
def test_the_mirror_image_is_alike_only_as_a_mirror_image(face):
    other = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert likeness(face, other, mirrored=True) > 0.99


@settings(max_examples=40)
@given(st.permutations(range(60)))
def test_strangers_are_not_alike(order):
    a, b = order[:2]
    assert likeness(FACES[a], FACES[b]) < near.CORRELATION


def brute_force(thumbs):
    """Every pair, one by one."""
    plain, mirrored = (
        perceptual_hashes(some.__getitem__, len(some)) for some in (thumbs, thumbs[:, :, ::-1])
    )
    found = set()
    for later in range(len(thumbs)):
        for earlier in range(later):
            for flip, hashes in ((False, plain), (True, mirrored)):
                if np.bitwise_count(hashes[later] ^ plain[earlier]) > near.DISTANCE:
                    continue
                pair = np.array([[later, earlier]])
                if near.correlations(thumbs, pair, flip)[0] >= near.CORRELATION:
                    found.add((later, earlier, flip))
    return found


@pytest.mark.parametrize("cells", [1, 100, 2**18])
def test_all_pairs_are_found_whatever_the_blocks(monkeypatch, cells):
    monkeypatch.setattr(near, "CELLS", cells)
    some = THUMBS[:20]
    thumbs = np.concatenate([some, some[5:8, :, ::-1], (some[2:4] * 0.7).astype(np.uint8)])
    pairs = near.near_pairs(thumbs, np.arange(len(thumbs)) // 20)
    columns = map(np.ndarray.tolist, (pairs.later, pairs.earlier, pairs.mirrored))
    found = set(zip(*columns, strict=True))
    assert found == brute_force(thumbs)
    assert {(20, 5, True), (21, 6, True), (22, 7, True), (23, 2, False), (24, 3, False)} <= found


def test_a_film_of_equal_frames_gives_a_bounded_number_of_pairs():
    frames = np.repeat(THUMBS[:1], 200, axis=0)
    pairs = near.near_pairs(frames, np.zeros(200, int))
    assert len(pairs) <= 2 * near.NEAREST * len(frames)
    assert set(pairs.later.tolist()) == set(range(1, 200))


@pytest.mark.parametrize(("cells", "chunk"), [(2**18, 512), (1, 512), (2000, 7)])
def test_every_frame_of_a_film_in_two_splits_is_in_a_pair_of_both(monkeypatch, cells, chunk):
    monkeypatch.setattr(near, "CELLS", cells)
    monkeypatch.setattr(near, "CHUNK", chunk)
    noise = np.random.default_rng(0).normal(0, 2, (150, 32, 32))
    film = np.clip(THUMBS[0] + noise, 0, 255).astype(np.uint8)
    split = np.repeat([0, 1], (90, 60))
    pairs = near.near_pairs(film, split)
    across = split[pairs.later] != split[pairs.earlier]
    assert set(pairs.earlier[across].tolist()) == set(range(90))
    assert set(pairs.later[across].tolist()) == set(range(90, 150))
    assert len(pairs) <= (4 * near.NEAREST + 2) * len(film)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_to_compare(n):
    assert len(near.near_pairs(THUMBS[:n], np.zeros(n, int))) == 0
