import hashlib
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from emotion_jax.errors import UserError
from emotion_jax.evaluation.doctor import survey


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def grey(value, size=(6, 4)):
    return Image.new("L", size, value)


def look(root):
    return survey.survey(survey.list_tree(root))


def test_train_comes_first_and_classes_are_those_of_all_splits(tmp_path):
    save(tmp_path / "a_split" / "sad" / "1.png", grey(1))
    save(tmp_path / "train" / "happy" / "deep" / "2.png", grey(2))
    save(tmp_path / "train" / "happy" / "1.png", grey(3))
    (tmp_path / "train" / "empty").mkdir()
    tree = survey.list_tree(tmp_path)
    assert tree.splits == ("train", "a_split")
    assert tree.classes == ("empty", "happy", "sad")
    paths = ["train/happy/1.png", "train/happy/deep/2.png", "a_split/sad/1.png"]
    assert [item.path for item in tree.items] == paths
    assert tree.sizes.tolist() == [[0, 2, -1], [-1, -1, 1]]


def test_class_folders_in_the_root_are_one_split(tmp_path):
    for name in ("test", "other"):
        save(tmp_path / name / "1.png", grey(1))
    tree = survey.list_tree(tmp_path)
    assert tree.splits == ("",)
    assert tree.classes == ("other", "test")
    assert [item.path for item in tree.items] == ["other/1.png", "test/1.png"]


def test_a_tree_without_train(tmp_path):
    save(tmp_path / "test" / "sad" / "1.png", grey(1))
    assert survey.list_tree(tmp_path).splits == ("test",)


def test_what_is_kept_of_an_image(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    save(tmp_path / "a" / "1.png", Image.fromarray(pixels))
    seen = look(tmp_path)
    assert seen.size.tolist() == [[6, 4]]
    np.testing.assert_allclose(seen.mean, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(seen.std, [pixels.std()], rtol=1e-6)
    assert seen.thumbs.shape == (1, 32, 32)


def test_equal_pixels_have_equal_hashes_whatever_the_file(tmp_path):
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (4, 6), dtype=np.uint8))
    save(tmp_path / "a" / "1.png", pixels)
    save(tmp_path / "a" / "2.bmp", pixels.convert("RGB"))
    save(tmp_path / "a" / "3.webp", pixels.convert("RGB"))  # lossy
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a" / "4.png", exif=turned)
    save(tmp_path / "a" / "5.png", Image.fromarray(np.asarray(pixels).reshape(3, 8)))
    hashes = look(tmp_path).hashes.tolist()
    assert [value == hashes[0] for value in hashes] == [True, True, False, True, False]


def test_the_hash_is_of_size_and_pixels_and_makes_no_copy_of_them(tmp_path):
    pixels = np.zeros((2000, 3000, 3), np.uint8)
    pixels[::7, ::5] = 200
    save(tmp_path / "a" / "1.png", Image.fromarray(pixels))
    tracemalloc.start()
    try:
        seen = look(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < pixels.nbytes / 2
    text = np.array([3000, 2000], ">u4").tobytes() + pixels.tobytes()
    assert int(seen.hashes[0]) == int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def test_colours_count(tmp_path):
    for i, colour in enumerate([(200, 0, 0), (0, 102, 0)]):  # of the same grey
        save(tmp_path / "a" / f"{i}.png", Image.new("RGB", (6, 4), colour))
    seen = look(tmp_path)
    assert seen.mean[0] == seen.mean[1]
    assert seen.hashes[0] != seen.hashes[1]


def test_what_cannot_be_read_is_a_problem_and_the_rest_stays_in_order(tmp_path):
    for i in range(9):
        save(tmp_path / "a" / f"{i}.png", grey(i))
    (tmp_path / "a" / "4.png").write_bytes(b"text")
    (tmp_path / "a" / "0.png").write_bytes(b"")
    os.symlink("nowhere", tmp_path / "a" / "99.png")
    seen = look(tmp_path)
    assert [path[2] for path in seen.paths] == list("1235678")
    assert seen.mean.tolist() == [1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_array_equal(seen.thumbs[:, 0, 0], [1, 2, 3, 5, 6, 7, 8])
    assert [tuple(problem) for problem in seen.problems] == [
        ("a/0.png", "zero bytes"),
        ("a/4.png", "not an image"),
        ("a/99.png", "a symlink to nothing"),
    ]


def test_folders_of_no_use(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        survey.list_tree(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no image files .* it has no folders"):
        survey.list_tree(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"None of the 1 images .* \(a/1.png: not an image\)"):
        look(tmp_path)


def test_a_link_out_of_the_tree_is_named_where_nothing_is_left(tmp_path):
    save(tmp_path / "elsewhere" / "happy" / "1.png", grey(1))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no folders \(train: a symlink out of the tree\)"):
        survey.list_tree(tmp_path / "data")
