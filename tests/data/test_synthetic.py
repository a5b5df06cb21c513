import hashlib
import os
import subprocess
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from emotion_jax.data import fer2013, synthetic
from emotion_jax.errors import UserError

write_few = partial(synthetic.write_tree, train=14, test=7)
PROGRAM = """
import os, sys
from functools import partial
from pathlib import Path
from emotion_jax.data import synthetic

cache, when = sys.argv[1:]
if when == "drawing":
    draw, left = synthetic.draw, iter(range(5))
    synthetic.draw = lambda *args: draw(*args) if next(left, None) is not None else os.kill(
        os.getpid(), 9)
elif when == "renaming":
    Path.rename = lambda *_: os.kill(os.getpid(), 9)
synthetic.write_tree = partial(synthetic.write_tree, train=14, test=7)
print(synthetic.ensure(Path(cache)))
"""


def start(cache, when=""):
    arguments = [sys.executable, "-c", PROGRAM, str(cache), when]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def faces(n, seed=0):
    return np.stack([synthetic.draw(i % 7, np.random.default_rng([seed, i])) for i in range(n)])


def pictures(root):
    found = {}
    for path in sorted(root.rglob("*.png")):
        with Image.open(path) as image:
            found[path.relative_to(root).as_posix()] = np.asarray(image)
    return found


def digest(images):
    return hashlib.sha256(b"".join(name.encode() + images[name].tobytes() for name in images))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    root = tmp_path_factory.mktemp("few") / "tree"
    write_few(root)
    return pictures(root)


def test_a_face_is_48_by_48_grey_and_hangs_on_label_and_generator_alone():
    one, again, other = (synthetic.draw(3, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one.shape == (48, 48)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.5
    assert (one != synthetic.draw(2, np.random.default_rng(5))).any()


def test_every_class_has_an_expression_and_they_are_those_of_fer2013():
    assert set(synthetic.FULL) == set(synthetic.CLASSES) == set(fer2013.CLASSES)
    assert list(synthetic.CLASSES) == sorted(synthetic.CLASSES)  # a label is a place in the tree


def test_the_pictures_are_those_of_version_1():
    # Not their hashes: a power or a polygon may be rounded otherwise on another machine.
    images = faces(7)
    assert synthetic.VERSION == 1
    means = [79.50, 156.40, 142.51, 103.59, 56.27, 155.61, 45.24]
    deviations = [44.66, 69.85, 29.83, 37.44, 36.77, 32.30, 13.90]
    np.testing.assert_allclose(images.mean((1, 2)), means, atol=0.3)
    np.testing.assert_allclose(images.std((1, 2)), deviations, atol=0.3)
    np.testing.assert_allclose(images[:, 24, 24], [63, 213, 145, 117, 49, 140, 27], atol=3)


def test_the_classes_can_be_told_apart_and_not_perfectly():
    images, labels = faces(700), np.arange(700) % 7
    small = images.reshape(700, 16, 3, 16, 3).mean((2, 4)).reshape(700, -1)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    model.fit(small[:560], labels[:560])
    accuracy = model.score(small[560:], labels[560:])
    assert 2 / 7 < accuracy < 1  # by a linear model; chance is 1/7
    assert len({image.tobytes() for image in images}) == 700


def test_a_tree_is_numbered_by_split_and_balanced(few):
    expected = {
        f"{split}/{synthetic.CLASSES[i % 7]}/{i:05d}.png"
        for split, n in (("train", 14), ("test", 7))
        for i in range(n)
    }
    assert set(few) == expected
    # The test's pictures go on where those of train end.
    for i, path in ((0, "train/angry/00000.png"), (9, "train/fear/00009.png")):
        expected = synthetic.draw(i % 7, np.random.default_rng([0, i]))
        np.testing.assert_array_equal(few[path], expected)
    for i in (14, 20):
        path = f"test/{synthetic.CLASSES[(i - 14) % 7]}/{i - 14:05d}.png"
        expected = synthetic.draw((i - 14) % 7, np.random.default_rng([0, i]))
        np.testing.assert_array_equal(few[path], expected)
    assert len({image.tobytes() for image in few.values()}) == 21


def test_another_seed_is_other_pictures(few, tmp_path):
    write_few(tmp_path, seed=1)
    others = pictures(tmp_path)
    assert set(others) == set(few)
    assert all((others[path] != few[path]).any() for path in few)


def test_the_default_tree(cache):
    root = synthetic.ensure(cache)
    assert root == cache / "synthetic" / "v1"
    for split, n in (("train", 2500), ("test", 500)):
        counts = Counter(path.parent.name for path in (root / split).rglob("*.png"))
        assert set(counts) == set(synthetic.CLASSES)
        assert sum(counts.values()) == n
        assert set(counts.values()) <= {n // 7, n // 7 + 1}
    with Image.open(root / "test" / "sad" / "00005.png") as image:
        assert (image.size, image.mode) == ((48, 48), "L")


def test_it_is_drawn_once(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(synthetic, "write_tree", lambda root: (calls.append(root), write_few(root)))
    first = synthetic.ensure(cache)
    stamps = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert synthetic.ensure(cache) == first
    assert len(calls) == 1
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == stamps


def test_two_other_processes_at_once_draw_the_same_tree(cache, few):
    processes = [start(cache) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.split() == [str(cache / "synthetic" / "v1")], err
    assert digest(pictures(cache / "synthetic" / "v1")).digest() == digest(few).digest()
    assert sorted(os.listdir(cache / "synthetic")) == ["v1", "v1.lock"]


@pytest.mark.parametrize("when", ["drawing", "renaming"])
def test_killed_half_way_the_next_call_makes_it_good(cache, few, when, monkeypatch):
    process = start(cache, when)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -9, err
    assert not (cache / "synthetic" / "v1").exists()
    left = pictures(cache / "synthetic")
    assert len(left) == (5 if when == "drawing" else 21)
    monkeypatch.setattr(synthetic, "write_tree", write_few)
    root = synthetic.ensure(cache)
    assert digest(pictures(root)).digest() == digest(few).digest()
    assert sorted(os.listdir(root.parent)) == ["v1", "v1.lock"]


def test_a_full_disk_is_a_sentence_and_leaves_no_tree(cache, monkeypatch):
    def full(root):
        (root / "train").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "write_tree", full)
        expected = (
            r"^Cannot write the data cache .*: No space left on device; set EMOTION_JAX_CACHE"
        )
        with pytest.raises(UserError, match=expected):
            synthetic.ensure(cache)
    monkeypatch.setattr(synthetic, "write_tree", write_few)
    assert len(pictures(synthetic.ensure(cache))) == 21


@pytest.mark.parametrize("obstacle", ["a file", "a name too long"])
def test_a_cache_that_cannot_be_made_is_a_sentence(cache, obstacle):
    if obstacle == "a file":
        cache.write_text("in the way")
    else:
        cache.mkdir()
        cache = cache / ("x" * 300)
    with pytest.raises(UserError, match=r"^Cannot write the data cache .*EMOTION_JAX_CACHE"):
        synthetic.ensure(cache)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_others_may_read_it_as_far_as_the_umask_says(cache, monkeypatch):
    monkeypatch.setattr(synthetic, "write_tree", write_few)
    before = os.umask(0o022)
    try:
        root = synthetic.ensure(cache)
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (root, *root.rglob("*")))
