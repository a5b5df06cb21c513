import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_jax import files
from emotion_jax.data import folder, ingest
from emotion_jax.data.preprocess import Preprocess
from emotion_jax.errors import UserError

EIGHT = Preprocess(image_size=8)


@pytest.fixture
def tree(tmp_path):
    """Two classes, ten train images and four test images, no two alike."""
    root, rng = tmp_path / "faces", np.random.default_rng(0)
    for split, n in (("train", 5), ("test", 2)):
        for name in ("happy", "sad"):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def reads(monkeypatch):
    """How many images were opened."""
    opened = []
    read = folder.read

    def counting(listing, *args):
        for result in read(listing, *args):
            opened.append(result)
            yield result

    monkeypatch.setattr(folder, "read", counting)
    return opened


def take(root, cache, preprocess=EIGHT):
    return ingest.ingest(folder.list_tree(root), preprocess, cache)


def pixels(records, split):
    rows = range(len(records.splits[split]["labels"]))
    return np.stack([example["image"] for example in records.source(split).__getitems__(rows)])


def datasets(cache):
    return sorted(path.name for path in (cache / "datasets").iterdir())


def assert_whole(records, root):
    """The records are the images of the tree, in the order of its listing."""
    listing = folder.list_tree(root)
    for split in ("train", "test"):
        images = [image for image in listing.images if image.split == split]
        index = records.splits[split]
        assert index["paths"] == [image.path for image in images]
        assert index["labels"] == [image.label for image in images]
        expected = [np.asarray(Image.open(root / image.path))[..., None] for image in images]
        stored = pixels(records, split)
        np.testing.assert_array_equal(stored, expected)
        assert stored.dtype == np.uint8
        assert index["hashes"] == [ingest.image_hash(image) for image in stored]
    assert records.classes == ("happy", "sad")
    assert records.problems == listing.problems


def test_records_are_the_images_in_the_order_of_the_listing(tree, cache):
    records = take(tree, cache)
    assert_whole(records, tree)
    assert len(records.fingerprint) == 64
    assert os.listdir(cache / "temporary") == []


def test_the_second_call_reads_nothing(tree, cache, reads):
    first = take(tree, cache)
    assert len(reads) == 14
    assert take(tree, cache) == first
    assert len(reads) == 14


def test_touched_or_moved_it_is_read_again_and_is_the_same_dataset(tree, cache, reads):
    first = take(tree, cache)
    os.utime(tree / "train" / "sad" / "0.png", (1, 1))
    touched = take(tree, cache)
    assert len(reads) == 28
    moved = take(tree.rename(tree.parent / "moved"), cache)
    assert len(reads) == 42
    assert first == touched == moved
    assert datasets(cache) == [first.fingerprint]


def test_trees_that_agree_in_names_sizes_and_times_are_told_apart(tree, cache):
    twin = shutil.copytree(tree, tree.parent / "twin")
    for path in sorted(tree.rglob("*.png")):  # equal sizes, as in an archive of bitmaps
        other = twin / path.relative_to(tree)
        size = max(path.stat().st_size, 200)
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        Image.fromarray(255 - np.asarray(Image.open(path))).save(other)
        other.write_bytes(other.read_bytes().ljust(size, b"\0"))
        for file in (path, other):
            os.utime(file, (1e9, 1e9))
    assert folder.fingerprint(folder.list_tree(tree)) == folder.fingerprint(folder.list_tree(twin))
    one, other = take(tree, cache), take(twin, cache)
    np.testing.assert_array_equal(pixels(one, "train"), 255 - pixels(other, "train"))


@pytest.mark.parametrize("change", ["content", "name", "label", "more", "less", "preprocess"])
def test_anything_new_is_a_new_dataset(tree, cache, change):
    first = take(tree, cache)
    image = tree / "train" / "happy" / "0.png"
    preprocess = EIGHT
    if change == "content":
        Image.new("L", (8, 8), 7).save(image)
    elif change == "name":
        image.rename(image.with_name("00.png"))
    elif change == "label":
        image.rename(tree / "train" / "sad" / "9.png")
    elif change == "more":
        Image.new("L", (8, 8), 7).save(image.with_name("9.png"))
    elif change == "less":
        image.unlink()
    else:
        preprocess = Preprocess(image_size=9)
    second = take(tree, cache, preprocess)
    assert second.fingerprint != first.fingerprint
    assert datasets(cache) == sorted([first.fingerprint, second.fingerprint])


def test_problems_are_kept_and_go_with_the_listing(tree, cache):
    clean = take(tree, cache)
    broken = tree / "train" / "sad" / "broken.png"
    broken.write_bytes(b"no image")
    (tree / "train" / "sad" / "notes.txt").write_text("x")
    for _ in range(2):  # made, then found
        records = take(tree, cache)
        assert sorted(records.problems) == [
            ("train/sad/broken.png", "not an image"),
            ("train/sad/notes.txt", "not an image file (.txt)"),
        ]
    # What is not usable is no part of the content, so it is the same dataset all the while.
    assert records.fingerprint == clean.fingerprint
    broken.unlink()
    assert [problem.path for problem in take(tree, cache).problems] == ["train/sad/notes.txt"]


def test_a_bare_split_is_kept_under_the_name_it_is_asked_for_by(tree, cache):
    classes = ("sad", "happy")
    for name in ("test", "train", "test"):
        listing = folder.list_split(tree / "test", name, classes)
        records = ingest.ingest(listing, EIGHT, cache)
        assert list(records.splits) == [name]
        assert records.splits[name]["labels"] == [1, 1, 0, 0]
        assert len(pixels(records, name)) == 4


def test_a_split_of_any_name(tree, cache):
    (tree / "test").rename(tree / "Öffentlicher Test-1")
    records = take(tree, cache)
    assert len(pixels(records, "Öffentlicher Test-1")) == 4


def test_a_split_with_nothing_readable_is_refused_by_name(tree, cache):
    for path in (tree / "test").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"None of the 4 images in the test split of .*faces"):
        take(tree, cache)
    assert os.listdir(cache / "temporary") == []


def test_one_class_left_is_refused(tree, cache):
    for path in (tree / "train" / "sad").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"Only 1 class of .*readable images \(happy\)"):
        take(tree, cache)
    assert datasets(cache) == []


@pytest.mark.parametrize("damage", ["records", "records gone", "index", "index gone", "listing"])
def test_a_damaged_dataset_is_made_again(tree, cache, damage):
    first = take(tree, cache)
    if damage.startswith("records"):
        (path,) = first.directory.glob("*train.array_record*")
    elif damage.startswith("index"):
        path = first.directory / "index.json"
    else:
        (path,) = (cache / "listings").iterdir()
    if damage.endswith("gone"):
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = take(tree, cache)
    assert again == first
    assert_whole(again, tree)


@pytest.mark.parametrize("obstacle", ["a file", "a full disk"])
def test_a_cache_that_cannot_be_written_is_one_sentence(tree, cache, monkeypatch, obstacle):
    if obstacle == "a file":
        cache.write_text("in the way")
    else:

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "write_text_atomic", fail)
    with pytest.raises(UserError, match=r"^Cannot write the data cache .*EMOTION_JAX_CACHE"):
        take(tree, cache)


PROGRAM = """
import os, resource, signal, sys
from importlib.machinery import PathFinder
from pathlib import Path

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: (
    None if name.partition(".")[0] == "tensorflow" else find(name, *more)
)
from emotion_jax import files
from emotion_jax.data import folder, ingest
from emotion_jax.data.preprocess import Preprocess
from emotion_jax.errors import UserError

root, cache, when = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), 9)

if when == "reading":
    read = folder.read
    def reading(*args):
        for i, result in enumerate(read(*args)):
            if i == 3:
                die()
            yield result
    folder.read = reading
elif when == "renaming":
    Path.rename = die
elif when == "pointing":
    write = files.write_text_atomic
    files.write_text_atomic = lambda path, text: (
        die() if path.parent.name == "listings" else write(path, text)
    )
elif when == "disk full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    records = ingest.ingest(folder.list_tree(Path(root)), Preprocess(image_size=8), Path(cache))
    print(records.fingerprint, len(records.source("train")))
except UserError as error:
    print(error)
"""


def start(tree, cache, when=""):
    arguments = [sys.executable, "-c", PROGRAM, str(tree), str(cache), when]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_without_tensorflow_make_one_dataset(tree, cache):
    processes = [start(tree, cache) for _ in range(2)]
    said = [process.communicate() for process in processes]
    records = take(tree, cache)
    for out, err in said:
        assert out.splitlines()[-1:] == [f"{records.fingerprint} 10"], err
    assert datasets(cache) == [records.fingerprint]
    assert_whole(records, tree)


@pytest.mark.parametrize("when", ["reading", "renaming", "pointing"])
def test_killed_at_any_moment_the_next_call_makes_it_good(tree, cache, when):
    process = start(tree, cache, when)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    assert not any((cache / "listings").iterdir())
    records = take(tree, cache)
    assert_whole(records, tree)
    assert datasets(cache) == [records.fingerprint]
    assert os.listdir(cache / "temporary") == []
    (listing,) = (cache / "listings").iterdir()
    assert json.loads(listing.read_text())["dataset"] == records.fingerprint


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
def test_a_disk_that_fills_up_is_one_sentence(tree, cache):
    out, err = start(tree, cache, "disk full").communicate()
    assert out.startswith(f"Cannot write the data cache {cache}: "), err
    assert "write() failed" in out
    assert os.listdir(cache / "temporary") == []


def test_what_the_disk_kept_from_it_is_tried_again(tree, tmp_path, monkeypatch):
    read_bytes = Path.read_bytes

    def fail(path):
        if path == tree / "train/sad/1.png":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        for _ in range(2):
            records = take(tree, tmp_path / "cache")
            problem = ("train/sad/1.png", "unreadable (Permission denied)")
            assert [tuple(p) for p in records.problems] == [problem]
            assert len(records.splits["train"]["paths"]) == 9
    # Permissions are given back without a change of the file's time.
    records = take(tree, tmp_path / "cache")
    assert records.problems == ()
    assert "train/sad/1.png" in records.splits["train"]["paths"]
