import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emotion_jax.config import AugmentSettings, DataSettings
from emotion_jax.data import augment, tfdata

EVERYTHING = {
    "rotation": 180.0,
    "shift": 0.5,
    "shear": 45.0,
    "zoom": 0.5,
    "flip": True,
    "brightness": 0.4,
    "contrast": 0.4,
    "erase": 0.5,
}
ALONE = [{name: value} for name, value in EVERYTHING.items()]
HALF = 0.5  # the uniform number that means "no change" to a signed range, and no mirror


def faces(n, size, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size, size, channels), np.uint8)


def uniforms(n, seed=0):
    return np.random.default_rng(seed).random((n, augment.UNIFORMS), np.float32)


def at_rest(n=1):
    return np.full((n, augment.UNIFORMS), HALF, np.float32)


@pytest.mark.parametrize(("size", "channels"), [(48, 1), (17, 3)])
@pytest.mark.parametrize(
    "ranges", [*ALONE, EVERYTHING], ids=lambda ranges: "+".join(ranges) if len(ranges) == 1 else "*"
)
def test_both_appliers_give_the_same_pixels(size, channels, ranges):
    s = AugmentSettings(**ranges)
    images, p = faces(16, size, channels), augment.parameters(uniforms(16), s, size)
    ours = np.asarray(augment.apply(jnp.asarray(images), p, s))
    tf = tfdata.require()
    data = DataSettings(augment=s)
    theirs = tfdata.apply(tf.constant(images), augment.Parameters(*map(tf.constant, p[:4])), data)
    assert ours.dtype == np.float32
    assert ours.shape == images.shape
    # float32 knows a coordinate of 48 to 4e-6 of a pixel, and a pixel's neighbour is 255 away.
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=0.01)
    assert (ours != images).any()


def keras_warp(image, u, s, size):
    """Keras' apply_affine_transform in float64, by its own formula, then a mirror."""
    signed = 2 * u.astype(np.float64) - 1
    theta, shear = math.radians(s.rotation) * signed[0], math.radians(s.shear) * signed[1]
    zx, zy = 1 + s.zoom * signed[2], 1 + s.zoom * signed[3]
    tx, ty = s.shift * size * signed[5], s.shift * size * signed[6]
    rotation = [[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]]
    shift = [[1, 0, tx], [0, 1, ty], [0, 0, 1]]
    sheared = [[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]]
    matrix = np.linalg.multi_dot([rotation, shift, sheared, np.diag([zx, zy, 1])])
    o = size / 2 - 0.5
    there, back = np.eye(3), np.eye(3)
    there[:2, 2], back[:2, 2] = o, -o
    matrix = there @ matrix @ back
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    x, y, _ = np.tensordot(matrix, np.stack([columns, rows, np.ones_like(rows)]), 1)
    warped = ndimage.map_coordinates(image.astype(np.float64), [y, x], order=1, mode="nearest")
    return warped[:, ::-1] if s.flip and u[4] < 0.5 else warped


@pytest.mark.parametrize("size", [48, 17])
def test_warp_is_that_of_keras_and_scipy(size):
    s = AugmentSettings(rotation=25, shift=0.15, shear=20, zoom=0.3, flip=True)
    images, u = faces(12, size, 1), uniforms(12)
    ours = augment.apply(jnp.asarray(images), augment.parameters(u, s, size), s)
    theirs = [keras_warp(images[i, ..., 0], u[i], s, size) for i in range(12)]
    np.testing.assert_allclose(ours[..., 0], theirs, rtol=0, atol=0.01)


@pytest.mark.parametrize("size", [10, 11])
def test_a_shift_by_whole_pixels_moves_them_and_repeats_the_border(size):
    s = AugmentSettings(shift=3 / size)
    u = at_rest()
    u[0, 5], u[0, 6] = 1.0, 0.0  # x + 3, y - 3
    images = faces(1, size, 3)
    shifted = augment.apply(jnp.asarray(images), augment.parameters(u, s, size), s)
    padded = np.pad(images[0], ((3, 0), (0, 3), (0, 0)), mode="edge")
    np.testing.assert_allclose(shifted[0], padded[:size, 3:], rtol=0, atol=2e-3)


@pytest.mark.parametrize("warped", [False, True])
def test_a_mirror_is_exact_with_or_without_a_warp(warped):
    s = AugmentSettings(flip=True, rotation=30.0 if warped else 0.0)
    u = at_rest(2)
    u[:, 4] = 0.25, 0.75
    images = faces(2, 17, 1)
    mirrored = augment.apply(jnp.asarray(images), augment.parameters(u, s, 17), s)
    np.testing.assert_array_equal(mirrored[0], images[0, :, ::-1])
    np.testing.assert_array_equal(mirrored[1], images[1])


def test_a_quarter_turn_is_exact_to_the_eye():
    s = AugmentSettings(rotation=90)
    u = at_rest()
    u[0, 0] = 1.0
    images = faces(1, 12, 1)
    turned = augment.apply(jnp.asarray(images), augment.parameters(u, s, 12), s)
    np.testing.assert_allclose(turned[0], np.rot90(images[0], 1), rtol=0, atol=2e-3)


def test_zero_ranges_are_the_identity():
    images = jnp.asarray(faces(5, 11, 3))
    same = augment.augment(images, jax.random.key(0), AugmentSettings())
    assert same.dtype == jnp.float32
    np.testing.assert_array_equal(same, images)


@pytest.mark.parametrize("ranges", ALONE, ids=lambda ranges: next(iter(ranges)))
def test_the_middle_of_every_range_is_the_identity(ranges):
    s = AugmentSettings(**ranges)
    u = at_rest()
    u[0, 13] = 1.0  # no erasing
    images = faces(1, 16, 1)
    same = augment.apply(jnp.asarray(images), augment.parameters(u, s, 16), s)
    np.testing.assert_allclose(same, images, rtol=0, atol=1e-4)


def test_brightness_multiplies_and_contrast_spreads_about_mid_grey():
    u = at_rest(2)
    u[0, 7], u[1, 8] = 1.0, 0.0
    images = np.full((2, 8, 8, 1), 200, np.uint8)
    s = AugmentSettings(brightness=0.2, contrast=0.5)
    changed = augment.apply(jnp.asarray(images), augment.parameters(u, s, 8), s)
    np.testing.assert_allclose(changed[0], 240.0, rtol=1e-6)
    np.testing.assert_allclose(changed[1], 127.5 + 0.5 * (200 - 127.5), rtol=1e-6)


ranges = st.builds(
    AugmentSettings,
    rotation=st.floats(0, 180),
    shift=st.floats(0, 1),
    shear=st.floats(0, 89),
    zoom=st.floats(0, 0.99),
    flip=st.booleans(),
    brightness=st.floats(0, 0.99),
    contrast=st.floats(0, 0.99),
    erase=st.floats(0, 1),
    erase_area=st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)).map(lambda a: tuple(sorted(a))),
)


@settings(max_examples=100, deadline=None)
@given(s=ranges, size=st.integers(8, 65), seed=st.integers(0, 2**32))
def test_parameters_stay_in_their_ranges(s, size, seed):
    u = uniforms(64, seed)
    u[0], u[1] = 0.0, np.nextafter(np.float32(1), np.float32(0))
    p = augment.parameters(u, s, size)
    assert [(a.shape, a.dtype) for a in p] == [
        (shape, np.float32) for shape in [(64, 2, 3), (64,), (64,), (64, 4)]
    ]
    linear = p.matrix[:, :, :2].astype(np.float64)
    # Where the centre comes from: the shift alone moves it, at most by its range a side.
    centre = np.full(2, (size - 1) / 2)
    moved = linear @ centre + p.matrix[:, :, 2] - centre
    assert (np.linalg.norm(moved, axis=1) <= s.shift * size * math.sqrt(2) + 1e-3).all()
    # Columns: zoom_x along the turned x axis, zoom_y along the sheared and turned y axis.
    zoom = np.linalg.norm(linear, axis=1)
    assert (np.abs(zoom - 1) <= s.zoom + 1e-5).all()
    mirrored = np.linalg.det(linear) < 0
    np.testing.assert_array_equal(mirrored, (u[:, 4] < 0.5) & s.flip)
    x = linear[:, :, 0] * np.where(mirrored, -1, 1)[:, None]
    turned = np.degrees(np.arctan2(x[:, 1], x[:, 0]))
    assert (np.abs(turned) <= s.rotation + 1e-3).all()
    gain = 1 + np.array([-1, 1]) * s.brightness
    darkest, brightest = gain * (1 + np.array([-1, 1]) * s.contrast)
    assert ((p.gain >= darkest - 1e-5) & (p.gain <= brightest + 1e-5)).all()


@settings(max_examples=100, deadline=None)
@given(s=ranges, size=st.integers(8, 65), seed=st.integers(0, 2**32))
def test_erased_boxes_are_whole_pixels_inside_the_image_and_in_their_range(s, size, seed):
    u = uniforms(64, seed)
    u[0], u[1] = 0.0, np.nextafter(np.float32(1), np.float32(0))
    box = augment.parameters(u, s, size).box
    np.testing.assert_array_equal(box, np.rint(box))
    erased = box.any(axis=1)
    np.testing.assert_array_equal(erased, u[:, 13] < np.float32(s.erase))
    y0, x0, y1, x1 = box[erased].T
    assert (np.minimum(y0, x0) >= 0).all()
    assert (np.maximum(y1, x1) <= size).all()
    height, width = y1 - y0, x1 - x0
    assert (np.minimum(height, width) >= 1).all()
    # Sides are rounded to whole pixels, so half a pixel is allowed on either.
    longest = math.sqrt(s.erase_area[1] * augment.ERASE_ASPECT) * size + 0.51
    assert (np.maximum(height, width) <= max(longest, 1)).all()
    rounded = (height > 1) & (width > 1)  # but never to less than one
    smallest = ((height - 0.51) * (width - 0.51))[rounded]
    assert (smallest <= s.erase_area[1] * size**2 + 1e-3).all()
    uncut = (height < size) & (width < size)
    largest = ((height + 0.51) * (width + 0.51))[uncut]
    assert (largest >= s.erase_area[0] * size**2 - 1e-3).all()


def test_erasing_reaches_every_pixel_alike():
    s = AugmentSettings(erase=1.0, erase_area=(0.1, 0.1))
    box = augment.parameters(uniforms(20_000), s, 12).box
    for low, high in ((0, 2), (1, 3)):
        square = box[:, high] - box[:, low] == 4  # of one side length, every place is as likely
        places = np.bincount(box[square, low].astype(int), minlength=9)
        assert len(places) == 9
        assert places.min() > 0.75 * places.mean()


def test_erased_pixels_are_mid_grey_and_no_others_change():
    s = AugmentSettings(erase=1.0)
    images, p = faces(8, 20, 3), augment.parameters(uniforms(8), s, 20)
    changed = np.asarray(augment.apply(jnp.asarray(images), p, s))
    for before, after, (y0, x0, y1, x1) in zip(images, changed, p.box.astype(int), strict=True):
        expected = before.astype(np.float32)
        expected[y0:y1, x0:x1] = 127.5
        np.testing.assert_array_equal(after, expected)


@settings(max_examples=25, deadline=None)
@given(s=ranges, seed=st.integers(0, 2**32))
def test_numpy_and_jax_sample_the_same(s, seed):
    u = uniforms(32, seed)
    ours, theirs = augment.parameters(u, s, 48), augment.parameters(jnp.asarray(u), s, 48)
    assert all(isinstance(a, np.ndarray) for a in ours[:4])
    assert all(isinstance(a, jax.Array) for a in theirs[:4])
    for name in ("matrix", "gain", "bias"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-4, err_msg=name
        )
    # An exp that is off by its last bit may round a side the other way.
    assert np.abs(ours.box - np.asarray(theirs.box)).max() <= 1
    assert (ours.box == np.asarray(theirs.box)).mean() > 0.95


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_pixels_stay_grey_values(seed):
    s = AugmentSettings(**EVERYTHING)
    changed = np.asarray(
        augment.augment(jnp.asarray(faces(8, 16, 1, seed)), jax.random.key(seed), s)
    )
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_a_key_fixes_the_images_and_another_changes_them():
    s, images = AugmentSettings(**EVERYTHING), jnp.asarray(faces(8, 16, 1))
    first, again, other = (augment.augment(images, jax.random.key(k), s) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
